"""Addresses to listen on: who can reach them."""

from __future__ import annotations

import ipaddress


def is_loopback(host: str) -> bool:
    """Whether only programs on this machine can reach an address."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def is_number(host: str) -> bool:
    """Whether a host is an address, not a name: what the DNS says of it cannot change."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
