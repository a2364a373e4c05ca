import json
from dataclasses import replace

import pytest
import torch
from peft import PeftModel
from transformers import GptOssForCausalLM

from sia_flow.errors import TrainingError
from sia_flow.training import trainer
from sia_flow.training.algorithms import ALGORITHMS
from sia_flow.training.trainer import pull
from sia_flow.training.types import Episode, PullConfig
from sia_flow.training.update import update as step_once
from tests.training.world import PROMPTS, VOCAB, Bandit, ToyPolicy, smooth_table

METRICS = {
    "reward_mean",
    "reward_max",
    "valid_rate",
    "kl_base",
    "entropy",
    "dead_groups",
    "groups",
    "tokens",
    "sampler_gap",
    "loss",
    "grad_norm",
    "clip_fraction",
    "ess",
    "updates",
}


def run(work, plan, reward=None, policy=None, on_step=None):
    """Pull on the smooth bandit, with episodes changed by `reward(iteration, episode)` on the way."""
    policy = policy or ToyPolicy()
    bandit = Bandit(policy, smooth_table())

    def collect(iteration, seed):
        found = bandit.collect(iteration, seed)
        return found if reward is None else [reward(iteration, episode) for episode in found]

    return policy, pull(policy, collect, plan, work, on_step)


@pytest.mark.parametrize("algorithm", sorted(ALGORITHMS))
def test_only_the_adapter_moves_and_metrics_are_whole(tmp_path, algorithm):
    fresh = ToyPolicy()
    policy, update = run(tmp_path, PullConfig(algorithm, iterations=2, learning_rate=1e-2))
    assert policy.base_bytes() == fresh.base_bytes()
    for (name, moved), (_, still) in zip(policy.adapter(), fresh.adapter(), strict=True):
        assert "lora_A" in name or not torch.equal(moved, still), name
    names = METRICS | ({"value_loss", "explained_variance"} if ALGORITHMS[algorithm].critic else set())
    assert [set(step) for step in update.steps] == [names, names]
    assert update.steps[0]["kl_base"] == 0.0 < update.steps[1]["kl_base"]
    assert update.steps[0]["sampler_gap"] < 1e-5
    assert update.updates == 2 * ALGORITHMS[algorithm].epochs


def test_the_saved_adapter_is_the_policy(tmp_path):
    policy, update = run(tmp_path, PullConfig(iterations=2, learning_rate=1e-2))
    base = GptOssForCausalLM(policy.model.get_base_model().config)
    base.load_state_dict(ToyPolicy().model.unload().state_dict())
    loaded = PeftModel.from_pretrained(base, update.adapter).eval()
    ids = torch.tensor([PROMPTS[1]])
    assert torch.equal(loaded(input_ids=ids).logits, policy.model(input_ids=ids).logits)


def test_equal_pulls_give_equal_bits_whatever_torch_was_set_to(tmp_path):
    plan = PullConfig(iterations=3, learning_rate=1e-2)
    first, one = run(tmp_path / "a", plan)
    torch.set_num_threads(2)
    torch.manual_seed(99)
    try:
        second, two = run(tmp_path / "b", plan)
        assert torch.get_num_threads() == 2
        assert not torch.are_deterministic_algorithms_enabled()
    finally:
        torch.set_num_threads(1)
    other, _ = run(tmp_path / "c", replace(plan, seed=1))
    assert first.version == second.version != other.version
    assert one.steps == two.steps


def test_no_spread_anywhere_is_skipped_not_a_success(tmp_path):
    start = ToyPolicy().version
    policy, update = run(tmp_path, PullConfig(iterations=2), lambda _, e: replace(e, reward=0.4))
    assert update.status == "skipped"
    assert update.updates == 0
    assert "different rewards" in update.note
    assert [step["dead_groups"] for step in update.steps] == [2.0, 2.0]
    assert policy.version == start


def test_a_dead_group_does_not_touch_the_update(tmp_path):
    def only_first(_, episode):
        return episode if episode.group == "prompt-0" else replace(episode, reward=0.4)

    def first_alone(_, episode):
        return episode if episode.group == "prompt-0" else replace(episode, turns=(), reward=0.4)

    plan = PullConfig(iterations=1, learning_rate=1e-2)
    policy, update = run(tmp_path / "a", plan, only_first)
    alone, _ = run(tmp_path / "b", plan, first_alone)
    assert update.steps[0]["dead_groups"] == 1.0
    for (name, one), (_, two) in zip(policy.adapter(), alone.adapter(), strict=True):
        assert torch.allclose(one, two, atol=1e-6), name


