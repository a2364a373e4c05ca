"""The tiny base: a normal checkpoint, the same bytes each time, that has learnt its corpus."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, GptOssForCausalLM

from sia_flow.errors import TrainingError
from sia_flow.policy.local import LocalPolicy
from sia_flow.policy.tiny import TinyConfig, build_tiny
from sia_flow.policy.warmup import Schedule, batches, tensors
from tests.policy.world import SMALL, corpus, request_for

SHORT = replace(SMALL, schedule=Schedule(steps=4, batch=8))


def test_is_a_normal_checkpoint_of_gpt_oss(base: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(base, local_files_only=True)
    assert isinstance(model, GptOssForCausalLM)
    assert model.config.layer_types == ["sliding_attention", "full_attention"]
    assert 100_000 < sum(p.numel() for p in model.parameters()) < 300_000
    assert AutoTokenizer.from_pretrained(base).chat_template
    assert str(base.parent) not in "".join(file.read_text() for file in base.glob("*.json"))


def test_equal_seeds_give_equal_bytes(pairs: list[tuple[str, str]], tmp_path: Path) -> None:
    def build(name: str, config: TinyConfig, threads: int) -> dict[str, bytes]:
        torch.manual_seed(threads)
        torch.set_num_threads(threads)
        build_tiny(pairs[:200], tmp_path / name, config)
        return {file.name: file.read_bytes() for file in (tmp_path / name).iterdir()}

    threads = torch.get_num_threads()
    try:
        first, second = build("a", SHORT, 1), build("b", SHORT, 2)
        other = build("c", replace(SHORT, seed=1), 1)
    finally:
        torch.set_num_threads(threads)
    assert first == second
    assert first["model.safetensors"] != other["model.safetensors"]
    assert set(first) >= {"config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json"}


def test_leaves_torch_as_it_was(pairs: list[tuple[str, str]], tmp_path: Path) -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    build_tiny(pairs[:50], tmp_path / "base", SHORT)
    assert torch.equal(torch.rand(3), expected)
    assert not torch.are_deterministic_algorithms_enabled()


def test_replaces_an_older_base(pairs: list[tuple[str, str]], tmp_path: Path) -> None:
    (tmp_path / "base").mkdir()
    (tmp_path / "base" / "stale.safetensors").write_bytes(b"old")
    build_tiny(pairs[:50], tmp_path / "base", SHORT)
    assert [file.name for file in tmp_path.iterdir()] == ["base"]
    assert not (tmp_path / "base" / "stale.safetensors").exists()


def test_has_learnt_the_language(policy: LocalPolicy) -> None:
    completions = policy.sample([request_for(n=400, seed=1)])[0]
    language = {program for _, program in corpus(7, 4000)}
    inside = Counter(completion.text in language for completion in completions)
    assert inside[True] >= 380
    log_share = sum("np.log1p" in completion.text for completion in completions) / 400
    assert log_share == pytest.approx(0.2, abs=0.08)


def test_a_program_takes_few_tokens(policy: LocalPolicy) -> None:
    assert max(len(c.completion_ids) for c in policy.sample([request_for(n=50)])[0] if c.finish == "stop") <= 16


def test_reports_progress(pairs: list[tuple[str, str]], tmp_path: Path) -> None:
    seen: list[tuple[int, int, float]] = []
    build_tiny(pairs, tmp_path / "base", SHORT, lambda *step: seen.append(step))
    assert [step[:2] for step in seen] == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert seen[-1][2] < seen[0][2]


def test_refuses_what_it_cannot_learn(pairs: list[tuple[str, str]], tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="at least one"):
        build_tiny([], tmp_path / "base", SHORT)
    with pytest.raises(TrainingError, match="context"):
        build_tiny([("prompt", "z" * 600)], tmp_path / "base", SHORT)
    assert not list(tmp_path.iterdir())


def test_loss_is_on_the_completion_alone() -> None:
    ids, labels = tensors([([5, 6], [7, 2]), ([5], [8, 9, 2])])
    assert ids.tolist() == [[5, 6, 7, 2], [5, 8, 9, 2]]
    assert labels.tolist() == [[-100, -100, 7, 2], [-100, 8, 9, 2]]
    assert tensors([([5], [2]), ([5], [8, 2])])[1].tolist() == [[-100, 2, -100], [-100, 8, 2]]


def test_an_epoch_holds_every_row_once() -> None:
    rows = [([i] * (i % 7 + 1), [2]) for i in range(100)]
    stream = batches(rows, size=8, seed=0)
    epoch = [row[0][0] for _ in range(13) for row in next(stream)]
    assert sorted(epoch) == list(range(100))
    assert json.dumps(epoch) != json.dumps([row[0][0] for _ in range(13) for row in next(stream)])


def test_a_prompt_that_is_everywhere_gets_its_share_of_an_epoch() -> None:
    rows = [([1], [i]) for i in range(90)] + [([2, i], [2]) for i in range(30)]
    stream = batches(rows, size=10, seed=0, common=0.4)
    epochs = [[row for _ in range(5) for row in next(stream)] for _ in range(20)]
    for epoch in epochs:
        assert sum(prompt == [1] for prompt, _ in epoch) == 20
        assert len({prompt[1] for prompt, _ in epoch if prompt != [1]}) == 30
    assert len({done[0] for epoch in epochs for prompt, done in epoch if prompt == [1]}) > 80
