"""Kills the writer of a store, cuts its last files short, fills its disk, and sees whether anything is ever lost.

Each trial ends in the records of a run that nothing happened to, or it is a finding. The work is a chain of steps,
generations, heads and a reading of the sealed split, without an engine, so that a trial takes a fraction of a second;
kills of whole `apply` runs are in tests/flows/test_kill.py.

Usage: crash.py [KILLS] [SEED]   (default: 200 0)
"""

from __future__ import annotations

import os
import random
import resource
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from sia_flow.canonical import derive_seed  # noqa: E402
from sia_flow.errors import StoreError  # noqa: E402
from sia_flow.lineage.check import check_store  # noqa: E402
from sia_flow.lineage.heads import Head, write_head  # noqa: E402
from sia_flow.lineage.readings import Reading, put_reading, readings  # noqa: E402
from sia_flow.lineage.records import Generation, Isolation, Score  # noqa: E402
from sia_flow.lineage.repair import mend  # noqa: E402
from sia_flow.lineage.results import ArmResult  # noqa: E402
from sia_flow.lineage.store import Step, StepOutput, Store  # noqa: E402
from sia_flow.sandbox.inside import linux  # noqa: E402

LENGTH = 6
"""Generations of the chain."""
REFUSED = 4
"""Exit code of a writer that was refused with a StoreError."""
KINDS = ("steps", "generations", "arms", "heads", "readings")


def work(root: Path) -> None:
    """Write the whole chain, or what is missing of it."""
    store = Store(root)
    made: list[Generation] = []
    for index in range(LENGTH):
        made.append(_generation(store, index, made[-1].id if made else None))
        ids = tuple(one.id for one in made)
        write_head(store, Head(experiment="e", arm="a", seed=0, generations=ids))
    if not readings(store, "a"):
        put_reading(store, Reading(arm_id="a", number=1, key="r", experiment="e", arm="a", seed=0, data="d"))
    ids, last = tuple(one.id for one in made), made[-1]
    common = {"select": last.select, "sealed": _score("sealed", 0.5), "incumbent": last.id, "generations": ids}
    store.put_arm(ArmResult(key="r", experiment="e", arm="a", seed=0, stopped="", **common))
    write_head(store, Head(experiment="e", arm="a", seed=0, generations=ids, result="r"))


def _generation(store: Store, index: int, parent: str | None) -> Generation:
    scaffold = store.objects.put_tree({"scaffold.py": f"N = {index}\n".encode(), "data.bin": _bytes(index, 40_000)})
    keys, trajectories = {}, ""
    for split in ("train", "select"):
        rollout = store.run(
            Step("rollout", 1, {"split": split}, {"scaffold": scaffold}, 0), lambda: _rolled(store, index)
        )
        trajectories = rollout.outputs["trajectories"]
        score = _score(split, index / 10).model_dump(mode="json")
        inputs = {"trajectories": trajectories, "scaffold": scaffold}
        verify = store.run(Step("verify", 1, {"split": split}, inputs, 0), lambda score=score: StepOutput({}, score))
        keys |= {f"rollout {split}": rollout.key, f"verify {split}": verify.key}
    generation = Generation(
        id=f"{index:064x}",
        index=index,
        parent=parent,
        seed=0,
        scaffold=scaffold,
        base="b",
        adapter=None,
        data="d",
        verifier="v",
        decision=None,
        train=_score("train", index / 10),
        select=_score("select", index / 10),
        accepted=True,
        verdict="",
        isolation=Isolation(level=2, backend="bubblewrap"),
        trajectories=trajectories,
        steps=keys,
    )
    store.put_generation(generation)
    return generation


def _rolled(store: Store, index: int) -> StepOutput:
    return StepOutput({"trajectories": store.objects.put_bytes(_bytes(1000 + index, 30_000))})


def _bytes(seed: int, size: int) -> bytes:
    return random.Random(seed).randbytes(size)


def _score(split: str, mean: float) -> Score:
    return Score.model_validate({"split": split, "n": 2, "mean": mean, "se": 0.1, "best": mean, "valid": 1.0})


def records(root: Path) -> dict[str, bytes]:
    """Return the records of a store by path."""
    paths = [path for kind in KINDS for path in sorted((root / kind).rglob("[!.]*.json"))]
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in paths}


def start(root: Path, before: Callable[[], object] = int) -> int:
    """Fork a process that does the work, after `before`; return its id."""
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        before()
        work(root)
        code = 0
    except StoreError:
        code = REFUSED
    finally:
        os._exit(code)


def ended(pid: int) -> int:
    """Wait for a process and return its exit code, negative for a signal."""
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


