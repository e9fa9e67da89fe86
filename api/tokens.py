"""Tokens: who may ask the API from other machines, and who may have it change anything.

A token has 256 bits and is shown once, when it is made; `tokens.json` in the lake (0600) holds its SHA-256, its name,
its scope and when it ends. `read` may ask, `admin` may also change. What is removed from the file ends at once.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import re
import secrets
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, TypeAlias

import msgspec

from lake import durable
from lake.errors import LakeError, WrongQuestion

Scope: TypeAlias = Literal["read", "admin"]
FILE = "tokens.json"
MOST = 1000
"""Tokens of one lake."""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


class BadTokens(LakeError):
    """tokens.json is not what `dl token` wrote, or is asked for something impossible."""


class Token(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One token, but for the token itself. Times us."""

    name: str
    scope: Scope
    sha256: str
    made_at: int
    ends_at: int | None = None


def hashed(token: str) -> str:
    """What is kept of a token: with 256 random bits no salt and no slow hash is needed."""
    return hashlib.sha256(token.encode(errors="surrogateescape")).hexdigest()


def load(root: Path) -> list[Token]:
    """The tokens of a lake; none where there is no file. Raises BadTokens."""
    try:
        data = (root / FILE).read_bytes()
    except FileNotFoundError:
        return []
    except OSError as error:
        raise BadTokens(f"{root / FILE} cannot be read: {error.strerror}", "it belongs to who made it") from error
    try:
        return msgspec.json.decode(data, type=list[Token])
    except msgspec.MsgspecError as error:
        raise BadTokens(f"{root / FILE} is damaged: {error}", "remove it, and make the tokens again") from error


def make(root: Path, name: str, scope: Scope, now: int, ends_at: int | None = None) -> str:
    """A new token, written down; the only time that it is known. Raises WrongQuestion (what is no name), BadTokens
    (one that is taken).
    """
    held = load(root)
    if not _NAME.fullmatch(name):
        raise WrongQuestion(f"{name!r} is no name of a token", "use up to 64 letters, digits, dots, - and _")
    if any(one.name == name for one in held):
        raise BadTokens(f"there is a token {name!r}", "choose another name, or revoke that one first")
    if len(held) >= MOST:
        raise BadTokens(f"there are {MOST} tokens", "revoke some")
    token = secrets.token_urlsafe(32)
    _write(root, [*held, Token(name, scope, hashed(token), now, ends_at)])
    return token


def revoke(root: Path, name: str) -> bool:
    """End a token; whether there was one of that name. Raises BadTokens."""
    held = load(root)
    left = [one for one in held if one.name != name]
    if len(left) != len(held):
        _write(root, left)
    return len(left) != len(held)


def _write(root: Path, tokens: Sequence[Token]) -> None:
    before = os.umask(0o077)
    try:
        durable.write_file(root / FILE, msgspec.json.format(msgspec.json.encode(tokens), indent=2) + b"\n")
    finally:
        os.umask(before)


class Tokens:
    """The tokens of a lake as they are now: the file is read again when it changes."""

    def __init__(self, root: Path) -> None:
        self._path = root
        self._seen: tuple[int, int, int] | None = None
        self._held: list[Token] = []

    def scope_of(self, given: str, now: int) -> Scope | None:
        """What `given` may do, None where it is no token or one that has ended. Raises BadTokens."""
        self._look()
        digest, found = hashed(given), None
        for one in self._held:  # all of them, in equal time
            if hmac.compare_digest(one.sha256, digest):
                found = one
        return None if found is None or (found.ends_at is not None and found.ends_at <= now) else found.scope

    def __bool__(self) -> bool:
        self._look()
        return bool(self._held)

    def _look(self) -> None:
        try:
            stat = (self._path / FILE).stat()
        except OSError:
            self._seen, self._held = None, []
            return
        seen = (stat.st_ino, stat.st_mtime_ns, stat.st_size)
        if seen != self._seen:
            self._held = load(self._path)
            self._seen = seen
