"""The software bill of materials (CycloneDX 1.6, JSON) of a lock file: what is installed, pinned to which hashes.

    python scripts/sbom.py [--lock requirements.txt] [--out FILE]

It asks nobody and holds no time, so the same lock gives the same bytes. Exit code 0, or 1 for a lock with a line that
is no pinned requirement with hashes.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import sys
import tomllib
import uuid
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
_PIN = re.compile(r"(?P<name>[a-z0-9][a-z0-9._-]*)==(?P<version>[^\s;\\]+)(?:\s*;\s*(?P<marker>[^\\]+?))?\s*\\?")
_HASH = re.compile(r"--hash=sha256:([0-9a-f]{64})")


class BadLock(Exception):
    """A line of the lock that pins nothing."""


def pins(text: str) -> list[dict[str, Any]]:
    """Name, version, marker and hashes of each requirement. Raises BadLock."""
    found = []
    for entry in re.split(r"\n(?=\S)", text.strip()):
        first, _, rest = entry.partition("\n")
        match = _PIN.fullmatch(first.strip())
        hashes = _HASH.findall(rest)
        if match is None or not hashes:
            raise BadLock(f"no pinned requirement with hashes: {first[:120]!r}")
        found.append({**match.groupdict(), "hashes": hashes})
    return found


def bill(lock: Path) -> dict[str, Any]:
    """The document."""
    text = lock.read_text(encoding="utf-8")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    digest = hashlib.sha256(text.encode()).hexdigest()
    me = {"type": "application", "name": project["name"], "version": project["version"], "bom-ref": project["name"]}
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_OID, digest)}",
        "version": 1,
        "metadata": {"component": {**me, "licenses": [{"license": {"id": project["license"]}}]}},
        "components": [_component(pin) for pin in pins(text)],
    }


def _component(pin: dict[str, Any]) -> dict[str, Any]:
    purl = f"pkg:pypi/{pin['name']}@{pin['version']}"
    facts = [{"name": "lock:sha256", "value": value} for value in pin["hashes"]]
    if pin["marker"]:
        facts.append({"name": "lock:marker", "value": pin["marker"]})
    named = {"type": "library", "bom-ref": purl, "name": pin["name"], "version": pin["version"], "purl": purl}
    return {**named, "properties": facts}


def main(given: list[str] | None = None) -> int:
    """The exit code."""
    parser = argparse.ArgumentParser("sbom.py", description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--lock", type=Path, default=ROOT / "requirements.txt")
    parser.add_argument("--out", type=Path, help="default: the console")
    options = parser.parse_args(given)
    try:
        made = json.dumps(bill(options.lock), indent=1) + "\n"
    except BadLock as error:
        sys.stderr.write(f"{options.lock}: {error}\n")
        return 1
    if options.out is None:
        sys.stdout.write(made)
    else:
        options.out.write_text(made, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
