"""A session of Binance that only fetches (`collectors.adapters.asking`). Pure."""

from __future__ import annotations

from collections.abc import Mapping

from collectors.adapters.answers import Failure
from collectors.adapters.asking import PollSession
from collectors.exchanges.binance import answers


class Asking(PollSession):
    """What all of its polls have in common: how an error is told."""

    def _failure(self, status: int, headers: Mapping[str, str], body: bytes, now: int) -> Failure:
        del now
        return answers.failure(status, headers, body)
