"""What every store must do alike. Members are found in `lake.stores`; each has a fixture that names an empty one."""

import importlib.util
import threading
from pathlib import Path

import pytest

from lake.errors import LakeError
from lake.store import Blob, Store, check_key, names, open_store
from market.errors import Malformed

FIXTURES = Path(__file__).resolve().parent.parent / "fixtures" / "stores"
KEYS = ("a", "a/b.parquet", "symbol=BTC%2FUSD/year=2026/x-g1.parquet", "deep/er/and/deeper")
HOSTILE = (
    "", "/etc/passwd", "../x", "a/../../x", "a//b", "a/", "./a", ".", "..", "a\\b", "C:/x", "a\0b", "a\nb", "x" * 2000,
    ".a.run1.tmp", "a/.b.c.tmp", "a.", "a ", "a/b ./c", "\u202ea",
)  # fmt: skip


@pytest.fixture(params=names())
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    fixture = FIXTURES / f"{request.param}.py"
    assert fixture.exists(), f"a store needs {fixture.name} in tests/fixtures/stores with `url(folder) -> str`"
    spec = importlib.util.spec_from_file_location(f"store_fixture_{request.param}", fixture)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return open_store(module.url(tmp_path))


def test_it_has_the_verbs(store: Store) -> None:
    assert isinstance(store, Store)


@pytest.mark.parametrize("key", KEYS)
def test_what_is_put_is_there(store: Store, key: str) -> None:
    assert store.head(key) is None
    store.put(key, b"0123456789")
    assert store.get(key) == b"0123456789"
    assert store.head(key) == Blob(key, 10)
    assert list(store.list()) == [Blob(key, 10)]


def test_a_file_can_be_put(store: Store, tmp_path: Path) -> None:
    (tmp_path / "source").write_bytes(b"x" * 3_000_000)
    store.put("a", tmp_path / "source")
    assert store.put_if_absent("b", tmp_path / "source")
    assert store.get("a") == store.get("b") == b"x" * 3_000_000


def test_put_replaces_the_whole_object(store: Store) -> None:
    store.put("a", b"long and old")
    store.put("a", b"new")
    assert store.get("a") == b"new"
    store.put("a", b"")
    assert store.get("a") == b""
    assert store.head("a") == Blob("a", 0)


def test_put_if_absent_never_replaces(store: Store) -> None:
    assert store.put_if_absent("a/b", b"first")
    assert not store.put_if_absent("a/b", b"second")
    assert store.get("a/b") == b"first"


def test_of_many_that_put_if_absent_exactly_one_does(store: Store) -> None:
    won: list[bytes] = []

    def race(data: bytes) -> None:
        if store.put_if_absent("k", data):
            won.append(data)

    threads = [threading.Thread(target=race, args=(b"%d" % n,)) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert won == [store.get("k")]


def test_a_range_is_cut_at_the_end(store: Store) -> None:
    store.put("a", b"0123456789")
    assert store.range("a", 2, 3) == b"234"
    assert store.range("a", 8, 5) == b"89"
    assert store.range("a", 20, 5) == b""
    assert store.range("a", 0, 0) == b""
    for start, length in ((-1, 1), (0, -1)):
        with pytest.raises(ValueError, match="no range"):
            store.range("a", start, length)


def test_what_is_not_there_is_missing(store: Store) -> None:
    store.put("a/b", b"1")
    for key in ("x", "a", "a/b/c"):
        assert store.head(key) is None
        with pytest.raises(FileNotFoundError):
            store.get(key)
        with pytest.raises(FileNotFoundError):
            store.range(key, 0, 1)
        store.delete(key)
    assert store.get("a/b") == b"1"


def test_delete_removes_the_object_only(store: Store) -> None:
    store.put("a/b", b"1")
    store.put("a/c", b"2")
    store.delete("a/b")
    store.delete("a/b")
    assert list(store.list()) == [Blob("a/c", 1)]
    assert store.put_if_absent("a/b", b"3")


def test_list_has_every_key_with_the_prefix_in_order(store: Store) -> None:
    for key in ("b/2", "a/10", "a/1", "ab", "a", "c/d/e"):
        if key != "a":  # a folder cannot be a file: keys are paths
            store.put(key, b"")
    assert [blob.key for blob in store.list()] == ["a/1", "a/10", "ab", "b/2", "c/d/e"]
    assert [blob.key for blob in store.list("a")] == ["a/1", "a/10", "ab"]
    assert [blob.key for blob in store.list("a/1")] == ["a/1", "a/10"]
    assert [blob.key for blob in store.list("c/d/")] == ["c/d/e"]
    assert list(store.list("nothing/here")) == []


@pytest.mark.parametrize("key", HOSTILE)
def test_a_hostile_key_is_refused_by_every_verb(store: Store, key: str) -> None:
    for verb in (
        lambda: store.put(key, b""), lambda: store.put_if_absent(key, b""), lambda: store.get(key),
        lambda: store.range(key, 0, 1), lambda: store.head(key), lambda: store.delete(key),
    ):  # fmt: skip
        with pytest.raises(Malformed):
            verb()
    assert list(store.list()) == []


def test_an_unknown_address_is_refused_with_the_known_ones() -> None:
    for url in ("ftp://host/x", "nonsense", "", "/srv/lake"):
        with pytest.raises(LakeError, match=r"known: .*file://"):
            open_store(url)
    for url in ("file://host/x", "file://", "file://relative/x", "file://" + "/x?y=1"):
        with pytest.raises(LakeError, match="no folder of this machine"):
            open_store(url)


@pytest.mark.parametrize("key", KEYS)
def test_the_layouts_paths_are_keys(key: str) -> None:
    assert check_key(key) == key


def test_a_link_that_leads_out_of_the_folder_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret" / "x").write_bytes(b"1")
    (tmp_path / "lake").mkdir()
    (tmp_path / "lake" / "out").symlink_to(tmp_path / "secret")
    store = open_store((tmp_path / "lake").as_uri())
    for verb in (lambda: store.get("out/x"), lambda: store.put("out/y", b"")):
        with pytest.raises(Malformed, match="leads out"):
            verb()
    assert list(store.list()) == []
