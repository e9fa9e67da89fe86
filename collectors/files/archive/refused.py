"""Why a file is not taken: always its name, the rule it breaks, and what to do about it."""

from __future__ import annotations

from lake.errors import LakeError


class Refused(LakeError):
    """A file that is not what its publisher says it is, or that cannot be had. Nothing of it is in the lake.

    `rule` is one word: address, checksum, zip, size, columns, header, unit, period, ids, order, value, missing,
    changed, held, lake; gz of what gzip packed.
    """

    def __init__(self, name: str, rule: str, what: str, fix: str) -> None:
        super().__init__(f"{name}: {rule}: {what}", fix)
        self.name = name
        self.rule = rule
        self.what = what
        self.fix = fix

    def __reduce__(self) -> tuple[type[Refused], tuple[str, str, str, str]]:
        return Refused, (self.name, self.rule, self.what, self.fix)  # it comes out of worker processes too
