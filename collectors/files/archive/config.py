"""Configuration of archives: where their files are had from, and how much of them is taken.

Composed into the daemon's configuration; the descriptions below are its user documentation. Names carry their unit.
"""

from __future__ import annotations

import ipaddress
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, field_validator

from collectors.files.archive import series
from collectors.files.archive.zips import Caps

_GB = 1024**3


class Mirror(BaseModel):
    """Another host with an archive's own paths."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    base: str = Field(description="Its base address.")
    listing: str | None = Field(
        default=None,
        description="Where its folders are listed, as the archive lists its own; null: each date is asked for.",
    )

    @field_validator("base", "listing")
    @classmethod
    def _secure(cls, value: str | None) -> str | None:
        if value is not None:
            check_address(value)
        return value


class ArchivesConfig(BaseModel):
    """Where `dl archive` has files from. Only known hosts are asked, over https, and none is followed elsewhere."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    mirrors: dict[str, Mirror] = Field(
        default={},
        description="Venue -> a mirror of its archive (`base`, `listing`), used in place of its own address.",
    )
    hosts: list[str] = Field(
        default=[],
        description="Hosts that `--source` may name, beside the archives' own and those of `mirrors`. An address"
        " elsewhere and every redirect are refused.",
    )
    parallel: int = Field(default=4, ge=1, le=16, description="Files that are fetched at once.")
    keep: bool = Field(
        default=False, description="Keep the files below `archives/` in the lake once their rows are taken in."
    )
    max_gb: float = Field(default=16, gt=0, le=1000, description="A larger file is refused.")
    max_unpacked_gb: float = Field(default=64, gt=0, le=4000, description="A file that unpacks to more is refused.")

    @field_validator("mirrors")
    @classmethod
    def _known(cls, value: dict[str, Mirror]) -> dict[str, Mirror]:
        if unknown := sorted(value.keys() - set(series.names())):
            raise ValueError(f"no archive of {', '.join(unknown)} is read: there are {', '.join(series.names())}")
        return value

    def place(self, exchange: str) -> Mirror:
        """Where files of a venue are had from, unless somebody says otherwise. Raises WrongQuestion."""
        own = series.load(exchange)
        return self.mirrors.get(exchange) or Mirror(base=own.base, listing=own.listing)

    def allowed(self, exchange: str) -> list[str]:
        """Hosts that may be asked for files of a venue. Raises WrongQuestion."""
        own, mirror = series.load(exchange), self.place(exchange)
        addresses = filter(
            None, (own.base, own.listing, mirror.base, mirror.listing, *(one.base for one in own.datasets))
        )
        return [*dict.fromkeys([*(urlsplit(each).netloc for each in addresses), *self.hosts])]

    @property
    def caps(self) -> Caps:
        return Caps(packed=int(self.max_gb * _GB), unpacked=int(self.max_unpacked_gb * _GB))


def check_address(value: str) -> None:
    """Raises ValueError for what is no https:// address; on this machine http:// will do."""
    parts = urlsplit(value)
    if "@" in parts.netloc:
        raise ValueError("an address with a user or password is refused: public data need none")
    if parts.query or parts.fragment or not parts.hostname:
        raise ValueError(f"{value!r} is no base address")
    if parts.scheme != "https" and not (parts.scheme == "http" and _here(parts.hostname)):
        raise ValueError(f"{value!r} is no https:// address")


def _here(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
