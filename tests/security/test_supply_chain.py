"""What is installed: pinned by hash, few, named in a bill of materials, above the floors of known holes."""

from __future__ import annotations

import json
import re
import tomllib
from importlib import metadata
from pathlib import Path

import pytest

from scripts import sbom
from tests.support.commands import ROOT, run

LOCKS = ("requirements.txt", "requirements-dev.txt")
MOST = 61
"""Packages of a run, over all platforms. One more is one more to trust: SECURITY.md says how many and why."""
FLOORS = {"aiohttp": (3, 13, 4), "zstandard": (0, 25), "pyyaml": (6, 0, 3)}
"""CVE-2026-22815 of aiohttp; the others have had fixes for hostile input at these."""


def lock(name: str) -> list[dict[str, object]]:
    return sbom.pins((ROOT / name).read_text(encoding="utf-8"))


def version(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", text)[:3])


@pytest.mark.parametrize("name", LOCKS)
def test_every_requirement_is_one_version_with_the_hashes_of_its_files(name: str) -> None:
    pins = lock(name)
    assert len({(pin["name"], pin["marker"]) for pin in pins}) == len(pins)
    for pin in pins:
        assert re.fullmatch(r"[0-9][A-Za-z0-9.+!-]*", str(pin["version"])), pin["name"]
        assert pin["hashes"], pin["name"]
    text = (ROOT / name).read_text(encoding="utf-8")
    assert not re.search(r"://|@ |--index|--extra|--find-links|--trusted|-e |\bgit\+", text)
    kinds = {line.strip().removesuffix("\\").strip()[:7] for line in text.splitlines() if line.startswith(" ")}
    assert kinds == {"--hash="}


def test_what_tests_add_pins_the_same_versions() -> None:
    used = {pin["name"]: (pin["version"], pin["hashes"]) for pin in lock("requirements.txt")}
    dev = [(pin["name"], (pin["version"], pin["hashes"])) for pin in lock("requirements-dev.txt")]
    assert [name for name, pin in used.items() if (name, pin) not in dev] == []


def test_what_is_declared_is_locked_and_nothing_is_installed_beside_it() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    declared = {re.split(r"[<>=;\[ ]", one, maxsplit=1)[0].lower() for one in project["dependencies"]}
    assert declared <= {pin["name"] for pin in lock("requirements.txt")}


def test_no_package_comes_in_unseen() -> None:
    assert len(lock("requirements.txt")) <= MOST
    page = (ROOT / "SECURITY.md").read_text(encoding="utf-8")
    assert f"{len(lock('requirements.txt'))} packages" in page


@pytest.mark.parametrize("name", sorted(FLOORS))
def test_locked_and_declared_and_installed_are_beyond_known_holes(name: str) -> None:
    (pin,) = (pin for pin in lock("requirements.txt") if pin["name"] == name)
    assert version(str(pin["version"])) >= FLOORS[name]
    assert version(metadata.version(name)) >= FLOORS[name]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    (declared,) = (one for one in project["dependencies"] if re.match(rf"{name}\b", one))
    assert version(declared.split("=")[1]) >= FLOORS[name]


def recipe(target: str) -> str:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    return re.split(rf"^{re.escape(target)}:", makefile, flags=re.MULTILINE)[1].split("\n\n")[0]


def test_installing_demands_the_hashes_everywhere_it_is_told() -> None:
    installing = recipe("$(STAMP)")
    assert "--require-hashes -r requirements-dev.txt" in installing
    assert "--no-deps --no-build-isolation -e ." in installing, "nothing is fetched for the product itself"
    for page in (ROOT / "README.md", ROOT / "deploy/systemd/README.md"):
        for line in page.read_text(encoding="utf-8").splitlines():
            if "pip install" in line and "-r requirements" in line:
                assert "--require-hashes" in line, page.name
    for path in [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("deploy/**/*"), ROOT / "Makefile"]:
        if path.is_file():
            assert not re.search(r"curl[^\n|]*\|\s*(?:sudo )?(?:ba)?sh", path.read_text(encoding="utf-8")), path


def test_known_holes_are_looked_for_with_the_hashes_demanded() -> None:
    told = recipe("audit")
    for name in LOCKS:
        assert f"pip-audit --strict --require-hashes --disable-pip -r {name}" in told
    assert re.search(r"pip-audit==\d", told)
    assert "make audit" in (ROOT / "SECURITY.md").read_text(encoding="utf-8")


def test_the_bill_of_materials_names_everything_that_is_locked(tmp_path: Path) -> None:
    out = tmp_path / "sbom.json"
    assert sbom.main(["--out", str(out)]) == 0
    made = json.loads(out.read_text())
    assert (made["bomFormat"], made["specVersion"]) == ("CycloneDX", "1.6")
    named = {(one["name"], one["version"], one["purl"]) for one in made["components"]}
    assert named == {
        (pin["name"], pin["version"], f"pkg:pypi/{pin['name']}@{pin['version']}") for pin in lock("requirements.txt")
    }
    assert len({one["bom-ref"] for one in made["components"]}) == len(named)
    hashes = sum(one["name"] == "lock:sha256" for component in made["components"] for one in component["properties"])
    assert hashes == (ROOT / "requirements.txt").read_text().count("--hash=sha256:")
    assert run("scripts/sbom.py").stdout == out.read_text(), "the same lock gives the same bytes"
    assert "scripts/sbom.py" in recipe("sbom")


@pytest.mark.parametrize(
    "text",
    ["aiohttp>=3 \\\n    --hash=sha256:" + "a" * 64, "aiohttp==3.14.5", "-e .", "aiohttp==3 \\\n    --hash=md5:aa"],
)
def test_a_lock_that_pins_nothing_makes_no_bill(tmp_path: Path, text: str) -> None:
    (tmp_path / "lock").write_text(text)
    assert sbom.main(["--lock", str(tmp_path / "lock")]) == 1
