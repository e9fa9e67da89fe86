"""Configuration of archives: where their files are had from, and how much of them is taken.

Composed into the daemon's configuration; the descriptions below are its user documentation. Names carry their unit.
"""

from __future__ import annotations

import ipaddress
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from collectors.files.archive import vision
from collectors.files.archive.zips import Caps

_GB = 1024**3


class ArchivesConfig(BaseModel):
    """Where `dl archive` has files from. Only these hosts are asked, over https, and none is followed elsewhere."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    base: str = Field(
        default=vision.BASE, description="Base address of Binance's archive, or of a mirror with the same paths."
    )
    listing: str | None = Field(
        default=vision.LISTING,
        description="Where its folders are listed (S3 XML); null for a mirror that lists none: then every file that the"
        " archive should have is asked for.",
    )
    hosts: list[str] = Field(
        default=[urlsplit(vision.BASE).netloc, urlsplit(vision.LISTING).netloc],
        description="Hosts that may be asked; an address elsewhere and every redirect are refused.",
    )
    parallel: int = Field(default=4, ge=1, le=16, description="Files that are fetched at once.")
    keep: bool = Field(
        default=False, description="Keep the zips below `archives/` in the lake once their rows are taken in."
    )
    max_gb: float = Field(default=16, gt=0, le=1000, description="A larger zip is refused.")
    max_unpacked_gb: float = Field(default=64, gt=0, le=4000, description="A file that unpacks to more is refused.")

    @field_validator("base", "listing")
    @classmethod
    def _secure(cls, value: str | None) -> str | None:
        if value is not None:
            check_address(value)
        return value

    @model_validator(mode="after")
    def _listed(self) -> ArchivesConfig:
        for address in filter(None, (self.base, self.listing)):
            if urlsplit(address).netloc not in self.hosts:
                raise ValueError(f"{urlsplit(address).netloc} of {address!r} is not in `hosts`")
        return self

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
