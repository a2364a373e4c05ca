"""Installed packages: a job has those of its image with what they require, and no other file beside them."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path

import pytest

from sia_flow.protocols import Image
from sia_flow.sandbox import backends, exposure, packages
from tests.sandbox.jobs import one, scaffold

ROOT = Path(__file__).parents[2]
REQUIRES = {
    "site-wanted": ["site-helper[more]", "site-absent", "site-canary; python_version < '3'"],
    "site-helper": ["site-extra; extra == 'more'", "site-canary; extra == 'other'"],
    "site-extra": [],
    "site-canary": [],
}
FILES = {
    "site-wanted": {
        "wanted/__init__.py": "import helper\n",
        "wanted/data.txt": "own data",
        "solo.py": "X = 1\n",
    },
    "site-helper": {"helper.py": "VALUE = 7\n", "shared/of_helper/__init__.py": "VALUE = 8\n"},
    "site-extra": {"extra/__init__.py": "", "extra.libs/lib.so": "a library"},
    "site-canary": {
        "canary/__init__.py": "",
        "canary/data.txt": "the canary",
        "shared/of_canary/a.txt": "the canary",
    },
}


@pytest.fixture(scope="session")
def site(tmp_path_factory):
    """A folder of installed distributions on the path, with records as pip writes them."""
    folder = tmp_path_factory.mktemp("site")
    for name, files in FILES.items():
        info = f"{name.replace('-', '_')}-1.0.dist-info"
        needs = "".join(f"Requires-Dist: {text}\n" for text in REQUIRES[name])
        head = f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\nProvides-Extra: more\n"
        written = {**files, f"{info}/METADATA": head + needs}
        lines = [f"{path},," for path in (*written, f"{info}/RECORD", f"../../bin/{name}")]
        for path, text in {**written, f"{info}/RECORD": "\n".join(lines)}.items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_text(text)
    sys.path.insert(0, str(folder))
    yield folder
    sys.path.remove(str(folder))


@pytest.fixture(scope="module")
def narrow(sandbox, site):
    """A session whose image names one of the distributions of `site`."""
    with sandbox.open(Image(preload=("wanted",))) as opened:
        yield opened


def say(session, expression, head="pass"):
    """Return the value of an expression inside, or the name of its error."""
    refused = "except Exception as error:\n    return type(error).__name__"
    body = f"{head}\ntry:\n    return str({expression})\n{refused}"
    outcome = one(session, scaffold(body))
    assert outcome.status == "OK", outcome
    return outcome.value


def folder_inside(session, site):
    return str(site) if session.isolation.backend == "landlock" else exposure.SITE


def test_a_named_package_comes_with_what_it_requires(narrow, site):
    inside = folder_inside(narrow, site)
    assert (
        say(
            narrow,
            "(helper.VALUE, solo.X, of_helper.VALUE)",
            "import helper, solo, shared.of_helper as of_helper",
        )
        == "(7, 1, 8)"
    )
    assert say(narrow, f"open({inside + '/wanted/data.txt'!r}).read()") == "own data"
    assert say(narrow, f"open({inside + '/extra.libs/lib.so'!r}).read()") == "a library"
    assert say(narrow, "m.version('site-helper')", "import importlib.metadata as m") == "1.0"


def test_no_file_of_another_distribution_can_be_read(narrow, site):
    for folder in {str(site), folder_inside(narrow, site)}:
        for name in ("canary/data.txt", "canary/__init__.py", "shared/of_canary/a.txt"):
            assert (site / name).exists()
            assert say(narrow, f"open({folder + '/' + name!r}).read()") in (
                "PermissionError",
                "FileNotFoundError",
            )


@pytest.mark.parametrize("name", ["canary", "numpy", "pytest", "pip", "_distutils_hack", "sia_flow"])
def test_what_the_image_does_not_name_is_not_found(narrow, site, name):
    assert importlib.util.find_spec(name) is not None
    assert say(narrow, f"__import__({name!r})") == "ModuleNotFoundError"
    places = [str(site), *(path for path in sys.path if path.endswith("-packages"))]
    head = f"sys.path[:0] = {places!r}"
    assert say(narrow, f"__import__({name!r})", head) in ("ModuleNotFoundError", "PermissionError")


def test_a_data_file_of_this_environment_is_out_of_reach(session):
    """numpy is named there; the others that lie beside it are not."""
    for module in ("pytest", "pydantic", "matplotlib"):
        file = Path(importlib.util.find_spec(module).origin)
        assert file.read_bytes()
        for path in (str(file), f"{exposure.SITE}/{module}/{file.name}"):
            assert say(session, f"open({path!r}).read()") in ("PermissionError", "FileNotFoundError")


@pytest.mark.parametrize(
    ("module", "expression"),
    [
        ("scipy", "round(float(linalg.norm(linalg.inv(2 * numpy.eye(4)))), 6)"),
        ("sklearn", "round(float(linalg.norm(linalg.inv(2 * numpy.eye(4)))), 6)"),
    ],
)
def test_compiled_packages_find_their_own_libraries(sandbox, module, expression):
    with sandbox.open(Image(preload=(module,))) as session:
        head = f"import numpy, {module}\nfrom scipy import linalg\nimport scipy.sparse.linalg, scipy.optimize"
        assert say(session, expression, head) == "1.0"
        assert say(session, "__import__('pandas')") == "ModuleNotFoundError"


def test_requirements_follow_extras_and_markers(site):
    names = [one.metadata["Name"] for one in packages.required(["site-wanted"])]
    assert names == ["site-extra", "site-helper", "site-wanted"]
    assert {item.name for item in packages.items(("helper",))} == {
        "helper.py",
        "shared/of_helper",
        "site_helper-1.0.dist-info",
    }


def test_a_module_called_unlike_its_distribution_is_found():
    shown = {item.name for item in packages.items(("sklearn.decomposition",))}
    assert {"sklearn", "scikit_learn.libs", "scipy", "scipy.libs", "numpy", "numpy.libs"} <= shown
    assert not {"pandas", "scanpy", "matplotlib"} & shown


def test_the_standard_library_needs_no_package():
    assert packages.items(("json", "os.path", "no_such_module")) == ()


def test_nothing_that_is_shown_holds_the_project_or_a_site_folder():
    image = Image(preload=("numpy",))
    shown = exposure.interpreter()
    readable, _ = exposure.readable(image)
    sites = {Path(item.site) for item in packages.items(("numpy",))} | {Path(hole) for hole in shown.holes}
    for path in map(Path, (*readable, *shown.own, *shown.system)):
        assert not ROOT.is_relative_to(path)
        assert path.is_relative_to(ROOT / ".venv") or not path.is_relative_to(ROOT)
    for path in map(Path, readable):
        assert not any(site.is_relative_to(path) for site in sites)
    for backend in (backends.BUBBLEWRAP, backends.LANDLOCK):
        plan = backends.plan(backend, 3, image)
        assert str(ROOT) not in json.dumps(plan["expose"]).replace(str(ROOT / "sia_flow/sandbox/inside"), "").replace(
            str(ROOT / ".venv"), ""
        )


def test_a_hole_is_left_out_of_what_covers_a_folder(tmp_path):
    for name in ("a/keep", "a/b/keep", "a/b/hole", "c"):
        (tmp_path / name).mkdir(parents=True)
    hole = str(tmp_path / "a/b/hole")
    found = {str(Path(path).relative_to(tmp_path)) for path in exposure._around(str(tmp_path), [hole])}
    assert found == {"a/keep", "a/b/keep", "c"}