def test_a_pull_stops_at_the_divergence_limit_and_goes_back(tmp_path):
    plan = PullConfig(iterations=30, learning_rate=1e-2, kl=0.0, max_kl=1.0)
    policy, update = run(tmp_path, plan)
    assert update.status == "stopped"
    assert "max_kl 1" in update.note
    assert update.steps[-1]["kl_base"] > 1.0
    kept = json.loads((tmp_path / "ending.json").read_text())["kept"]
    assert kept == max(range(len(update.steps) - 1), key=lambda k: update.steps[k]["reward_mean"])
    assert update.updates == 2 * kept
    again = ToyPolicy()
    _, shorter = run(tmp_path / "short", replace(plan, iterations=max(kept, 1)), policy=again)
    assert kept > 0
    assert shorter.updates == update.updates
    assert again.version == policy.version


def test_a_pull_may_go_on_from_its_best_adapter(tmp_path):
    plan = PullConfig(iterations=30, learning_rate=1e-2, kl=0.0, max_kl=1.0)
    _, cut = run(tmp_path / "cut", plan)
    best, turn = json.loads((tmp_path / "cut/ending.json").read_text())["kept"], len(cut.steps) - 1
    _, update = run(tmp_path / "on", replace(plan, iterations=turn + 2, backtracks=1))
    assert update.steps[: turn + 1] == cut.steps
    assert update.steps[turn + 1]["kl_base"] == pytest.approx(cut.steps[best]["kl_base"], rel=0.2)
    assert (update.status, update.updates) == ("ok", 2 * (best + 1))
    assert "at half the rate: 1" in update.note


@pytest.mark.parametrize(("bad", "rates"), [({2, 4}, [8, 8, 4, 2]), ({2, 3, 4}, [8, 8, 1]), ({2, 3, 4, 5}, [8, 8])])
def test_each_way_back_halves_the_rate(tmp_path, monkeypatch, bad, rates):
    taken = []

    def note(backend, credited, settings, rate):
        taken.append(rate * 1e3)
        return step_once(backend, credited, settings, rate)

    monkeypatch.setattr(trainer, "update", note)
    plan = PullConfig(iterations=6, learning_rate=8e-3, backtracks=3)
    _, found = run(tmp_path, plan, lambda i, e: replace(e, valid=i not in bad))
    assert taken == pytest.approx(rates)
    assert found.status == ("stopped" if len(bad) > 3 else "ok")


def test_a_pull_that_begins_outside_its_limits_does_not_go_back(tmp_path):
    _, first = run(tmp_path / "a", PullConfig(iterations=9, learning_rate=1e-2, kl=0.0, max_kl=0.5))
    assert first.status == "stopped"
    policy = ToyPolicy()
    _, far = run(tmp_path / "b", PullConfig(iterations=9, learning_rate=1e-2, kl=0.0), policy=policy)
    assert far.steps[-1]["kl_base"] > 0.5
    _, update = run(tmp_path / "c", PullConfig(iterations=4, max_kl=0.1, backtracks=3), policy=policy)
    assert (update.status, len(update.steps), update.updates) == ("stopped", 1, 0)


def test_a_collapse_of_validity_stops_the_pull(tmp_path):
    def collapse(iteration, episode):
        return replace(episode, valid=iteration < 3)

    _, update = run(tmp_path, PullConfig(iterations=9), collapse)
    assert update.status == "stopped"
    assert len(update.steps) == 4
    assert "valid answers fell to 0.00 from 1.00" in update.note


def test_low_validity_from_the_start_is_no_collapse(tmp_path):
    _, update = run(tmp_path, PullConfig(iterations=2), lambda _, e: replace(e, valid=False))
    assert update.status == "ok"


