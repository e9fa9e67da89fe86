"""Errors of the lake; each names the thing, the limit and the fix.

LakeError(message, hint)
 +-- NotALake             no manifest where one was expected
 |    +-- LostManifest    data is there, and manifest.db is not: dl rebuild makes it anew
 +-- LakeLocked           another process writes this lake (exit 73)
 +-- LakeMismatch         simulated against real, or a lake of another kind (exit 78)
 +-- UnknownVersion       a manifest, segment or table newer than this program (exit 78)
 +-- WrongQuestion        an option, a column or a query that cannot be answered (exit 2)
 +-- NotHeld              a day, revision or certificate that the lake does not have, or no longer has
 +-- TooMuch              a query that took more time or memory than it may
 +-- ManifestBusy         another program holds the manifest's lock; trying again is the cure
 +-- CommitConflict       what a committer believed is no longer so; planning again is the retry
 +-- Fenced               this writer's epoch is over: another took the lake
 +-- CorruptSegment       a sealed segment that no longer is what its seal says
 +-- CorruptFile          a Parquet file that no longer is what the manifest says
 |    +-- MissingFile     one that is not there
 |    +-- CorruptManifest manifest.db is not what SQLite wrote (exit 74)
 +-- BookUnknown          an order book that the stored rows do not prove at that time
 |    +-- BookCrossed     one whose best bid is not below its best ask
 +-- VerifyFailed         a file that is not what its writer meant; it was never published
 +-- StorageFailed        writing or syncing failed; nothing more is acknowledged
"""


class LakeError(Exception):
    """Root of the lake's errors: a sentence, and what the operator can type next."""

    exit_code = 1

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(f"{message} ({hint})" if hint else message)
        self.message = message
        self.hint = hint


class NotALake(LakeError):
    exit_code = 66


class LostManifest(NotALake):
    pass


class LakeLocked(LakeError):
    exit_code = 73


class LakeMismatch(LakeError):
    exit_code = 78


class UnknownVersion(LakeError):
    exit_code = 78


class WrongQuestion(LakeError):
    exit_code = 2


class NotHeld(LakeError):
    pass


class TooMuch(LakeError):
    pass


class ManifestBusy(LakeError):
    pass


class CommitConflict(LakeError):
    pass


class Fenced(LakeError):
    exit_code = 73


class CorruptSegment(LakeError):
    pass


class CorruptFile(LakeError):
    pass


class MissingFile(CorruptFile):
    pass


class CorruptManifest(CorruptFile):
    exit_code = 74


class BookUnknown(LakeError):
    pass


class BookCrossed(BookUnknown):
    pass


class VerifyFailed(LakeError):
    pass


class StorageFailed(LakeError):
    exit_code = 74
    errno: int | None = None
    """What the operating system said, where it was that."""
