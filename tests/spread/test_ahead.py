"""What a worker that would wait draws of `best-of-n`: nothing that is not needed, and in the end all of it."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sia_flow.lineage.records import Generation, Spend
from sia_flow.lineage.results import ArmResult
from sia_flow.lineage.store import Store
from sia_flow.loop.control import chunks_for, draws_for
from sia_flow.spec.models import Experiment
from sia_flow.spread.ahead import Ahead
from sia_flow.spread.jobs import Job, Jobs
from tests.lineage.chain import make_chain
from tests.spread.world import SPEC

ARMS = ["SIA-H", "SIA-W+H", "best-of-n"]
FIRST = Spend(rollouts=128, completion_tokens=1280)
CONTROL = Job("best-of-n", 0)
H, W = Job("SIA-H", 0), Job("SIA-W+H", 0)


class World:
    """A store with one generation, a run of three arms, and what its workers would draw."""

    def __init__(self, store: Store, seeds: tuple[int, ...] = (0,)) -> None:
        self.spec = Experiment.model_validate(
            {**SPEC, "spec": {"task": {"name": "denoise"}, "arms": ARMS, "seeds": seeds}}
        ).spec
        self.store = store
        self.jobs = Jobs(self.spec.arms, seeds)
        self.ahead = Ahead(self.spec, store, self.jobs)
        self.result = next(store.arms())
        self.generation = store.generation(self.result.generations[0])

    def grow(self, job: Job, index: int, rollouts: int, tokens: int) -> Spend:
        """Let an arm have made a generation."""
        spend = Spend(rollouts=rollouts, completion_tokens=tokens) if index else FIRST
        self.ahead.heard(job, self.generation.model_copy(update={"index": index, "spend": spend, "seed": job.seed}))
        return spend

    def finish(self, job: Job, spend: Spend) -> ArmResult:
        """Let an arm have ended."""
        result = self.result.model_copy(update={"key": f"{job}", "arm": job.arm, "spend": spend})
        self.store.put_arm(result)
        self.jobs.done(job, result.key)
        return result

    def drawn(self) -> list[int]:
        """Take all that is handed out now."""
        found = []
        while (order := self.ahead.next()) is not None:
            assert order["draw"] == ["best-of-n", 0]
            assert order["scaffold"] == self.generation.scaffold
            found.append(order["chunk"])
        return found


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return make_chain(tmp_path_factory.mktemp("ahead"))


def test_nothing_is_drawn_before_the_first_generation_is_known(store: Store) -> None:
    world = World(store)
    assert world.drawn() == []
    world.jobs.next()
    world.grow(H, 0, 0, 0)
    assert world.drawn() == [0]
    assert world.drawn() == []


def test_it_follows_the_dearest_arm_and_ends_from_the_back(store: Store) -> None:
    world = World(store)
    assert [world.jobs.next(), world.jobs.next(), world.jobs.next()] == [H, W, None]
    world.grow(H, 0, 0, 0)
    world.grow(W, 0, 0, 0)
    world.grow(H, 1, 1000, 10_000)
    assert world.drawn() == [0, 1, 2]
    world.grow(W, 1, 2000, 20_000)
    assert world.drawn() == [3, 4]
    world.finish(H, Spend(rollouts=1128, completion_tokens=11_280))
    assert world.drawn() == []
    world.finish(W, Spend(rollouts=5000, completion_tokens=50_000))
    assert world.jobs.next() == CONTROL
    assert world.drawn() == [9, 8, 7, 6, 5]
    world.jobs.done(CONTROL, "key")
    assert world.ahead.next() is None


def test_an_arm_that_is_taken_up_is_not_counted_twice(store: Store) -> None:
    world = World(store)
    for _ in range(3):
        world.grow(W, 0, 0, 0)
        world.grow(W, 1, 1000, 10_000)
    assert world.drawn() == [0, 1, 2]


def test_after_a_fault_nothing_is_drawn(store: Store) -> None:
    world = World(store)
    world.grow(W, 0, 0, 0)
    world.ahead.stop()
    assert world.drawn() == []


def test_arms_that_had_ended_before_are_known_by_their_records(store: Store) -> None:
    world = World(store)
    first: Generation = world.generation
    for job in (H, W):
        assert world.jobs.next() == job
        world.finish(job, first.spend + Spend(rollouts=1500, completion_tokens=0))
    assert sorted(world.drawn()) == list(range(chunks_for(world.spec, 1500)))


@given(st.lists(st.tuples(st.sampled_from([H, W]), st.integers(0, 4000), st.integers(0, 90_000)), max_size=12))
def test_every_chunk_is_handed_out_once_and_none_too_many(store: Store, pulls: list[tuple[Job, int, int]]) -> None:
    world = World(store)
    world.jobs.next()
    world.jobs.next()
    spends = {job: world.grow(job, 0, 0, 0) for job in (H, W)}
    drawn = world.drawn()
    for number, (job, rollouts, tokens) in enumerate(pulls):
        spends[job] += world.grow(job, number + 1, rollouts, tokens)
        drawn += world.drawn()
    for job, spend in spends.items():
        world.finish(job, spend)
    # Generation 0 of the stored chain spent nothing; the count goes by the one that was heard of.
    drawn += world.drawn()
    needed = chunks_for(world.spec, draws_for(world.spec, FIRST, list(spends.values())))
    assert sorted(drawn) == list(range(needed))


def test_the_store_is_left_as_it_was(tmp_path: Path) -> None:
    store = make_chain(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    world = World(store)
    world.grow(W, 0, 0, 0)
    world.drawn()
    assert sorted(tmp_path.rglob("*")) == before
