"""What Coinbase's REST routes tell of a product of US futures."""

from __future__ import annotations

import msgspec


class Future(msgspec.Struct):
    """What a product of US futures says beside."""

    contract_root_unit: str
    contract_size: str
    contract_expiry: str | None = None
    funding_interval: str | None = None
    funding_rate: str | None = None
    funding_time: str | None = None
    open_interest: str | None = None

    def interval(self) -> int | None:
        """Seconds between two settlements, of `3600s`."""
        text = (self.funding_interval or "").removesuffix("s")
        return int(text) if text.isascii() and text.isdigit() and 0 < len(text) <= 6 and int(text) > 0 else None
