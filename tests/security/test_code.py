"""Gates over the source: nothing runs data as code, no way around TLS, every rule of the linter on, no secret."""

from __future__ import annotations

import ast
import re
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.commands import ROOT

PACKAGES = (
    "market", "lake", "runtime", "collectors", "transformer", "compactor", "features", "api", "client", "daemon", "cli",
    "simulator",
)  # fmt: skip
BUILTINS = {"eval", "exec", "compile", "__import__", "input", "breakpoint"}
MODULES = {
    "pickle",
    "cPickle",
    "dill",
    "cloudpickle",
    "joblib",
    "marshal",
    "shelve",
    "jsonpickle",
    "code",
    "codeop",
    "telnetlib",
    "ftplib",
}
CALLS = {
    "os.system",
    "os.popen",
    "os.execv",
    "os.execve",
    "os.spawnv",
    "os.startfile",
    "yaml.load",
    "yaml.load_all",
    "yaml.unsafe_load",
    "yaml.full_load",
    "yaml.full_load_all",
    "yaml.unsafe_load_all",
    "subprocess.getoutput",
    "subprocess.getstatusoutput",
    "asyncio.create_subprocess_shell",
    "ssl._create_unverified_context",
    "ssl.SSLContext",
    "random.seed",
    "tempfile.mktemp",
    "xml.etree.ElementTree.parse",
    "ctypes.CDLL",
    "duckdb.sql",
}
WORDS = {
    "CERT_NONE",
    "CERT_OPTIONAL",
    "_create_unverified_context",
    "PROTOCOL_TLSv1",
    "PROTOCOL_TLSv1_1",
    "PROTOCOL_SSLv23",
    "TLSv1_1",
}


ALLOWED = {
    ("runtime/heap.py", "ctypes.CDLL(None)"),
    ("runtime/kernel_clock.py", "ctypes.CDLL(None)"),
    ("lake/confine.py", "ctypes.CDLL(None)"),
}
"""The questions of libc: adjtimex, since no other way asks the kernel whether its clock is right, and Landlock, for
which there is no other way either. Without a name it is what the process has loaded already: no library can be put in
its place.
"""


def modules() -> list[Path]:
    return sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))