class Trials:
    """Trials of every kind, each in a store of its own. Raises AssertionError for a finding."""

    def __init__(self, place: Path, seed: int) -> None:
        self.place = place
        self.draw = random.Random(derive_seed("crash", seed))
        self.counts: Counter[str] = Counter()
        started = time.monotonic()
        assert ended(start(place / "whole")) == 0
        self.seconds = time.monotonic() - started
        self.expected = records(place / "whole")

    def fresh(self) -> Path:
        """Return the folder of a new store."""
        self.counts["stores"] += 1
        return self.place / str(self.counts["stores"])

    def finish(self, root: Path) -> None:
        """Let the work end, and hold the records against the expected ones."""
        assert ended(start(root)) == 0, f"{root} could not be finished"
        assert records(root) == self.expected, f"{root} holds other records"
        faults = [fault for fault in check_store(Store(root)).faults if fault.remedy != "remove"]
        assert faults == [], faults
        shutil.rmtree(root)

    def kills(self, count: int) -> None:
        """Kill at random points, so many times; what is there after a kill is whole."""
        done = 0
        while done < count:
            root, code = self.fresh(), 1
            while code != 0 and done < count:
                pid = start(root)
                moment = time.monotonic() + self.draw.random() * self.seconds
                while time.monotonic() < moment:
                    os.sched_yield()
                os.kill(pid, signal.SIGKILL)
                code = ended(pid)
                done += code != 0
                if (root / "VERSION").exists():
                    faults = [fault for fault in check_store(Store(root)).faults if fault.remedy != "remove"]
                    assert faults == [], faults
            self.finish(root)
        self.counts["kills"] += done

    def power_cuts(self, count: int) -> None:
        """Cut the last written files short, as a disk does that lied about what it had synced; mend, and finish."""
        for _ in range(count):
            root = self.fresh()
            assert ended(start(root)) == 0
            files = sorted((p for p in root.rglob("*") if p.is_file()), key=lambda path: path.stat().st_mtime_ns)
            for path in files[-self.draw.randint(1, 12) :]:
                if path.name != "VERSION" and "readings" not in path.parts:
                    os.truncate(path, self.draw.randrange(path.stat().st_size + 1))
            store = Store(root)
            assert [fault for fault in mend(store, check_store(store).faults) if fault.remedy != "none"] == []
            self.finish(root)
            self.counts["power cuts"] += 1

    def full_disks(self, count: int) -> None:
        """Let no file grow beyond some bytes: the writer is refused by name, or was done."""
        for _ in range(count):
            root, size = self.fresh(), self.draw.choice([0, 1, 100, 600, 3000, 20_000, 35_000])
            code = ended(start(root, lambda size=size: _limit_files(size)))
            assert code in (0, REFUSED), f"a full disk gave exit code {code}"
            self.finish(root)
            self.counts["full disks"] += 1

    def read_only(self) -> None:
        """Work on a store that cannot be written: refused where something is missing, and nothing changes."""
        root = self.fresh()
        (root / "steps").mkdir(parents=True)
        (root / "VERSION").write_text("1\n")
        if os.geteuid() == 0:
            code = ended(start(root, lambda: _mount_read_only(root)))
        else:
            for folder in (root / "steps", root):
                folder.chmod(0o500)
            code = ended(start(root))
            for folder in (root, root / "steps"):
                folder.chmod(0o700)
        assert code == REFUSED, f"a read-only store gave exit code {code}"
        assert records(root) == {}
        self.finish(root)
        self.counts["read-only stores"] += 1

    def clock_jumps(self, count: int) -> None:
        """Let the wall clock go anywhere while the work is done."""
        for _ in range(count):
            root, draw = self.fresh(), random.Random(self.draw.random())
            assert ended(start(root, lambda draw=draw: setattr(time, "time", lambda: draw.uniform(0, 4e9)))) == 0
            self.finish(root)
            self.counts["clock jumps"] += 1

    def two_hosts(self, count: int) -> None:
        """Let two writers that do not see each other's locks work on one store, and kill one of them."""
        for number in range(count):
            root = self.fresh()
            first, second = start(root), start(root)
            if number % 2:
                os.kill(second, signal.SIGKILL)
            assert (ended(first), ended(second) in (0, -signal.SIGKILL)) == (0, True)
            self.finish(root)
            self.counts["two hosts"] += 1


def _limit_files(size: int) -> None:
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


def _mount_read_only(root: Path) -> None:
    linux.unshare(linux.CLONE_NEWNS)
    linux.private_mounts()
    linux.mount(str(root), str(root), flags=linux.MS_BIND)
    linux.mount(str(root), str(root), flags=linux.MS_BIND | linux.MS_REMOUNT | linux.MS_RDONLY)


def run(place: Path, kills: int, seed: int) -> Counter[str]:
    """Do all trials in a folder and return how many of each there were."""
    trials = Trials(place, seed)
    trials.kills(kills)
    trials.power_cuts(max(5, kills // 10))
    trials.full_disks(max(5, kills // 10))
    trials.read_only()
    trials.clock_jumps(3)
    trials.two_hosts(max(4, kills // 20))
    return trials.counts


def main() -> None:
    """Print how many trials there were; a finding ends in a traceback."""
    kills, seed = ([int(argument) for argument in sys.argv[1:]] + [200, 0][len(sys.argv) - 1 :])[:2]
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="sia-flow-crash-") as folder:
        counts = run(Path(folder), kills, seed)
    print(", ".join(f"{count} {name}" for name, count in counts.items()))
    print(f"no finding in {time.monotonic() - started:.0f} s")


if __name__ == "__main__":
    main()
