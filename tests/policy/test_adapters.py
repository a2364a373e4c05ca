"""An adapter is the same bytes wherever it is, fits its base exactly, and never touches the base."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import peft
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

from sia_flow.errors import TrainingError
from sia_flow.policy.adapter_files import adapter_digest, read_tensors
from sia_flow.policy.adapters import LoraConfig
from sia_flow.policy.local import LocalPolicy
from sia_flow.policy.rows import TokenRows
from sia_flow.policy.tiny import build_tiny
from sia_flow.policy.warmup import Schedule
from tests.policy.world import SMALL, moved, request_for

ROWS = TokenRows(((1, 3, 30, 4), (1, 3, 4)), ((261, 262, 2), (263, 2)))


def logits(policy: LocalPolicy) -> torch.Tensor:
    with torch.no_grad():
        return policy.logits(ROWS)


@pytest.fixture
def saved(moved_policy: LocalPolicy, tmp_path: Path) -> Path:
    moved_policy.save_adapter(tmp_path / "adapter")
    return tmp_path / "adapter"


def test_a_fresh_adapter_changes_nothing(base: Path, policy: LocalPolicy) -> None:
    fresh = LocalPolicy.load(base, lora=LoraConfig(), trainable=True)
    assert torch.equal(logits(fresh), logits(policy))
    assert fresh.sample([request_for(n=4)]) == policy.sample([request_for(n=4)])


def test_a_fresh_adapter_depends_on_its_seed_alone(base: Path) -> None:
    torch.manual_seed(1)
    first = LocalPolicy.load(base, lora=LoraConfig(seed=3)).version
    torch.manual_seed(2)
    assert LocalPolicy.load(base, lora=LoraConfig(seed=3)).version == first
    assert LocalPolicy.load(base, lora=LoraConfig(seed=4)).version != first


def test_save_and_load_keep_every_bit(base: Path, moved_policy: LocalPolicy, saved: Path) -> None:
    loaded = LocalPolicy.load(base, saved)
    assert torch.equal(logits(loaded), logits(moved_policy))
    assert loaded.version == moved_policy.version
    assert loaded.sample([request_for(n=8)]) == moved_policy.sample([request_for(n=8)])
    assert not any(parameter.requires_grad for parameter in loaded.model.parameters())


def test_the_digest_is_one_in_memory_and_on_disk(base: Path, moved_policy: LocalPolicy, saved: Path) -> None:
    assert adapter_digest(saved) == moved_policy.adapter_digest()
    LocalPolicy.load(base, saved).save_adapter(saved.parent / "again")
    assert adapter_digest(saved.parent / "again") == adapter_digest(saved)


@pytest.mark.slow
def test_files_do_not_depend_on_the_process(base: Path, tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from sia_flow.policy.local import LocalPolicy;"
        "from sia_flow.policy.adapters import LoraConfig;"
        "LocalPolicy.load(Path(sys.argv[1]), lora=LoraConfig(seed=5)).save_adapter(Path(sys.argv[2]))"
    )
    LocalPolicy.load(base, lora=LoraConfig(seed=5)).save_adapter(tmp_path / "here")
    env = os.environ | {"PYTHONHASHSEED": "1", "PYTHONPATH": str(Path(__file__).parents[2])}
    subprocess.run([sys.executable, "-c", code, str(base), str(tmp_path / "there")], check=True, env=env)
    first, second = ({f.name: f.read_bytes() for f in (tmp_path / at).iterdir()} for at in ("here", "there"))
    assert first == second
    assert set(first) == {"adapter_config.json", "adapter_model.safetensors", "base.json"}
    assert str(tmp_path.parent).encode() not in first["adapter_config.json"]


def test_peft_reads_the_folder(base: Path, moved_policy: LocalPolicy, saved: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(base, attn_implementation="eager")
    model = peft.PeftModel.from_pretrained(model, saved).eval()
    ids = torch.tensor([[1, 3, 30, 4, 261, 262]])
    with torch.no_grad():
        assert torch.equal(model(input_ids=ids).logits, moved_policy.model(input_ids=ids).logits)


@pytest.mark.parametrize(
    ("targets", "reached"),
    [(("attention",), {"self_attn"}), (("experts",), {"mlp"}), (None, {"self_attn", "mlp"})],
)
def test_targets_choose_the_weights(base: Path, targets: tuple[str, ...] | None, reached: set[str]) -> None:
    lora = LoraConfig(rank=2, targets=targets) if targets else LoraConfig(rank=2)
    policy = LocalPolicy.load(base, lora=lora, trainable=True)
    names = [name for name, parameter in policy.model.named_parameters() if parameter.requires_grad]
    assert {part for name in names for part in ("self_attn", "mlp") if part in name} == reached


def test_training_moves_the_adapter_and_only_that(base: Path, saved: Path) -> None:
    policy = LocalPolicy.load(base, saved, LoraConfig(), trainable=True)
    before = {name: p.detach().clone() for name, p in policy.model.named_parameters()}
    trained = [p for p in policy.model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-2)
    loss = -policy.logprobs(ROWS).sum()
    loss.backward()
    optimizer.step()
    for name, parameter in policy.model.named_parameters():
        assert torch.equal(parameter, before[name]) == ("lora_" not in name), name
    assert -policy.logprobs(ROWS).sum() < loss


def test_sampling_never_writes_the_base(base: Path, moved_policy: LocalPolicy) -> None:
    weights = load_file(base / "model.safetensors")
    for _ in range(3):
        moved_policy.refresh()
        moved_policy.sample([request_for(n=2)])
    own = {n.replace(".base_layer", ""): p for n, p in moved_policy.model.get_base_model().named_parameters()}
    for name, tensor in weights.items():
        assert torch.equal(own[name], tensor), name


def test_restore_goes_back(base: Path, moved_policy: LocalPolicy, saved: Path) -> None:
    other = moved(base, seed=9)
    assert other.version != moved_policy.version
    other.restore_adapter(saved)
    assert torch.equal(logits(other), logits(moved_policy))
    assert other.sample([request_for(n=4)]) == moved_policy.sample([request_for(n=4)])
    assert any(parameter.requires_grad for parameter in other.model.parameters())


def rewrite(folder: Path, change: str) -> None:
    tensors = load_file(folder / "adapter_model.safetensors")
    name = min(tensors)
    if change == "missing":
        del tensors[name]
    elif change == "surplus":
        tensors["base_model.model.extra.weight"] = torch.zeros(1)
    else:
        tensors[name] = torch.zeros(2, 2)
    save_file(tensors, folder / "adapter_model.safetensors")


@pytest.mark.parametrize(("change", "words"), [("missing", "lacks"), ("surplus", "unexpected"), ("shape", "shape")])
def test_tensors_must_match(base: Path, saved: Path, change: str, words: str) -> None:
    tensor = "extra.weight" if change == "surplus" else min(read_tensors(saved))
    rewrite(saved, change)
    with pytest.raises(TrainingError, match=words) as refusal:
        LocalPolicy.load(base, saved)
    assert tensor in str(refusal.value)


def test_another_base_is_refused(saved: Path, pairs: list[tuple[str, str]], tmp_path: Path) -> None:
    build_tiny(pairs[:50], tmp_path / "other", replace(SMALL, schedule=Schedule(steps=1, batch=8)))
    with pytest.raises(TrainingError, match="was made for the base"):
        LocalPolicy.load(tmp_path / "other", saved)


def test_other_settings_are_refused(base: Path, saved: Path) -> None:
    LocalPolicy.load(base, saved, LoraConfig(seed=7))
    with pytest.raises(TrainingError, match=r"policy\.lora"):
        LocalPolicy.load(base, saved, LoraConfig(rank=4))


@pytest.mark.parametrize("name", ["adapter_config.json", "adapter_model.safetensors"])
def test_a_damaged_folder_is_refused(base: Path, saved: Path, name: str) -> None:
    (saved / name).write_bytes(b"{")
    with pytest.raises(TrainingError, match="cannot read"):
        LocalPolicy.load(base, saved)


def test_an_adapter_of_another_kind_is_refused(base: Path, saved: Path) -> None:
    config = json.loads((saved / "adapter_config.json").read_text())
    (saved / "adapter_config.json").write_text(json.dumps(config | {"peft_type": "IA3"}))
    with pytest.raises(TrainingError, match="IA3"):
        LocalPolicy.load(base, saved)
    with pytest.raises(TrainingError, match="not an adapter folder"):
        adapter_digest(base)


def test_a_policy_without_an_adapter_says_so(policy: LocalPolicy, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="no adapter"):
        policy.save_adapter(tmp_path)


@pytest.fixture
def llama(base: Path, tmp_path: Path) -> Path:
    """A dense model of another family with the same tokenizer, as a user's own checkpoint would be."""
    folder = tmp_path / "llama"
    torch.manual_seed(0)
    size = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    LlamaForCausalLM(LlamaConfig(vocab_size=400, max_position_embeddings=128, eos_token_id=2, **size)).save_pretrained(
        folder
    )
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(base / name, folder / name)
    return folder


def test_other_models_load_by_the_same_code(llama: Path) -> None:
    policy = moved(llama, targets=("attention",))
    alone = [policy.sample([request_for(n=1, seed=i, max_tokens=8)])[0][0] for i in range(6)]
    together = policy.sample([request_for(n=1, seed=i, max_tokens=8) for i in range(6)])
    assert [c.completion_ids for c in alone] == [g[0].completion_ids for g in together]
    with torch.no_grad():
        again = policy.logprobs(TokenRows.of(alone))
    assert again[0].tolist()[: len(alone[0].logprobs)] == pytest.approx(alone[0].logprobs, abs=1e-5)


def test_experts_of_a_dense_model_are_refused(llama: Path) -> None:
    with pytest.raises(TrainingError, match="no experts weights"):
        LocalPolicy.load(llama, lora=LoraConfig())
