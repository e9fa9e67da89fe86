"""Errors of the client; each carries the server's sentence, its word for it, and the status.

ClientError(message, word, status)
 +-- Unreachable      nothing answers at that address
 +-- AnswerBroken     an answer that ended in the middle, or is none of this API's
 +-- WrongQuestion    an unknown kind, column or option, a time that is none (400, 413, 414, 422)
 +-- Denied           no token, a wrong one, one that may not do it, a server of another name (401, 403, 421)
 +-- NotFound         no such dataset, day, job; a book that is not proven (404, 405)
 +-- Conflict         no daemon, or one that does not take it (409)
 +-- ServerBusy       too much at once: asked again by itself, and this is the end of that (429, 503)
 +-- ServerFailed     something of the lake is damaged, or a defect of the server (500)
"""

from __future__ import annotations


class ClientError(Exception):
    """Root of the client's errors. `word` is the server's, "" where it said nothing; `status` 0 likewise."""

    def __init__(self, message: str, word: str = "", status: int = 0) -> None:
        super().__init__(message)
        self.word = word
        self.status = status
        self.retry_after: str | None = None
        """Seconds that the server asks to wait, as it says them."""


class Unreachable(ClientError):
    pass


class AnswerBroken(ClientError):
    pass


class WrongQuestion(ClientError):
    pass


class Denied(ClientError):
    pass


class NotFound(ClientError):
    pass


class Conflict(ClientError):
    pass


class ServerBusy(ClientError):
    pass


class ServerFailed(ClientError):
    pass


_KINDS: dict[int, type[ClientError]] = {
    400: WrongQuestion, 401: Denied, 403: Denied, 404: NotFound, 405: NotFound, 409: Conflict, 413: WrongQuestion,
    414: WrongQuestion, 421: Denied, 422: WrongQuestion, 429: ServerBusy, 503: ServerBusy,
}  # fmt: skip


def kind_of(status: int) -> type[ClientError]:
    """The error of a status that is none of success."""
    return _KINDS.get(status, ServerFailed)
