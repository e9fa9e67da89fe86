"""Bodies of HTTP answers: decompressed piece by piece under a cap, and whole or not at all.

aiohttp's own decompression takes a gzip body that ends too early for a whole one; this does not.
"""

from __future__ import annotations

import zlib

_PIECE = 256 * 1024
_GZIP = 16 + zlib.MAX_WBITS
ACCEPTED = "gzip"


class BadBody(Exception):
    """Not usable: too large, torn, or in a form that nobody asked for. The text is a sentence without a subject."""


class Body:
    """One body. `encoding` is its Content-Encoding, `most` the bytes that it may have when decoded."""

    def __init__(self, encoding: str, most: int) -> None:
        coded = encoding.strip().lower()
        if coded not in ("", "identity", "gzip", "x-gzip"):
            raise BadBody(f"came encoded as {encoding[:40]!r}, which was not asked for")
        self._most = most
        self._data = bytearray()
        self._gzip = zlib.decompressobj(_GZIP) if coded.endswith("gzip") else None
        self._began = False

    @property
    def size(self) -> int:
        """Bytes that are decoded so far."""
        return len(self._data)

    def feed(self, chunk: bytes) -> None:
        """The next bytes as they came. Raises BadBody."""
        if self._gzip is None:
            self._take(chunk)
            return
        try:
            while chunk:
                chunk = self._inflate(chunk)
        except zlib.error as error:
            raise BadBody(f"is no gzip: {error}") from error

    def whole(self) -> bytes:
        """All of it. Raises BadBody where its end is missing."""
        if self._gzip is not None and self._began and not self._gzip.eof:
            raise BadBody("ends in the middle of its gzip")
        return bytes(self._data)

    def _inflate(self, chunk: bytes) -> bytes:
        """Decode up to the end of a gzip member; what follows it is returned."""
        assert self._gzip is not None
        if self._gzip.eof:  # a body may be several members
            self._gzip = zlib.decompressobj(_GZIP)
        self._began = True
        while True:
            piece = self._gzip.decompress(chunk, _PIECE)
            self._take(piece)
            chunk = self._gzip.unconsumed_tail
            if self._gzip.eof:
                return self._gzip.unused_data
            if not chunk and len(piece) < _PIECE:
                return b""

    def _take(self, piece: bytes) -> None:
        if len(self._data) + len(piece) > self._most:
            raise BadBody(f"has more than {self._most:,} bytes")
        self._data += piece
