"""docs/reliability.md says what is so: every test that it names exists, every promise and fault is accounted for."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from scripts import figures, gen_reliability

ROOT = Path(__file__).resolve().parents[1]
TOLD = gen_reliability.promises()
PROMISES = {promise["id"]: promise for promise in TOLD["promises"]}
IDS = [*(f"P{n}" for n in range(1, 22)), "P21b", *(f"P{n}" for n in range(22, 33))]

OWN = ("soak", "bench_restart", "prove_backfill", "virtual_soak")
COMMANDS = ("make", "systemd-analyze", *(f"scripts/{name}.py" for name in OWN))


def test_every_promise_and_every_fault_is_there_in_its_order() -> None:
    assert list(PROMISES) == IDS
    assert list(TOLD["faults"]) == [f"F{n:02d}" for n in range(1, 64)]


@pytest.mark.parametrize("name", PROMISES)
def test_a_promise_names_modules_and_tests_that_exist_and_says_what_is_missing(name: str) -> None:
    promise = PROMISES[name]
    assert set(promise) <= {"id", "title", "says", "state", "missing", "mechanism", "tests", "figures"}
    assert promise["state"] in gen_reliability.STATES
    assert (promise["state"] == "kept") == ("missing" not in promise), "only what is not kept has something missing"
    assert promise["mechanism"]
    for path in promise["mechanism"]:
        assert (ROOT / path).is_file(), path
    for pattern, found in gen_reliability.matching(promise["tests"]).items():
        assert found, f"no test is {pattern}"
    assert gen_reliability.promise_tests(promise)
    assert set(promise.get("figures", ())) <= set(TOLD["figures"])


@pytest.mark.parametrize("name", TOLD["faults"])
def test_a_fault_has_tests_or_the_reason_why_it_has_none_yet(name: str) -> None:
    fault = TOLD["faults"][name]
    assert set(fault) <= {"title", "tests", "later"}
    for pattern, found in gen_reliability.matching(fault.get("tests", ())).items():
        assert found, f"no test is {pattern}"
    found = gen_reliability.fault_tests(name, fault.get("tests", ()))
    assert found or fault.get("later"), f"{name} has neither a test nor a reason"
    assert not (found and "later" in fault), f"{name} has tests now: take its `later` out of scripts/promises.toml"


def test_no_test_is_of_a_fault_or_promise_that_nobody_knows() -> None:
    for node in gen_reliability.nodes():
        assert set(gen_reliability.faults_of(node)) <= set(TOLD["faults"]), node
        assert set(gen_reliability.promises_of(node)) <= set(PROMISES), node


def test_every_figure_is_one_that_is_asked_for_and_says_how_when_and_where() -> None:
    found = json.loads(figures.FILE.read_text(encoding="utf-8"))
    assert [entry["figure"] for entry in found] == sorted({entry["figure"] for entry in found})
    for entry in found:
        assert tuple(entry) == figures.FIELDS
        assert entry["figure"] in TOLD["figures"], entry["figure"]
        assert isinstance(entry["value"], int | float)
        assert re.fullmatch(r"20\d\d-\d\d-\d\d", entry["date"])
        assert entry["command"].split()[0] in COMMANDS, entry["command"]
        assert entry["machine"]
        assert entry["unit"]
    for name, asked in TOLD["figures"].items():
        assert set(asked) == {"demand", "command"}, name


def test_a_figure_is_written_with_its_circumstances(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(figures, "FILE", tmp_path / "figures.json")
    figures.record({"mutants caught": (3, "mutants")}, "make test-faults")
    assert figures.main(["power-cut states", "20000", "states", "--command", "make test-faults"]) == 0
    assert figures.main(["mutants caught", "4", "mutants", "--command", "make test-faults"]) == 0
    held = figures.held()
    assert {name: entry["value"] for name, entry in held.items()} == {"mutants caught": 4, "power-cut states": 20_000}
    assert "cores" in str(held["mutants caught"]["machine"])
    assert figures.main(["invented", "1", "x", "--command", "make"]) == 1


def test_what_bursts_and_restarts_show_is_written_where_they_kept_their_promises(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(figures, "FILE", tmp_path / "figures.json")
    seen = {
        "rate": 60_000, "frames": 600_000, "seconds": 12.0, "queue_mb": 3.5, "shed": 0, "cores": 0.9,
        "durable_lag_p99_seconds": 0.51, "loop_delay_most_seconds": 0.2,
    }  # fmt: skip
    figures.of_burst({"measured": seen, "violations": ["a trade is not stored"]}, "make burst")
    assert figures.held() == {}
    figures.of_burst({"measured": seen, "violations": []}, "make burst")
    burst = {"frames of a burst": 600_000, "queues in a burst": 3.5, "quotes shed in a burst": 0}
    assert {name: entry["value"] for name, entry in figures.held().items()} == burst
    figures.of_burst({"measured": seen | {"rate": 20_000, "frames": 240_000}, "violations": []}, "scripts/soak.py")
    cores, age = (
        figures.held()[name] for name in ("cores of the daemon under load", "age of what is not yet durable, p99")
    )
    assert (cores["value"], cores["unit"]) == (0.9, "cores at 20,000 events a second, 0 shed")
    assert (age["value"], age["unit"]) == (510, "ms at 20,000 events a second")
    stops = {"stops": 50, "slowest_seconds": 1.5, "lost": ["2 crash gaps"]}
    figures.of_restart({"stops": stops}, "scripts/bench_restart.py")
    assert "slowest clean stop" not in figures.held()
    started = {"first_frame_seconds": 2.5, "refused_seconds": 0.5}
    found = {
        "many_files": {"files": 2000, **started},
        "unsealed": {"bytes": 2**30, **started},
        "stops": stops | {"lost": []},
    }
    figures.of_restart(found, "scripts/bench_restart.py")
    assert figures.held()["slowest clean stop"]["unit"] == "s of 50 stops, nothing lost"
    assert figures.held()["first frame over unsealed segments"]["unit"] == "s over 1.07 GB"


def test_the_tests_of_a_fault_are_found_by_their_names() -> None:
    assert gen_reliability.faults_of("tests/faults/test_x.py::test_f21_f22_what_happens") == ["F21", "F22"]
    assert gen_reliability.faults_of("tests/x.py::test_of_f21_files") == []
    assert gen_reliability.promises_of("tests/x.py::test_p29_after_three") == ["P29"]
    assert gen_reliability.fault_tests("F21")
    assert all("_f21_" in node for node in gen_reliability.fault_tests("F21"))


def test_the_page_shows_every_promise_fault_and_figure() -> None:
    page = gen_reliability.page()
    for name, promise in PROMISES.items():
        assert f"### {name} {promise['title']}: {promise['state']}" in page
    for name in TOLD["faults"]:
        assert re.search(rf"^\| {name} \| .+ \| .+ \|$", page, re.MULTILINE), name
    for name in TOLD["figures"]:
        assert re.search(rf"^\| {re.escape(name)} \| ", page, re.MULTILINE), name


def test_a_figure_names_its_command_without_where_somebody_kept_the_files():
    given = ["--minutes", "10", "--out", "/somewhere/else", "--judge", "--place", "/tmp", "--out=there", "--record"]
    assert figures.command("scripts/soak.py", given) == "scripts/soak.py --minutes 10 --place /tmp"
    assert not [entry["command"] for entry in figures.held().values() if "--out" in str(entry["command"])]
