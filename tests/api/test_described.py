"""What is described is what is done: schemathesis asks every route of the description, in process."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings

from api import tokens
from api.app import create
from api.config import ServeConfig
from api.state import Served
from runtime.clock import SystemClock

HOST = "127.0.0.1:8572"
CHECKS = [
    schemathesis.checks.not_a_server_error,
    schemathesis.checks.status_code_conformance,
    schemathesis.checks.content_type_conformance,
    schemathesis.checks.response_headers_conformance,
    schemathesis.checks.response_schema_conformance,
    schemathesis.checks.negative_data_rejection,
]
"""Not: that everything of the right shape is taken; a word may have the shape of a kind and be none."""


@pytest.fixture
def asked(lake: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    async def silent(*_: Any) -> Any:
        return [], "nobody answers"

    monkeypatch.setattr("api.routes.venues._told", silent)  # no venue is asked
    held = Served(lake, ServeConfig(reads_at_once=8), SystemClock())
    yield held
    held.close()


@pytest.fixture
def token(lake: Path) -> Any:
    """Of scope admin: what changes something is asked too, and there is no daemon that does it."""
    yield tokens.make(lake, "schemathesis", "admin", 0)
    tokens.revoke(lake, "schemathesis")


def ask_everything(served: Served, token: str, examples: int) -> int:
    """So many questions to each operation; how many operations there are."""
    app = create(served, names=("testserver", "localhost"))
    headers = {"Host": HOST, "Authorization": f"Bearer {token}"}
    schema = schemathesis.openapi.from_asgi("/openapi.json", app, headers={"Host": HOST})
    count = 0
    for found in schema.exclude(path="/api/v1/live/tail").get_all_operations():  # which has no end
        operation = found.ok()
        count += 1

        @settings(
            max_examples=examples, deadline=None, database=None, phases=[Phase.explicit, Phase.generate],
            suppress_health_check=list(HealthCheck),
        )  # fmt: skip
        @given(case=operation.as_strategy())
        def ask(case: Any) -> None:
            answer = case.call(headers=headers)
            case.validate_response(answer, checks=CHECKS)

        ask()
    return count


def test_no_question_breaks_the_server_or_gets_an_undocumented_answer(asked: Served, token: str) -> None:
    assert ask_everything(asked, token, 2) > 30


@pytest.mark.slow
def test_thousands_of_questions_do_not_either(asked: Served, token: str) -> None:
    assert ask_everything(asked, token, 300) > 30
