"""The trainer on the package's own policy: sampled by its sampler, trained, saved, loaded."""

import pytest

from sia_flow.lineage.records import Turn
from sia_flow.policy.adapters import LoraConfig
from sia_flow.policy.local import LocalPolicy
from sia_flow.policy.tiny import build_tiny
from sia_flow.training.trainer import pull
from sia_flow.training.types import Episode, PullConfig
from tests.policy.world import SMALL, corpus, request_for

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models") / "tiny"
    build_tiny(corpus(0, 400), folder, SMALL)
    return folder


def rollouts(policy: LocalPolicy, n: int, seed: int) -> list[Episode]:
    """Sample programs and pay for the rare transform."""
    request = request_for(n=n, seed=seed)
    (answers,) = policy.sample([request])
    version = policy.version
    return [
        Episode(
            "one",
            (
                Turn(
                    messages=request.messages,
                    text=answer.text,
                    prompt_ids=answer.prompt_ids,
                    completion_ids=answer.completion_ids,
                    logprobs=answer.logprobs,
                    temperature=request.temperature,
                    finish=answer.finish,
                    policy=version,
                ),
            ),
            float("log1p" in answer.text),
            valid=answer.finish == "stop",
        )
        for answer in answers
    ]


def test_a_pull_on_the_tiny_base_makes_the_rare_program_common(base, tmp_path):
    policy = LocalPolicy.load(base, lora=LoraConfig(), trainable=True)
    plan = PullConfig(iterations=15, learning_rate=5e-3)
    update = pull(policy, lambda _, seed: rollouts(policy, 32, seed), plan, tmp_path)
    assert update.status == "ok"
    assert update.steps[0]["reward_mean"] < 0.45
    assert max(step["sampler_gap"] for step in update.steps) < 1e-4
    loaded = LocalPolicy.load(base, adapter=update.adapter)
    assert loaded.version == policy.version
    after = rollouts(loaded, 128, 1)
    assert sum(episode.reward for episode in after) / 128 > 0.8
    assert [e.turns for e in after] == [e.turns for e in rollouts(policy, 128, 1)]


@pytest.mark.parametrize("change", [{"algorithm": "ppo"}, {"engine": "trl"}], ids=["critic", "trl"])
def test_sampler_and_trainer_stay_one_policy_under_a_critic_and_under_trl(base, tmp_path, change):
    policy = LocalPolicy.load(base, lora=LoraConfig(), trainable=True)
    plan = PullConfig(iterations=3, learning_rate=5e-3, **change)
    update = pull(policy, lambda _, seed: rollouts(policy, 32, seed), plan, tmp_path)
    assert update.updates == 6
    assert max(step["sampler_gap"] for step in update.steps) < 1e-4
    loaded = LocalPolicy.load(base, adapter=update.adapter)
    assert loaded.version == policy.version
    assert rollouts(loaded, 4, 1) == rollouts(policy, 4, 1)