def test_a_broken_number_keeps_the_last_good_adapter(tmp_path):
    policy = ToyPolicy()
    versions = [policy.version]

    def poison(iteration, step):
        versions.append(policy.version)
        if iteration == 2:
            with torch.no_grad():
                dict(policy.adapter())[policy.adapter()[0][0]].fill_(float("nan"))

    bandit = Bandit(policy, smooth_table())

    def collect(iteration, seed):
        donor = bandit if iteration < 3 else Bandit(ToyPolicy(), smooth_table())
        version = policy.version
        return [
            replace(e, turns=tuple(t.model_copy(update={"policy": version}) for t in e.turns))
            for e in donor.collect(iteration, seed)
        ]

    update = pull(policy, collect, PullConfig(iterations=9), tmp_path, poison)
    assert update.status == "nan"
    assert "not finite" in update.note
    assert all(torch.isfinite(p).all() for _, p in policy.adapter())
    assert policy.version in versions[:3]


def test_an_exploding_step_is_undone(tmp_path):
    policy, update = run(tmp_path, PullConfig(iterations=3, learning_rate=1e30))
    assert update.status == "nan"
    assert update.updates == 0
    assert policy.version == ToyPolicy().version


def test_a_finished_pull_is_not_run_again(tmp_path):
    plan = PullConfig(iterations=2)
    policy, first = run(tmp_path, plan)
    told = []

    def unwanted(iteration, seed):
        raise AssertionError

    fresh = ToyPolicy()
    second = pull(fresh, unwanted, plan, tmp_path, lambda k, step: told.append((k, step)))
    assert second == first
    assert fresh.version == policy.version
    assert told == list(enumerate(first.steps))


def test_refusals_cost_no_step(tmp_path):
    policy = ToyPolicy()
    turn = policy.sample(PROMPTS[0], 1, 0)[0]
    start = policy.version

    def refused(match, plan, episodes):
        with pytest.raises(TrainingError, match=match):
            pull(policy, lambda *_: episodes, plan, tmp_path / match.replace(" ", "-"))
        assert policy.version == start

    lone = [Episode("a", (turn,), 1.0, True), Episode("b", (turn,), 0.0, True)]
    refused("unknown algorithm", PullConfig("grop"), lone)
    refused("groups of at least 2", PullConfig("grpo"), lone)
    refused("groups of at least 3", PullConfig("entropic"), [replace(e, group="a") for e in lone])
    refused("no episode", PullConfig(), [])
    refused("iterations is 0", PullConfig(iterations=0), lone)
    refused("kl is -1", PullConfig(kl=-1.0), lone)
    stranger = Episode("a", (turn.model_copy(update={"policy": "other"}),), 1.0, True)
    refused("sampled by policy other", PullConfig(), [stranger, lone[0]])


def test_the_menu_is_named_in_the_refusal(tmp_path):
    with pytest.raises(TrainingError, match="ppo, grpo, entropic, entropic_ess, reinforce_kl, dpo, best_of_n_bc"):
        run(tmp_path, PullConfig("ppo2"))


def test_only_an_adapter_may_be_trainable(tmp_path):
    frozen = ToyPolicy()
    for _, parameter in frozen.adapter():
        parameter.requires_grad_(False)
    with pytest.raises(TrainingError, match="no trainable adapter"):
        run(tmp_path / "a", PullConfig(), policy=frozen)
    loose = ToyPolicy()
    loose.model.get_base_model().lm_head.weight.requires_grad_(True)
    with pytest.raises(TrainingError, match=r"lm_head\.weight is a base weight"):
        run(tmp_path / "b", PullConfig(), policy=loose)


def test_a_reward_is_shared_by_all_turns_of_its_episode(tmp_path):
    policy = ToyPolicy()
    table = torch.zeros(2, VOCAB, dtype=torch.float64)
    table[:, 5] = 1.0

    def collect(iteration, seed):
        firsts, seconds = (policy.sample(p, 32, seed + i, 1) for i, p in enumerate(PROMPTS))
        return [
            Episode("g", (a, b), float(table[0, a.completion_ids[0]] + table[1, b.completion_ids[0]]), True)
            for a, b in zip(firsts, seconds, strict=True)
        ]

    before = policy.value(table)
    pull(policy, collect, PullConfig(iterations=10, learning_rate=2e-2), tmp_path)
    assert policy.value(table) > before + 0.3
