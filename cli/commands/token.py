"""`dl token`: who may ask the REST API from other machines, and who may have it change anything."""

from __future__ import annotations

import enum
from typing import Annotated

import typer

from cli.output import ERR, OUT, print_json, print_table, when
from cli.places import ConfigOption, JsonOption, LakeOption, UsageError, command, lake_root


class Scopes(enum.Enum):
    """What a token may do."""

    READ = "read"
    ADMIN = "admin"


@command
def token(
    name: Annotated[str | None, typer.Argument(help="A name for it; without one the tokens are listed.")] = None,
    lake: LakeOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
    scope: Annotated[Scopes, typer.Option(help="read may ask; admin may also change something.")] = Scopes.READ,
    days: Annotated[int | None, typer.Option(min=1, max=36_500, help="It ends after so many days.")] = None,
    revoke: Annotated[bool, typer.Option("--revoke", help="End the token of that name, at once.")] = False,
) -> int:
    """Make a token for the REST API, list them, or end one. A token is shown once: the lake keeps its SHA-256 only.

    Exit code 1 where --revoke finds no such token.
    """
    from api import tokens
    from market.times import DAY
    from runtime.clock import SystemClock

    root = lake_root(lake, config)
    now = SystemClock().now()
    if name is None:
        if revoke:
            raise UsageError("--revoke ends a token by its name", "name it: dl token NAME --revoke")
        held = tokens.load(root)
        if as_json:
            print_json([{"name": t.name, "scope": t.scope, "made_at": t.made_at, "ends_at": t.ends_at} for t in held])
        else:
            rows = [(t.name, t.scope, when(t.made_at), when(t.ends_at)) for t in held]
            print_table("", ("name", "scope", "made", "ends"), rows, "there are no tokens; dl token NAME makes one")
        return 0
    if revoke:
        gone = tokens.revoke(root, name)
        if as_json:
            print_json({"name": name, "revoked": gone})
        else:
            OUT.print(f"{name} is no token any more" if gone else f"there is no token {name}", markup=False)
        return 0 if gone else 1
    made = tokens.make(root, name, scope.value, now, None if days is None else now + days * DAY)
    if as_json:
        print_json({"name": name, "scope": scope.value, "token": made})
        return 0
    ERR.print(f"{name} ({scope.value}); it is not shown again. Send it as: Authorization: Bearer <token>", markup=False)
    OUT.print(made, markup=False)
    return 0
