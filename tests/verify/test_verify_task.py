from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from sia_flow.errors import TaskError
from sia_flow.protocols import Verifier
from sia_flow.verify.modules import load_object
from sia_flow.verify.task import Task, load_task, task_names

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def project(tmp_path: Path) -> Path:
    ignore = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "tasks" / "denoise", tmp_path / "tasks" / "denoise", ignore=ignore)
    return tmp_path


def change(project: Path, **values: object) -> None:
    path = project / "tasks" / "denoise" / "task.yaml"
    path.write_text(yaml.safe_dump({**yaml.safe_load(path.read_text()), **values}))


def test_unknown_task_lists_what_there_is() -> None:
    with pytest.raises(TaskError, match=r"no task 'denois' .*did you mean 'denoise'\? There are: .*denoise"):
        load_task(ROOT, "denois")


def test_project_without_tasks_says_so(tmp_path: Path) -> None:
    with pytest.raises(TaskError, match="holds no task"):
        load_task(tmp_path, "denoise")


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"verifer": "x.py:X"}, "verifer: Extra inputs"),
        ({"name": "other"}, "name is 'other' but its folder is 'denoise'"),
        ({"mode": "fast"}, "mode 'fast' is not among modes: guarded, sia, ttt"),
        ({"data": "mnist"}, "data 'mnist' is not among"),
        ({"verifier": "../verifier.py:V"}, "verifier: String should match"),
    ],
)
def test_faults_of_the_manifest_are_named(project: Path, values: dict[str, object], words: str) -> None:
    change(project, **values)
    with pytest.raises(TaskError, match=words) as caught:
        load_task(project, "denoise")
    assert "task.yaml" in str(caught.value)


@pytest.mark.parametrize(
    ("reference", "words"),
    [
        ("gone.py:DenoiseVerifier", r"gone\.py is missing"),
        ("verifier.py:Gone", "defines no class or function Gone"),
        ("data.py:DataSet", "is no verifier; it must be a class with instances, visible, score"),
    ],
)
def test_a_verifier_that_is_none_is_refused(project: Path, data_dir: Path, reference: str, words: str) -> None:
    change(project, verifier=reference)
    with pytest.raises(TaskError, match=words):
        load_task(project, "denoise").verifier(None, data_dir)


def test_a_module_that_does_not_import_is_a_task_error(project: Path, data_dir: Path) -> None:
    (project / "tasks" / "denoise" / "verifier.py").write_text("import nowhere_to_be_found\n")
    with pytest.raises(TaskError, match="does not import: No module named 'nowhere_to_be_found'"):
        load_task(project, "denoise").verifier(None, data_dir)


def test_unknown_mode_is_refused_with_a_hint(task: Task, data_dir: Path) -> None:
    with pytest.raises(TaskError, match=r"no mode 'guard'; did you mean 'guarded'"):
        task.verifier("guard", data_dir)


def test_missing_data_says_how_to_prepare_it(task: Task, tmp_path: Path) -> None:
    with pytest.raises(TaskError, match="run `sia-flow prepare`"):
        task.verifier(None, tmp_path)


def test_modules_come_from_the_project_that_was_asked_for(project: Path) -> None:
    folder = project / "tasks" / "denoise"
    corpus = (folder / "corpus.py").read_text()
    (folder / "corpus.py").write_text(corpus.replace("Write denoise", "Please write denoise"))
    theirs = next(load_task(project, "denoise").pairs(0, 1))[0]
    ours = next(load_task(ROOT, "denoise").pairs(0, 1))[0]
    assert theirs.startswith("Please write")
    assert ours.startswith("Write")
    again = load_object(ROOT, "denoise", "corpus.py:pairs")
    assert again is load_object(ROOT, "denoise", "corpus.py:pairs")


def test_an_edit_that_keeps_size_and_time_runs_in_a_new_process(tmp_path: Path) -> None:
    path = tmp_path / "tasks/pairs/maker.py"
    path.parent.mkdir(parents=True)
    ask = f"from pathlib import Path\nfrom {load_object.__module__} import load_object\n"
    ask += f"print(load_object(Path({str(tmp_path)!r}), 'pairs', 'maker.py:make')())"
    environ = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    said = []
    for number in (1, 2):
        path.write_text(f"def make():\n    return {number}\n")
        os.utime(path, (1e9, 1e9))
        said.append(subprocess.check_output([sys.executable, "-c", ask], cwd=ROOT, env=environ, text=True))
    assert said == ["1\n", "2\n"]
    assert not list(tmp_path.rglob("*.pyc"))


def test_the_digest_covers_every_source(project: Path) -> None:
    task = load_task(project, "denoise")
    seen = {task.digest}
    for name in ("kit.py", "task.md", "task.yaml", "scaffold/scaffold.py", "corpus.py"):
        path = project / "tasks" / "denoise" / name
        path.write_text(path.read_text() + "\n")
        seen.add(task.digest)
    (project / "tasks" / "denoise" / "notes.txt").write_text("not a source")
    assert task.digest in seen
    assert len(seen) == 6


def test_data_sets_go_by_name_or_path(task: Task, tmp_path: Path) -> None:
    assert task.data_dir(tmp_path) == tmp_path / "data" / "denoise" / "pbmc"
    assert task.data_dir(tmp_path, "synthetic") == tmp_path / "data" / "denoise" / "synthetic"
    (tmp_path / "mine").mkdir()
    assert task.data_dir(tmp_path, "mine") == tmp_path / "mine"
    with pytest.raises(TaskError, match=r"no data set 'pbcm', .*did you mean 'pbmc'\?"):
        task.data_dir(tmp_path, "pbcm")


def test_agents_get_the_description_and_the_reference(task: Task) -> None:
    assert "denoise(counts, seed)" in task.description()
    assert "def solve(job" in task.reference()["scaffold.py"]


def test_a_task_without_reference_scaffold_says_what_is_missing(project: Path) -> None:
    shutil.rmtree(project / "tasks" / "denoise" / "scaffold")
    with pytest.raises(TaskError, match=r"scaffold/scaffold\.py is missing"):
        load_task(project, "denoise").reference()


def test_the_image_holds_public_arrays_alone(task: Task, verifier: Verifier) -> None:
    (instance,) = verifier.instances("train", 1, 0)
    image = task.image([instance])
    assert list(image.arrays) == [f"{instance.id}:counts"]
    assert image.arrays[f"{instance.id}:counts"] is instance.arrays["counts"]
    assert "def affinity" in image.modules["denoise_kit"]


def test_task_names_are_the_folders_with_a_manifest(project: Path) -> None:
    (project / "tasks" / "empty").mkdir()
    assert task_names(project) == ["denoise"]
