"""A verifier in its own process: the same verdicts, whatever it meets, and nothing of the host in its reach."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from sia_flow.errors import InfrastructureError, TaskError, VerifierError
from sia_flow.importers.fresh import lay_new
from sia_flow.protocols import Sandbox
from sia_flow.sandbox.inside import landlock
from sia_flow.verify.apart import wire
from sia_flow.verify.apart.client import ApartVerifier
from sia_flow.verify.apart.faults import SAID
from sia_flow.verify.apart.held import Bounds
from sia_flow.verify.apart.wire import HEAD, WireError, pack, unpack
from sia_flow.verify.audit import audit
from sia_flow.verify.probes import Probe, assert_probes
from sia_flow.verify.task import Task, load_task
from sia_flow.verify.texts import TextScorer
from tests.verify.traps_world import make_traps

ROOT = Path(__file__).resolve().parents[2]
CONFINED = pytest.mark.skipif(landlock.abi() == 0, reason="the kernel has no Landlock")


@pytest.fixture(scope="module")
def traps(tmp_path_factory: pytest.TempPathFactory) -> Task:
    return make_traps(tmp_path_factory.mktemp("project"))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("data")


@pytest.fixture(scope="module")
def apart(traps: Task, data: Path) -> Iterator[ApartVerifier]:
    os.environ["SECRET_API_KEY"] = "a key"
    with traps.verifier(None, data, Bounds(judging=0.3, memory=1 << 30, run=4)) as found:
        yield found
    del os.environ["SECRET_API_KEY"]


def tell(verifier: ApartVerifier, answer: str) -> str:
    """Return what came of a deed; a failure as its reason."""
    (instance,) = verifier.instances("train", 1, 0)
    verdict = verifier.score_text(instance, answer)
    return verdict.feedback if verdict.valid else verdict.reason


def until(condition, seconds=10.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


# --- the same verdicts ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["guarded", "ttt"])
def test_denoise_is_scored_to_the_last_bit(mode: str, task: Task, data_dir: Path) -> None:
    here = task.build(mode, data_dir)
    with task.verifier(mode, data_dir) as there:
        assert (there.digest, there.data_digest) == (here.digest, here.data_digest)
        assert (there.floor, there.guards_block) == (here.floor, here.guards_block)
        for split in ("train", "select", "sealed"):
            ours, theirs = here.instances(split, 2, 3), there.instances(split, 2, 3)
            ours, theirs = [*ours, here.visible(ours[1])], [*theirs, there.visible(theirs[1])]
            assert there.audits(split, 2, 3) == [audit(one) for one in ours[:2]]
            outputs = [one.arrays["counts"] * share for one in ours for share in (0.5, 1.0, -1.0, np.nan)]
            outputs += [np.zeros((2, 2)), np.full(ours[0].returns.shape, 1.5)]
            pairs = (
                [ours[index // 4 % 3] for index in range(len(outputs))],
                [theirs[index // 4 % 3] for index in range(len(outputs))],
            )
            expected = [here.score(*item).model_dump_json() for item in zip(pairs[0], outputs, strict=True)]
            found = there.score_all(list(zip(pairs[1], outputs, strict=True)))
            assert [one.model_dump_json() for one in found] == expected
            one, other = here.baselines(ours[0]), there.baselines(theirs[0])
            assert list(one) == list(other)
            assert {name: v.model_dump_json() for name, v in one.items()} == {
                name: v.model_dump_json() for name, v in other.items()
            }
            metrics = one["magic"].metrics
            assert here.guards(metrics) == there.guards(metrics)
            for mine, its in zip(ours, theirs, strict=True):
                assert (mine.id, mine.split, dict(mine.public), mine.returns) == (
                    its.id,
                    its.split,
                    dict(its.public),
                    its.returns,
                )
                assert mine.arrays["counts"].tobytes() == its.arrays["counts"].tobytes()
                assert not its.private


def test_a_timed_task_says_the_same(tmp_path: Path) -> None:
    task = load_task(ROOT, "trimul")
    task.prepare("shapes", tmp_path)
    here = task.build("cpu", tmp_path)
    with task.verifier("cpu", tmp_path) as there:
        (mine,), (its,) = here.instances("train", 1, 0), there.instances("train", 1, 0)
        plan = here.plan(mine)
        assert there.plan(its) == plan
        assert there.reference() == here.reference()
        inputs, again = here.inputs(plan.timed[0], 5), there.inputs(plan.timed[0], 5)
        assert {n: (a.dtype, a.tobytes()) for n, a in inputs.items()} == {
            n: (a.dtype, a.tobytes()) for n, a in again.items()
        }
        first = inputs[min(inputs)]
        assert there.fault(first, first) is None
        assert there.fault(first, first + 1) == here.fault(first, first + 1)


def test_a_new_task_is_scored_alike(tmp_path: Path) -> None:
    for name in ("tasks", "flows", "specs"):
        (tmp_path / name).mkdir()
    task = load_task(tmp_path, lay_new("curves", tmp_path).name)
    task.prepare(task.manifest.data, tmp_path / "data")
    here = task.build(task.manifest.mode, tmp_path / "data")
    with task.verifier(None, tmp_path / "data") as there:
        (mine,), (its,) = here.instances("select", 1, 0), there.instances("select", 1, 0)
        assert (there.digest, there.data_digest) == (here.digest, here.data_digest)
        noisy = mine.arrays["y"]
        outputs = [noisy, noisy * 0.5, noisy * np.nan, np.zeros(3)]
        expected = [here.score(mine, output) for output in outputs]
        assert there.score_all([(its, output) for output in outputs]) == expected


def test_what_is_not_finite_and_what_a_verifier_keeps_come_through(apart: ApartVerifier) -> None:
    (instance,) = apart.instances("train", 1, 0)
    outputs = [np.full((300, 300), float(number)) for number in range(1, 6)]
    verdicts = apart.score_all([(instance, output) for output in outputs])
    assert [verdict.metrics["sum"] for verdict in verdicts] == [90000.0 * number for number in range(1, 6)]
    assert {verdict.metrics["first"] for verdict in verdicts} == {90000.0}
    assert all(np.isposinf(verdict.reward) and np.isnan(verdict.metrics["odd"]) for verdict in verdicts)
    assert [float(output[0, 0]) for output in outputs] == [1.0, 2.0, 3.0, 4.0, 5.0]
    assert apart.guards({"a": float("inf")}) == {"a": -float("inf")}


def test_a_twin_with_its_parents_name_does_not_get_its_secret(apart: ApartVerifier) -> None:
    (instance,) = apart.instances("train", 1, 0)
    twin = apart.visible(instance)
    assert twin.id == instance.id
    assert [apart.score(one, np.zeros((2, 3))).feedback for one in (instance, twin)] == ["['secret']", "[]"]


def test_instances_of_elsewhere_are_refused(apart: ApartVerifier, traps: Task, data: Path) -> None:
    (stranger,) = traps.build("plain", data).instances("train", 1, 0)
    with pytest.raises(TypeError, match="was not made by a verifier that runs apart"):
        apart.score(stranger, np.zeros((2, 3)))


# --- faults -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "reason", "words"),
    [
        ("hang", "verifier_timeout", "no answer within 0.3 s"),
        ("crash", "verifier_crash", r"killed by SIGSEGV: Fatal Python error: Segmentation fault; File .*ctypes"),
        ("exit", "verifier_crash", "exit code 3"),
        (f"hog {4 << 30}", "verifier_memory", "MemoryError"),
        ("raise hidden", "verifier_error", r"KeyError: 'hidden' \(verifier.py:\d+\)"),
        ("none", "verifier_error", "the verifier returned NoneType, no Verdict"),
    ],
)
def test_an_answer_that_breaks_the_verifier_is_invalid_and_the_next_is_judged(
    traps: Task, data: Path, answer: str, reason: str, words: str, sandbox: Sandbox
) -> None:
    warned: list[str] = []
    bounds = Bounds(judging=0.3, memory=1 << 30)
    with traps.verifier(None, data, bounds, warned.append) as verifier:
        (instance,) = verifier.instances("train", 1, 0)
        scorer = TextScorer(traps, verifier, sandbox)
        verdicts = scorer.score([(instance, text) for text in ("say before", answer, "say after", "say last")])
        assert [verdict.reason for verdict in verdicts] == ["ok", reason, "ok", "ok"]
        assert [verdict.feedback for verdict in verdicts] == ["'before'", SAID, "'after'", "'last'"]
        assert (verdicts[1].reward, verdicts[1].valid) == (0.0, False)
        (said,) = warned
        assert said.startswith(f"task traps: its verifier failed on an answer ({reason})")
        (fault,) = verifier.faults
        assert re.search(words, fault), fault


def test_a_verifier_that_fails_on_one_answer_after_the_other_stops_the_experiment(apart: ApartVerifier) -> None:
    (instance,) = apart.instances("train", 1, 0)
    assert tell(apart, "say hello") == "'hello'"
    answers = ["raise a", "raise b", "raise c", "say fine", "raise d", "raise e", "raise f", "raise g", "say never"]
    with pytest.raises(VerifierError, match=r"task traps: .* failed on 4 answers in a row, .*KeyError: 'g' \(verif"):
        apart.score_texts([(instance, answer) for answer in answers])
    assert tell(apart, "say again") == "'again'"


def test_a_probe_that_breaks_the_verifier_stops_the_experiment(
    apart: ApartVerifier, traps: Task, sandbox: Sandbox
) -> None:
    (instance,) = apart.instances("train", 1, 0)
    with pytest.raises(VerifierError, match=r"task traps: its verifier failed on probes: clumsy \(verifier_error\)"):
        assert_probes(TextScorer(traps, apart, sandbox), instance, [Probe("clumsy", "raise a probe")])


def test_what_the_task_raises_on_purpose_is_raised_and_never_scored(apart: ApartVerifier) -> None:
    for deed, kind in (("refuse", TaskError), ("machine", InfrastructureError)):
        with pytest.raises(kind, match=r"^in so many words$"):
            tell(apart, f"{deed} in so many words")
    with pytest.raises(
        VerifierError, match="task traps: its verifier fails in instances: KeyError: 'sealed'"
    ) as caught:
        apart.instances("sealed", 1, 0)
    assert caught.value.kind == "KeyError"


def test_a_tool_that_breaks_is_refused(apart: ApartVerifier) -> None:
    (instance,) = apart.instances("train", 1, 0)
    tools = apart.tools()
    assert tools is not None
    assert tools.call("double", instance, {"number": 4}) == {"doubled": 8, "secret": True}
    with pytest.raises(ValueError, match=r"^double takes number \(an int\)$"):
        tools.call("double", instance, {})
    with pytest.raises(ValueError, match=r"^stop: the tool broke on this call$"):
        tools.call("stop", instance, {})
    assert tools.call("double", instance, {"number": 5})["doubled"] == 10


def test_an_interrupted_question_leaves_no_answer_for_the_next(apart: ApartVerifier) -> None:
    (instance,) = apart.instances("train", 1, 0)

    class Enough(BaseException):
        pass

    def stop(signum, frame):
        raise Enough

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, 0.1)
    try:
        with pytest.raises(Enough):
            apart.score_text(instance, "hang")
    finally:
        signal.signal(signal.SIGALRM, before)
    assert tell(apart, "say next") == "'next'"


def test_a_verifier_that_changed_is_not_taken_up_again(tmp_path: Path, data: Path) -> None:
    task = make_traps(tmp_path)
    with task.verifier(None, data) as verifier:
        path = task.folder / "verifier.py"
        path.write_text(path.read_text().replace('= "traps", "none"', '= "other", "none"'))
        os.kill(verifier.pid, signal.SIGKILL)
        with pytest.raises(VerifierError, match="its verifier or its data changed while it ran"):
            verifier.instances("train", 1, 0)


def test_a_flood_of_output_stops_nobody(apart: ApartVerifier) -> None:
    assert tell(apart, "shout 3000000") == "6000000"


# --- confinement ------------------------------------------------------------------------------------------------


def test_no_key_of_the_host_is_in_reach(apart: ApartVerifier) -> None:
    assert tell(apart, "key SECRET_API_KEY") == "'unset'"
    assert tell(apart, "key HOME") != repr(os.environ.get("HOME"))
    assert "sia-flow-verifier-" in tell(apart, "key HOME")


def test_no_network_and_no_process(apart: ApartVerifier) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        assert tell(apart, f"connect {server.getsockname()[1]}") == "PermissionError 1"
    assert tell(apart, "pair") == "2"
    assert tell(apart, "start") == "PermissionError 1"
    assert tell(apart, "fork") == "PermissionError 1"
    assert tell(apart, f"kill {os.getpid()}") == "PermissionError 1"


@CONFINED
def test_nothing_but_its_own_is_read_or_written(apart: ApartVerifier, traps: Task, data: Path, tmp_path: Path) -> None:
    (tmp_path / "answers").write_text("secret")
    (traps.root / "notes.txt").write_text("secret")
    (data / "counts").write_text("1234567")
    home = Path.home()
    for deed in (
        f"read {tmp_path / 'answers'}",
        f"read {traps.root / 'notes.txt'}",
        f"read {ROOT / 'pyproject.toml'}",
        f"read /proc/{os.getpid()}/environ",
        "read /etc/passwd",
        f"list {home}",
        f"list {traps.root}",
        f"write {tmp_path / 'new'}",
        f"write {traps.folder / 'verifier.py'}",
        f"write {data / 'counts'}",
        f"write {home / 'sia-flow-was-here'}",
    ):
        assert tell(apart, deed) == "PermissionError 13", deed
    assert tell(apart, f"chmod {data / 'counts'}") == "PermissionError 1"
    assert tell(apart, f"read {data / 'counts'}") == "'1234'"
    assert tell(apart, f"read {traps.folder / 'task.md'}") == "'trap'"
    assert tell(apart, "scratch") == "2"


@CONFINED
def test_what_holds_it_is_told(apart: ApartVerifier) -> None:
    assert apart.confined == {"landlock": landlock.abi(), "seccomp": True}


def test_its_scratch_folder_and_its_process_go_with_it(traps: Task, data: Path) -> None:
    with traps.verifier(None, data) as verifier:
        pid, scratch = verifier.pid, Path(tell(verifier, "key HOME").strip("'"))
        assert scratch.is_dir()
    assert not scratch.exists()
    assert not Path(f"/proc/{pid}").exists()


HOST = """
import sys, time
from pathlib import Path
from sia_flow.verify.probes import Probe, assert_probes
from sia_flow.verify.task import load_task
verifier = load_task(Path(sys.argv[1]), "traps").verifier(None, Path(sys.argv[2]))
(instance,) = verifier.instances("train", 1, 0)
print(verifier.pid, flush=True)
verifier.score_text(instance, "hang")
"""


def test_it_dies_with_its_host_whatever_it_does(traps: Task, data: Path) -> None:
    """The regular expression holds the interpreter's lock, so nothing in the process itself could notice."""
    asked = [sys.executable, "-c", HOST, str(traps.root), str(data)]
    host = subprocess.Popen(asked, stdout=subprocess.PIPE, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)})
    child = int(host.stdout.readline())
    assert Path(f"/proc/{child}").exists()
    host.kill()
    host.wait()
    host.stdout.close()

    def gone():
        try:
            return Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
        except OSError:
            return True

    until(gone, 5.0)


