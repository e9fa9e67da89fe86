"""One request as plain values, and the file that may be sent with it, read while it goes."""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Mapping
from os import PathLike
from pathlib import Path

import msgspec

from client.errors import ClientError

PIECE = 1024 * 1024


class Form(msgspec.Struct, frozen=True):
    """A file and fields, as a form sends them: `pieces` begins anew each time."""

    path: Path
    head: bytes
    tail: bytes
    media: str
    length: int

    def pieces(self) -> Iterator[bytes]:
        yield self.head
        with self.path.open("rb") as file:
            while piece := file.read(PIECE):
                yield piece
        yield self.tail


class Request(msgspec.Struct, frozen=True):
    """One request: `target` is path and question, `body` JSON or a `form`; `also` are further statuses of success."""

    method: str
    target: str
    body: bytes = b""
    form: Form | None = None
    headers: tuple[tuple[str, str], ...] = ()
    also: tuple[int, ...] = ()

    def said(self) -> dict[str, str]:
        """The headers that it has beside those of every request."""
        if self.form is not None:
            return {"Content-Type": self.form.media, "Content-Length": str(self.form.length), **dict(self.headers)}
        return dict(self.headers) | ({"Content-Type": "application/json"} if self.body else {})

    def done(self, status: int) -> bool:
        """Whether an answer of that status is one of success."""
        return 200 <= status < 300 or status in self.also


def form(file: str | Path, fields: Mapping[str, str]) -> Form:
    """A form of fields and a file. Raises ClientError: no such file, a field that cannot be said."""
    if not isinstance(file, str | PathLike):
        raise ClientError(f"file={file!r} is no path of a file")
    where = Path(file)
    try:
        with where.open("rb") as held:
            size = held.seek(0, 2)
    except (OSError, ValueError) as error:
        raise ClientError(f"{where} cannot be read: {getattr(error, 'strerror', None) or error}") from error
    border = secrets.token_hex(16)
    begin = f"--{border}\r\nContent-Disposition: form-data; name="
    head = "".join(f'{begin}"{name}"\r\n\r\n{text}\r\n' for name, text in fields.items())
    named = "".join(char if char.isprintable() and char not in '"\\' else "_" for char in where.name)
    opening = f'{begin}"file"; filename="{named}"\r\nContent-Type: application/octet-stream\r\n\r\n'
    first, last = (head + opening).encode(), f"\r\n--{border}--\r\n".encode()
    media = f"multipart/form-data; boundary={border}"
    return Form(where, first, last, media, len(first) + size + len(last))
