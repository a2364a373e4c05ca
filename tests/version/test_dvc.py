"""DVC on real repositories: with git, without, with another process in the way."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from sia_flow.errors import LockedError, StoreError
from sia_flow.version.checkpoints import GITIGNORE, checkpoint_key, publish_checkpoints
from sia_flow.version.repository import CONFIG, DVCIGNORE, IGNORED, ensure_repo

ROOT = Path(__file__).parents[2]
DVC = str(Path(sys.executable).with_name("dvc"))
GIT = ["git", "-c", "user.name=t", "-c", "user.email=t@t", "-c", "commit.gpgsign=false"]
STAGE = """\
stages:
  toy:
    cmd: mkdir -p data && cat seed.txt seed.txt > data/out.txt
    deps: [seed.txt]
    outs: [data]
"""
LOCKER = """
import sys, zc.lockfile
lock = zc.lockfile.LockFile(sys.argv[1])
print("held", flush=True)
sys.stdin.read()
"""


def run(*command: str, cwd: Path) -> str:
    env = {**os.environ, "DVC_NO_ANALYTICS": "1", "DVC_GLOBAL_CONFIG_DIR": str(cwd.parent / "global")}
    done = subprocess.run(command, cwd=cwd, env=env, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def adapter(tmp_path: Path) -> Path:
    folder = tmp_path / "store" / "adapter"
    folder.mkdir(parents=True)
    (folder / "adapter_config.json").write_text('{"r": 8}')
    (folder / "adapter_model.safetensors").write_bytes(bytes(range(256)) * 64)
    for path in folder.iterdir():
        path.chmod(0o444)
    return folder


@pytest.fixture
def project(tmp_path: Path) -> Path:
    root = tmp_path / "project"
    root.mkdir()
    run(*GIT, "init", "-q", cwd=root)
    (root / ".gitignore").write_text("\n".join(["/data/", "/.sia-flow/", *GITIGNORE, ""]))
    return root


@pytest.mark.slow
def test_what_is_made_and_published_comes_back_in_a_clone(project: Path, adapter: Path, tmp_path: Path) -> None:
    ensure_repo(project)
    (project / "seed.txt").write_text("grain\n")
    (project / "dvc.yaml").write_text(STAGE)
    run(DVC, "repro", "-q", cwd=project)
    publish_checkpoints(project, "denoise", {checkpoint_key("SIA-H", 0, 1): adapter})
    run(DVC, "remote", "add", "-d", "team", str(tmp_path / "remote"), cwd=project)
    run(DVC, "push", "-q", cwd=project)
    run(*GIT, "add", ".", cwd=project)
    run(*GIT, "commit", "-qm", "published", cwd=project)
    tracked = run(*GIT, "ls-files", cwd=project).split()
    assert "models/checkpoints/denoise.dvc" in tracked
    assert not [path for path in tracked if path.startswith((".sia-flow", "data/")) or "safetensors" in path]
    run(*GIT, "clone", "-q", str(project), str(tmp_path / "clone"), cwd=tmp_path)
    clone = tmp_path / "clone"
    ensure_repo(clone)
    run(DVC, "pull", "-q", cwd=clone)
    assert (clone / "data" / "out.txt").read_text() == "grain\ngrain\n"
    for path in adapter.iterdir():
        copy = clone / "models/checkpoints/denoise/SIA-H/seed-0/gen-1" / path.name
        assert copy.read_bytes() == path.read_bytes()


def test_publishing_again_changes_nothing_and_more_extends_one_output(project: Path, adapter: Path) -> None:
    first = publish_checkpoints(project, "denoise", {checkpoint_key("SIA-H", 0, 1): adapter})
    text = first.file.read_text()
    assert publish_checkpoints(project, "denoise", {checkpoint_key("SIA-H", 0, 1): adapter}) == first
    assert first.file.read_text() == text
    more = publish_checkpoints(project, "denoise", {checkpoint_key("SIA-W+H", 0, 2): adapter})
    assert more.digest != first.digest
    assert more.digest in more.file.read_text()
    assert sorted(p.name for p in first.file.parent.iterdir() if p.suffix == ".dvc") == ["denoise.dvc"]


def test_a_published_checkpoint_is_writable_and_the_source_is_untouched(project: Path, adapter: Path) -> None:
    publish_checkpoints(project, "denoise", {"SIA-H/seed-0/gen-1": adapter})
    copy = project / "models/checkpoints/denoise/SIA-H/seed-0/gen-1/adapter_config.json"
    assert copy.stat().st_mode & 0o200
    assert not copy.is_symlink()
    copy.write_text("changed")
    assert (adapter / "adapter_config.json").read_text() == '{"r": 8}'
    publish_checkpoints(project, "denoise", {"SIA-H/seed-0/gen-1": adapter})
    assert copy.read_text() == '{"r": 8}'


def test_no_git_is_needed_and_nothing_leaves_the_project(adapter: Path, tmp_path: Path) -> None:
    root = tmp_path / "plain"
    root.mkdir()
    outside = Path("/var/tmp/dvc")
    before = sorted(outside.rglob("*")) if outside.exists() else []
    published = publish_checkpoints(root, "denoise", {"SIA-H/seed-0/gen-1": adapter})
    assert published.digest.endswith(".dir")
    assert (root / ".sia-flow" / "dvc").is_dir()
    assert (sorted(outside.rglob("*")) if outside.exists() else []) == before


def test_another_process_is_waited_for_and_then_named(project: Path, adapter: Path) -> None:
    publish_checkpoints(project, "denoise", {"SIA-H/seed-0/gen-1": adapter})
    lock = project / ".dvc" / "tmp" / "lock"
    holder = subprocess.Popen(
        [sys.executable, "-c", LOCKER, str(lock)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout.readline() == "held\n"
    with pytest.raises(LockedError, match="another DVC process"):
        publish_checkpoints(project, "denoise", {"SIA-H/seed-0/gen-2": adapter}, seconds=0.1)
    holder.communicate("")
    publish_checkpoints(project, "denoise", {"SIA-H/seed-0/gen-2": adapter}, seconds=0.1)


@pytest.mark.parametrize("ignored", ["/models/", "/models/*\n!/models/checkpoints/"])
def test_a_dvc_file_that_git_or_dvc_overlooks_is_an_error(project: Path, adapter: Path, ignored: str) -> None:
    (project / ".gitignore").write_text(f"{ignored}\n")
    with pytest.raises(StoreError, match=r"denoise\.dvc.*ignore.* /models/checkpoints/\?\*"):
        publish_checkpoints(project, "denoise", {"SIA-H/seed-0/gen-1": adapter})


@pytest.mark.parametrize("place", ["", "/etc", "../up", "a/../../b"])
def test_a_place_outside_the_tree_is_refused(project: Path, adapter: Path, place: str) -> None:
    with pytest.raises(StoreError, match="no place"):
        publish_checkpoints(project, "denoise", {place: adapter})


def test_nothing_to_publish_is_an_error(project: Path, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="nothing to publish"):
        publish_checkpoints(project, "denoise")
    with pytest.raises(StoreError, match="there is no checkpoint"):
        publish_checkpoints(project, "denoise", {"a": tmp_path / "absent"})


def test_the_repository_of_this_project_is_what_a_new_one_gets() -> None:
    assert (ROOT / ".dvc" / "config").read_text() == CONFIG
    assert (ROOT / ".dvc" / ".gitignore").read_text() == IGNORED
    assert (ROOT / ".dvcignore").read_text() == DVCIGNORE


def test_the_stages_of_this_project_name_files_that_exist() -> None:
    yaml = pytest.importorskip("yaml")
    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
    assert set(stages) == {
        "data-pbmc",
        "data-synthetic",
        "base-tiny-gpt-oss",
        "data-lawbench",
        "base-tiny-lawbench",
        "data-trimul",
        "base-tiny-trimul",
    }
    made = {out for stage in stages.values() for out in stage["outs"]}
    needed = {path for stage in stages.values() for path in stage["deps"]} - made
    assert all((ROOT / path).exists() for path in needed)
