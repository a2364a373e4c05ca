"""The object store: DVC's layout, whole objects only, hostile names refused."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sia_flow.errors import StoreError
from sia_flow.lineage.objects import ObjectStore

NAMES = st.text(st.characters(categories=("Ll", "Nd")), min_size=1, max_size=8)


def test_bytes_come_back(tmp_path: Path) -> None:
    store = ObjectStore(tmp_path)
    oid = store.put_bytes(b"hello")
    assert oid == "5d41402abc4b2a76b9719d911017c592"
    assert store.get_bytes(oid) == b"hello"


@given(files=st.dictionaries(NAMES, st.binary(max_size=64), max_size=5))
def test_tree_comes_back(tmp_path_factory: pytest.TempPathFactory, files: dict[str, bytes]) -> None:
    store = ObjectStore(tmp_path_factory.mktemp("store"))
    oid = store.put_tree(files)
    assert store.get_tree(oid) == files
    assert store.put_tree(dict(reversed(files.items()))) == oid


def test_dvc_reads_our_trees(tmp_path: Path) -> None:
    from dvc_data.hashfile import load
    from dvc_data.hashfile.db.local import LocalHashFileDB
    from dvc_data.hashfile.hash_info import HashInfo
    from dvc_objects.fs.local import LocalFileSystem

    store = ObjectStore(tmp_path)
    oid = store.put_tree({"a.txt": b"x", "sub/b.txt": b"y"})
    tree = load(LocalHashFileDB(LocalFileSystem(), str(tmp_path / "files" / "md5")), HashInfo("md5", oid))
    assert {"/".join(key): info.value for key, (_, info) in tree.iteritems()} == {
        "a.txt": "9dd4e461268c8034f5c8564e155c67a6",
        "sub/b.txt": "415290769594460e2e485922904f345d",
    }
    tree.digest()
    assert tree.hash_info.value == oid


def test_damage_is_named(tmp_path: Path) -> None:
    store = ObjectStore(tmp_path)
    oid = store.put_bytes(b"hello")
    store.path(oid).write_bytes(b"jello")
    with pytest.raises(StoreError, match="damaged"):
        store.get_bytes(oid)


def test_truncated_object_is_written_again(tmp_path: Path) -> None:
    store = ObjectStore(tmp_path)
    oid = store.put_bytes(b"hello")
    store.path(oid).write_bytes(b"")
    assert store.put_bytes(b"hello") == oid
    assert store.get_bytes(oid) == b"hello"


def test_a_tree_with_a_missing_file_is_not_there(tmp_path: Path) -> None:
    store = ObjectStore(tmp_path)
    oid = store.put_tree({"a": b"1", "b": b"2"})
    assert store.has(oid)
    store.path(store.put_bytes(b"2")).unlink()
    assert not store.has(oid)


@pytest.mark.parametrize("name", ["../x", "/etc/x", "a/../../x", "", "a\0b"])
def test_names_outside_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(StoreError, match="relative path"):
        ObjectStore(tmp_path).put_tree({name: b""})


@pytest.mark.parametrize("oid", ["", "xyz", "../../etc/passwd", "5d41402abc4b2a76b9719d911017c59"])
def test_what_is_no_id_is_refused(tmp_path: Path, oid: str) -> None:
    with pytest.raises(StoreError, match="no object id"):
        ObjectStore(tmp_path).get_bytes(oid)


def test_checkout_lays_files_out_and_mends_them(tmp_path: Path) -> None:
    store = ObjectStore(tmp_path / "store")
    oid = store.put_tree({"a.txt": b"x", "sub/b.txt": b"y"})
    store.checkout(oid, tmp_path / "out")
    (tmp_path / "out" / "a.txt").write_bytes(b"changed")
    store.checkout(oid, tmp_path / "out")
    assert (tmp_path / "out" / "a.txt").read_bytes() == b"x"
    assert (tmp_path / "out" / "sub" / "b.txt").read_bytes() == b"y"


FILL = """
import resource, signal, sys
from pathlib import Path
from sia_flow.errors import StoreError
from sia_flow.lineage.objects import ObjectStore
store = ObjectStore(Path(sys.argv[1]))
store.put_bytes(b"small")
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
try:
    store.put_bytes(b"x" * 5000)
except StoreError as error:
    print(error)
    sys.exit(9)
"""


def test_a_write_that_does_not_fit_leaves_nothing(tmp_path: Path) -> None:
    found = subprocess.run(
        [sys.executable, "-c", FILL, str(tmp_path)], capture_output=True, text=True, check=False, env=dict(os.environ)
    )
    assert found.returncode == 9, found.stderr
    assert "cannot write" in found.stdout
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert [path.read_bytes() for path in files] == [b"small"]