def dangers(tree: ast.AST) -> Iterator[str]:
    """Whatever could run data as code, reach a shell, or talk without looking who answers."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (f"import {name.name}" for name in node.names if name.name.split(".")[0] in MODULES)
        elif isinstance(node, ast.ImportFrom):
            if (node.module or "").split(".")[0] in MODULES:
                yield f"from {node.module} import"
            yield from (f"{node.module}.{name.name}" for name in node.names if f"{node.module}.{name.name}" in CALLS)
        elif isinstance(node, ast.Attribute) and node.attr in WORDS:
            yield node.attr
        elif isinstance(node, ast.Assign):
            for target in node.targets:
                named = target.attr if isinstance(target, ast.Attribute) else ""
                if named in ("check_hostname", "verify_mode"):
                    yield f"{named} is set"
        elif isinstance(node, ast.Call):
            yield from _of_call(node)


def _of_call(node: ast.Call) -> Iterator[str]:
    if isinstance(node.func, ast.Name) and node.func.id in BUILTINS:
        yield f"{node.func.id}()"
    called = ast.unparse(node.func)
    if called in CALLS:
        nameless = [ast.unparse(one) for one in node.args] == ["None"]
        yield f"{called}(None)" if nameless and "name" not in {one.arg for one in node.keywords} else f"{called}()"
    for keyword in node.keywords:
        value = keyword.value.value if isinstance(keyword.value, ast.Constant) else None
        if keyword.arg == "shell" and value is not False:
            yield "shell="
        if keyword.arg in ("ssl", "verify", "verify_ssl", "check_hostname", "tls_verify") and value is False:
            yield f"{keyword.arg}=False"
        if keyword.arg == "allow_pickle" or (keyword.arg == "diagnose" and value is not False):
            yield f"{keyword.arg}="
        if keyword.arg == "Loader" and ast.unparse(keyword.value) not in ("yaml.SafeLoader", "yaml.CSafeLoader"):
            yield "Loader="


def test_nothing_runs_data_as_code_or_talks_without_looking_who_answers() -> None:
    found = [
        (path.relative_to(ROOT).as_posix(), danger)
        for path in modules()
        for danger in dangers(ast.parse(path.read_text(encoding="utf-8")))
    ]
    assert sorted(found) == sorted(ALLOWED), "each of these once, and nothing else"
    assert len(modules()) > 200


@pytest.mark.parametrize(
    "code",
    [
        "eval(x)",
        "exec(x)",
        "import pickle",
        "from pickle import loads",
        "import os\nos.system('x')",
        "from os import system",
        "yaml.load(x)",
        "yaml.load(x, Loader=yaml.Loader)",
        "yaml.compose(x, Loader=yaml.UnsafeLoader)",
        "subprocess.run(x, shell=True)",
        "subprocess.run(x, shell=given)",
        "aiohttp.TCPConnector(ssl=False)",
        "get(u, verify=False)",
        "c.check_hostname = False",
        "c.verify_mode = m",
        "ssl.CERT_NONE",
        "ssl._create_unverified_context()",
        "np.load(f, allow_pickle=True)",
        "logger.add(f, diagnose=True)",
        "__import__(name)",
        "asyncio.create_subprocess_shell(x)",
        "import marshal",
        "ctypes.CDLL(None)",
        "ctypes.CDLL(name)",
        "c.minimum = ssl.TLSVersion.TLSv1_1",
    ],
)
def test_the_gate_finds_each_of_them(code: str) -> None:
    assert list(dangers(ast.parse(code)))


@pytest.mark.parametrize(
    "code", ["ctypes.CDLL(name)", "ctypes.CDLL('libc.so.6')", "ctypes.CDLL()", "ctypes.CDLL(None, name=x)"]
)
def test_a_library_that_has_a_name_is_never_the_one_that_is_allowed(code: str) -> None:
    assert list(dangers(ast.parse(code))) == ["ctypes.CDLL()"]


def test_logs_never_show_the_values_of_variables() -> None:
    source = (ROOT / "runtime" / "logs.py").read_text(encoding="utf-8")
    adds = [
        node
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "logger.add"
    ]
    assert len(adds) == 2
    for call in adds:
        said = {keyword.arg: ast.unparse(keyword.value) for keyword in call.keywords}
        assert (said["diagnose"], said["backtrace"]) == ("False", "False")


def test_every_security_rule_of_the_linter_is_on_and_each_exception_has_its_reason() -> None:
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    held = tomllib.loads(text)["tool"]["ruff"]["lint"]
    assert "ALL" in held["select"]
    assert [code for code in held["ignore"] if re.fullmatch(r"S\d*", code)] == ["S101"]
    assert re.search(r'"S101", # \w+', text)
    for place, codes in held["per-file-ignores"].items():
        for code in codes:
            if re.fullmatch(r"S\d*", code):
                where = text.split(f'"{place}" = [')[1]
                assert re.search(rf'"{code}"[^\n]*# \w+', where.split("\n]")[0].split('\n"')[0]), f"{place} {code}"
                assert code != "S" or place == "tests/**"


def test_each_silenced_rule_of_security_says_why() -> None:
    for path in [*modules(), *sorted((ROOT / "scripts").glob("*.py"))]:
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            found = re.search(r"#\s*(?:ruff:\s*)?noqa:?([^#\n]*?)((?:--?|#)\s*\w.*)?$", line)
            if found and re.search(r"\bS\d{3}\b", found[1]):
                assert found[2], f"{path.relative_to(ROOT)}:{number} silences {found[1].strip()} without a reason"


SECRETS = {
    "private key": re.compile(r"-----BEGIN (?:[A-Z]+ )*PRIVATE KEY-----\s*\n?[A-Za-z0-9+/]{32}"),
    "AWS key": re.compile(r"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b"),
    "GitHub token": re.compile(r"\bgh[pousr]_[A-Za-z0-9]{36}\b|\bgithub_pat_[A-Za-z0-9_]{60,}"),
    "package index token": re.compile(r"\bpypi-[A-Za-z0-9_-]{50,}"),
    "Slack token": re.compile(r"\bxox[abprs]-[A-Za-z0-9-]{10,}"),
    "Google key": re.compile(r"\bAIza[0-9A-Za-z_-]{35}\b"),
    "signed web token": re.compile(r"\beyJ[A-Za-z0-9_-]{15,}\.eyJ[A-Za-z0-9_-]{15,}\."),
    "password in an address": re.compile(
        r"\b[a-z][a-z0-9+.-]*://[^\s/:@{}\"'<>]+:[^\s/@{}\"'<>]{3,}@[a-z0-9.-]+", re.IGNORECASE
    ),
    "assigned secret": re.compile(
        r"(?i)\b(?:api_?key|api_?secret|secret_?key|access_?token|auth_?token|password|passwd|passphrase)\b[\"']?\s*[:=]\s*"
        r"[\"'][A-Za-z0-9+/_=.-]{12,}[\"']"
    ),
}
MADE_UP = ("tests/security/",)
"""Where secrets are made up, to see whether they are told."""


def tracked() -> list[Path]:
    listing = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return [ROOT / name for name in listing.split("\0") if name and (ROOT / name).is_file()]


def leaks(text: str) -> list[str]:
    return [what for what, pattern in SECRETS.items() if pattern.search(text)]


def test_no_tracked_file_holds_a_secret() -> None:
    found = []
    for path in tracked():
        name = path.relative_to(ROOT).as_posix()
        if not name.startswith(MADE_UP):
            found += [f"{name}: {what}" for what in leaks(path.read_text(encoding="utf-8", errors="replace"))]
        assert path.name not in (".env", "id_rsa", "id_ed25519", ".netrc", ".pypirc", "credentials")
        assert path.suffix not in (".pem", ".key", ".p12", ".pfx", ".jks"), name
    assert found == []


@pytest.mark.parametrize(
    "text",
    [
        "-----BEGIN RSA " + "PRIVATE KEY-----\nMIIEowIBAAKCAQEAx0123456789abcdefghij012345",
        "AKIA" + "IOSFODNN7EXAMPLE",
        "ghp_" + "a1B2" * 9,
        "pypi-" + "AgEIcHlwaS5vcmcC" * 4,
        "xoxb-" + "123456789012-abc",
        "AIza" + "Sy0" * 11 + "ab",
        "eyJhbGciOiJIUzI1NiIsInR5" + ".eyJzdWIiOiIxMjM0NTY3ODkw" + ".x",
        "https://user:" + "sesame99@host.example/x",
        "api_key = 'abcdef" + "0123456789'",
    ],
)
def test_the_scan_finds_each_sort_of_secret(text: str) -> None:
    assert leaks(text)


def test_what_may_not_be_tracked_is_ignored() -> None:
    ignored = (ROOT / ".gitignore").read_text(encoding="utf-8").split()
    assert {".env", ".venv", "/data/", "/demo-lake/"} <= set(ignored), "an environment may be a link, too"
