"""What no log, page or message may repeat: the user and password of an address, tokens, keys in a query.

Public data need no secret, so the product has none but the control port's token. But a proxy of the environment may
have a password, and what libraries say of a failure quotes the address that they were given.
"""

from __future__ import annotations

import re

HIDDEN = "***"
_USERINFO = re.compile(r"([a-zA-Z][a-zA-Z0-9+.-]*://)[^\s/?#'\"<>]*@")
"""Everything up to the last @ before the path: a password may hold one."""
_BEARER = re.compile(r"\b(bearer|basic)\s+[A-Za-z0-9._~+/=-]{8,}", re.IGNORECASE)
_NAMED = re.compile(
    r"\b([a-z0-9_-]*(?:api[_-]?key|secret|signature|passphrase|password|passwd|access[_-]?token|auth[_-]?token))"
    r"(\\?[\"']?\s*[=:]\s*\\?[\"']?)[^\s&;,\\\"'}\])]+",
    re.IGNORECASE,
)


def redacted(text: str) -> str:
    """`text` without what it may not tell; anything else stays as it is."""
    if "://" in text:
        text = _USERINFO.sub(rf"\1{HIDDEN}@", text)
    text = _BEARER.sub(rf"\1 {HIDDEN}", text)
    return _NAMED.sub(rf"\1\2{HIDDEN}", text)
