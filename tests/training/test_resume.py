import json
import multiprocessing
import os
import random
import signal
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from sia_flow.errors import TrainingError
from sia_flow.training.checkpoint import CheckpointStore
from sia_flow.training.trainer import pull
from sia_flow.training.types import PullConfig
from tests.training.world import Bandit, ToyPolicy, smooth_table

PLAN = PullConfig(iterations=6, learning_rate=1e-2)


def one_pull(work: Path, plan: PullConfig = PLAN):
    policy = ToyPolicy()
    update = pull(policy, Bandit(policy, smooth_table()).collect, plan, work)
    return policy.version, update


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A pull that nothing cut: version, update."""
    return one_pull(tmp_path_factory.mktemp("whole"))


class PullerError(Exception):
    """The collector was cut."""


def cut_pull(work: Path, at: int, plan: PullConfig = PLAN) -> None:
    """Pull until iteration `at`, then break off in the collector."""
    policy = ToyPolicy()
    bandit = Bandit(policy, smooth_table())

    def collect(iteration, seed):
        if iteration == at:
            raise PullerError
        return bandit.collect(iteration, seed)

    with pytest.raises(PullerError):
        pull(policy, collect, plan, work)


def adapter_bytes(folder: Path) -> bytes:
    return (folder / "adapter_model.safetensors").read_bytes()


def marks(work: Path) -> frozenset[str]:
    """Return all that a pull has in its folder, finished or half-written."""
    return frozenset(f"{folder}/{name}" for folder, _, names in os.walk(work) for name in ["", *names])


def test_a_pull_that_went_back_and_was_cut_ends_with_the_same_bits(tmp_path):
    plan = replace(PLAN, kl=0.0, max_kl=0.3, iterations=9, backtracks=2)
    version, whole = one_pull(tmp_path / "whole", plan)
    turn = next(k for k, step in enumerate(whole.steps) if step["kl_base"] > 0.3)
    for at in range(turn, min(turn + 3, len(whole.steps))):
        cut_pull(tmp_path / f"cut{at}", at, plan)
        assert one_pull(tmp_path / f"cut{at}", plan)[0] == version


@pytest.mark.slow
def test_killed_at_random_points_a_pull_ends_with_the_same_bits(tmp_path, whole):
    work, chance = tmp_path / "cut", random.Random(7)
    fork = multiprocessing.get_context("fork")
    kills = 0
    while not (work / "ending.json").exists():
        child = fork.Process(target=one_pull, args=(work,))
        child.start()
        before, changes, wanted = marks(work), 0, chance.randint(1, 3)
        while child.is_alive() and changes < wanted:
            now = marks(work)
            changes += now != before
            before = now
            child.join(chance.random() * 2e-3)
        if child.is_alive() and kills < 10:
            os.kill(child.pid, signal.SIGKILL)
            kills += 1
        child.join()
    again, resumed = one_pull(work)
    assert kills >= 2
    version, uncut = whole
    assert again == version
    assert adapter_bytes(resumed.adapter) == adapter_bytes(uncut.adapter)
    assert resumed.steps == uncut.steps
    assert resumed.updates == uncut.updates


@pytest.mark.parametrize("at", [0, 1, 4])
def test_cut_in_the_collector_a_pull_goes_on_with_the_same_bits(tmp_path, whole, at):
    cut_pull(tmp_path, at)
    assert one_pull(tmp_path)[0] == whole[0]


@pytest.mark.slow
@pytest.mark.parametrize("change", [{"algorithm": "ppo"}, {"engine": "trl"}], ids=["critic", "trl"])
def test_a_cut_pull_takes_up_its_critic_and_its_engine_with_the_same_bits(tmp_path, change):
    plan = replace(PLAN, iterations=3, **change)
    cut_pull(tmp_path / "cut", 2, plan)
    version, resumed = one_pull(tmp_path / "cut", plan)
    uncut_version, uncut = one_pull(tmp_path / "whole", plan)
    assert version == uncut_version
    assert resumed.steps == uncut.steps
    states = [CheckpointStore(w, _fingerprint(w)).load(3).tensors for w in (tmp_path / "cut", tmp_path / "whole")]
    assert states[0].keys() == states[1].keys()
    assert all(torch.equal(tensor, states[1][name]) for name, tensor in states[0].items())


def _fingerprint(work: Path) -> str:
    return json.loads((work / "steps" / "00003" / "state.json").read_text())["fingerprint"]


def test_a_resumed_pull_tells_of_earlier_steps_but_does_not_collect_them(tmp_path):
    cut_pull(tmp_path, 3)
    policy, collected, told = ToyPolicy(), [], []
    bandit = Bandit(policy, smooth_table())

    def collect(iteration, seed):
        collected.append(iteration)
        return bandit.collect(iteration, seed)

    pull(policy, collect, PLAN, tmp_path, lambda k, _: told.append(k))
    assert collected == [3, 4, 5]
    assert told == [0, 1, 2, 3, 4, 5]


def test_a_damaged_checkpoint_is_passed_over(tmp_path, whole):
    cut_pull(tmp_path, 4)
    newest = max((tmp_path / "steps").iterdir())
    tensors = newest / "tensors.safetensors"
    tensors.write_bytes(tensors.read_bytes()[:-8] + b"\0" * 8)
    assert one_pull(tmp_path)[0] == whole[0]


def test_half_a_checkpoint_is_not_seen_and_swept_away(tmp_path):
    cut_pull(tmp_path, 2)
    half = tmp_path / "steps" / ".00003"
    half.mkdir()
    (half / "state.json").write_text("{}")
    one_pull(tmp_path)
    assert not half.exists()


def test_checkpoints_that_no_rollback_needs_are_dropped(whole):
    _, update = whole
    best = max(range(6), key=lambda k: update.steps[k]["reward_mean"])
    kept = {place.name for place in (update.adapter.parent / "steps").iterdir()}
    assert kept == {f"{k:05d}" for k in (5, 6, best)}


def test_a_work_folder_of_other_settings_is_refused(tmp_path):
    cut_pull(tmp_path, 2)
    with pytest.raises(TrainingError, match="other settings or another start"):
        one_pull(tmp_path, PullConfig(iterations=7, learning_rate=1e-2))


def test_a_checkpoint_that_is_gone_is_named(tmp_path):
    cut_pull(tmp_path, 2)
    state = json.loads((tmp_path / "steps" / "00002" / "state.json").read_text())
    with pytest.raises(TrainingError, match="00009 is missing or damaged"):
        CheckpointStore(tmp_path, state["fingerprint"]).load(9)