# --- frames -----------------------------------------------------------------------------------------------------


def heard(*parts: bytes) -> wire.Message:
    data, start = b"".join(parts), 0

    def fill(view):
        nonlocal start
        if start + len(view) > len(data):
            raise EOFError
        view[:] = data[start : start + len(view)]
        start += len(view)

    return unpack(fill)


def framed(text: str | bytes, arrays: bytes = b"", size: int | None = None, part: int = 0) -> bytes:
    data = text if isinstance(text, bytes) else text.encode()
    return HEAD.pack(len(data), len(arrays) if size is None else size, part) + data + arrays


def test_a_message_comes_back_as_it_was() -> None:
    arrays = [np.arange(6, dtype="<f4").reshape(2, 3), np.array(3.5), np.zeros((0, 4), "<i8"), np.array([1j])]
    message = heard(*pack({"do": "x", "big": 10**40, "text": "å\n"}, arrays))
    assert message.header == {"do": "x", "big": 10**40, "text": "å\n"}
    assert [(a.dtype, a.shape, a.tobytes()) for a in message.arrays] == [
        (a.dtype, a.shape, a.tobytes()) for a in arrays
    ]


@pytest.mark.parametrize(
    "data",
    [
        framed("[]"),
        framed("{}"),
        framed('{"arrays":[],"arrays":[]}'),
        framed('{"a":NaN,"arrays":[]}'),
        framed('{"a":1e999,"arrays":[]}'),
        framed(b'{"a":"\xff","arrays":[]}'),
        framed('{"a":"\\ud800","arrays":[]}'),
        framed('{"arrays":[["<f8",[1]]]}', bytes(7)),
        framed('{"arrays":[["<f8",[-1]]]}', bytes(8)),
        framed('{"arrays":[["<f8",[true]]]}', bytes(8)),
        framed('{"arrays":[["<f8",[99999999999,99999999999]]]}', bytes(8)),
        framed('{"arrays":[["<f8",[0,1000000000000000000000000000000]]]}'),
        framed('{"arrays":[["<f8",[4611686018427387904,0,4]]]}'),
        framed('{"arrays":[["|O",[1]]]}', bytes(8)),
        framed('{"arrays":[["<f7",[1]]]}', bytes(7)),
        framed('{"arrays":[["<M8",[1]]]}', bytes(8)),
        framed('{"arrays":[["<f8"]]}', bytes(8)),
        framed("{" + '"a":[' * 100 + "]" * 100 + "}"),
        framed('{"arrays":[]}', part=9),
        framed('{"arrays":[["<f8",[1]]]}', size=8, part=1),
        HEAD.pack(2**31, 0, 0),
        HEAD.pack(2, 2**60, 0) + b"{}",
        HEAD.pack(2, wire.ROOM + 1, 1) + b"{}",
    ],
)
def test_what_is_no_message_is_refused_before_its_arrays_are_read(data: bytes) -> None:
    with pytest.raises(WireError):
        heard(data)


def test_what_cannot_be_said_is_refused(apart: ApartVerifier) -> None:
    for header, arrays in (
        ({"a": float("nan")}, ()),
        ({"a": {1}}, ()),
        ({}, [np.array(["text"])]),
        ({}, [np.array([{}])]),
    ):
        with pytest.raises(WireError):
            pack(header, arrays)
    (instance,) = apart.instances("train", 1, 0)
    items = [(instance, text) for text in ("say a", "say \ud800", "say b")]
    assert [verdict.reason for verdict in apart.score_texts(items)] == ["ok", "verifier_error", "ok"]


def test_nothing_is_unpickled_and_no_answer_can_be_forged_by_name(apart: ApartVerifier) -> None:
    folder = Path(wire.__file__).parent
    assert not [path for path in folder.glob("*.py") if "pickle" in path.read_text().replace("unpickled", "")]
    (instance,) = apart.instances("train", 1, 0)
    forged = replace(instance, drawn=replace(instance.drawn, index=7))
    assert apart.score(forged, np.zeros((2, 3))).reason == "verifier_error"
    assert json.loads(json.dumps(dict(instance.public))) == instance.public
