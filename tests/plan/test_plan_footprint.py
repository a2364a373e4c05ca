"""The estimate of large models: counts against real models, bytes against what a real one takes."""

from __future__ import annotations

from typing import Any

import pytest

from sia_flow.errors import SpecError
from sia_flow.plan import memory
from sia_flow.plan.devices import DEVICES, device_named
from sia_flow.plan.footprint import Work, footprint, step_bytes, training_seconds
from sia_flow.plan.memory import Load
from sia_flow.plan.shape import PUBLISHED, read_shape, shape_of

GIB = 1 << 30
SMALL: dict[str, Any] = {
    "vocab_size": 300,
    "hidden_size": 64,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "intermediate_size": 48,
}
EXPERTS = {"num_local_experts": 8, "num_experts_per_tok": 2}
ATTENTION, BOTH = ("attention",), ("attention", "experts")


@pytest.mark.parametrize(
    ("name", "total", "used", "file"), [("gpt-oss-20b", 20.91, 3.61, 12.8), ("gpt-oss-120b", 116.83, 5.13, 60.8)]
)
def test_the_published_models_come_out_as_published(name: str, total: float, used: float, file: float) -> None:
    shape = PUBLISHED[name]
    assert shape.total / 1e9 == pytest.approx(total, rel=1e-3)
    assert shape.used / 1e9 == pytest.approx(used, rel=1e-2)
    assert memory.weights(shape, "mxfp4") / GIB == pytest.approx(file, rel=1e-2)
    assert memory.weights(shape, "bf16") == 2 * shape.total


@pytest.mark.parametrize("kind", ["GptOss", "Llama", "Qwen2", "Qwen3", "Mistral"])
@pytest.mark.parametrize("tied", [False, True])
def test_counts_are_those_of_the_real_architecture(kind: str, tied: object) -> None:
    import torch
    import transformers

    extra = EXPERTS if kind == "GptOss" else {}
    config = getattr(transformers, f"{kind}Config")(**SMALL, **extra, tie_word_embeddings=tied)
    with torch.device("meta"):
        model = transformers.AutoModelForCausalLM.from_config(config)
    model.tie_weights()
    assert shape_of(config.to_dict(), "x").total == sum(p.numel() for p in model.parameters())


def gpt_oss(dtype: str, targets: tuple[Any, ...], *, checkpointing: bool) -> Any:
    """A small gpt-oss with an adapter of rank 8, ready to train."""
    import torch
    from transformers import GptOssConfig, GptOssForCausalLM

    from sia_flow.policy import adapters

    config = GptOssConfig(**SMALL, **EXPERTS, tie_word_embeddings=False)
    config._attn_implementation, config._experts_implementation = "eager", "grouped_mm"
    model = GptOssForCausalLM(config).to(getattr(torch, dtype)).requires_grad_(False)
    wrapped = adapters.create(model, adapters.LoraConfig(targets=targets))
    adapters.set_trainable(wrapped, True)
    if checkpointing:
        wrapped.gradient_checkpointing_enable({"use_reentrant": False})
        wrapped.enable_input_require_grads()
        wrapped.train()
    return config, wrapped


@pytest.mark.parametrize(("rank", "targets"), [(8, ATTENTION), (8, BOTH)])
def test_an_adapter_has_as_many_parameters(rank: int, targets: tuple[Any, ...]) -> None:
    config, model = gpt_oss("float32", targets, checkpointing=False)
    found = sum(p.numel() for p in model.parameters() if p.requires_grad)
    assert shape_of(config.to_dict(), "x").lora(rank, targets) == found


def saved_bytes(model: Any, rows: int, length: int) -> int:
    """Count the bytes that autograd keeps of a forward pass, parameters left out."""
    import torch

    parameters = {p.untyped_storage().data_ptr() for p in model.parameters()}
    kept: dict[int, Any] = {}

    def pack(tensor: Any) -> Any:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in parameters:
            kept[storage.data_ptr()] = storage
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        model(input_ids=torch.zeros((rows, length), dtype=torch.long), use_cache=False)
    return sum(storage.nbytes() for storage in kept.values())


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("targets", [ATTENTION, BOTH])
@pytest.mark.parametrize(("rows", "length"), [(2, 64), (4, 160)])
def test_activations_are_what_autograd_keeps(dtype: str, targets: tuple[Any, ...], rows: int, length: int) -> None:
    config, model = gpt_oss(dtype, targets, checkpointing=False)
    load = Load(rows, length, 0, 8, targets, checkpointing=False, itemsize=4 if dtype == "float32" else 2)
    expected = memory.activations(shape_of(config.to_dict(), "x"), load)
    assert saved_bytes(model, rows, length) == pytest.approx(expected, rel=0.1)


def test_checkpointing_keeps_the_layers_inputs() -> None:
    config, model = gpt_oss("float32", ATTENTION, checkpointing=True)
    shape = shape_of(config.to_dict(), "x")
    load = Load(4, 64, 0, 8, ATTENTION, itemsize=4)
    inputs = memory.activations(shape, load) - memory.kept_by_layer(shape, load)
    # The last norm's input and its scale come on top.
    assert inputs == pytest.approx(saved_bytes(model, 4, 64), rel=0.3)
    assert inputs * 4 < saved_bytes(gpt_oss("float32", ATTENTION, checkpointing=False)[1], 4, 64)


def test_the_cache_of_a_sliding_layer_ends_at_its_window() -> None:
    shape = PUBLISHED["gpt-oss-20b"]
    assert memory.cache(shape, 100) == 24 * 2 * 8 * 64 * 2 * 100
    assert memory.cache(shape, 10_000) == 12 * 2 * 8 * 64 * 2 * (10_000 + 128)


def work(**fields: Any) -> Work:
    return Work(**{"calls": 512, "completion": 1024, "rank": 32, "targets": ATTENTION, **fields})


def test_larger_things_take_more() -> None:
    small, large = (footprint(PUBLISHED[f"gpt-oss-{size}"], work(), DEVICES["H200"]) for size in ("20b", "120b"))
    assert (small.trainers, large.trainers) == (1, 4)
    assert small.train_seconds < large.trainers * large.train_seconds
    assert small.sample_seconds < large.sample_seconds
    assert footprint(PUBLISHED["gpt-oss-120b"], work(), DEVICES["H100"]).trainers == 8
    assert large.trainer_bytes < 0.9 * 141e9 < memory.training(large.shape, work().load, 2)
    assert training_seconds(small.shape, work(epochs=2), DEVICES["H200"], 1) > 1.5 * small.train_seconds
    both = footprint(small.shape, work(targets=BOTH), DEVICES["H200"])
    assert both.trainer_bytes > small.trainer_bytes + 16 * 350e6


def test_a_step_of_one_row_reads_its_own_experts() -> None:
    shape = PUBLISHED["gpt-oss-120b"]
    alone, crowd = step_bytes(shape, 1), step_bytes(shape, 4096)
    assert alone / 1e9 == pytest.approx(2 * (5.13 - 3.58) + 17 / 32 * 3.58, rel=0.02)
    assert crowd == pytest.approx(memory.weights(shape, "mxfp4") - 2 * shape.embedding, rel=1e-6)


def test_what_is_not_known_is_refused(tmp_path) -> None:
    with pytest.raises(SpecError, match="known are gpt_oss"):
        shape_of({"model_type": "mamba"}, "x")
    with pytest.raises(SpecError, match=r"cannot read .*config\.json"):
        read_shape(tmp_path)
    with pytest.raises(SpecError, match="H100, H200, B200"):
        device_named("A1")


def test_plan_shows_the_specs_own_base_beside_the_published_ones(tmp_path, capsys, monkeypatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    from transformers import GptOssConfig

    from sia_flow.cli.footprints import footprint_json, footprints, show_footprints
    from sia_flow.plan.project import Project
    from sia_flow.spec.load import load_experiments

    base = tmp_path / "own-base"
    GptOssConfig(**SMALL, **EXPERTS).save_pretrained(base)
    (base / "tokenizer.json").write_text("{}")
    (base / "model.safetensors").write_bytes(b"")
    spec = tmp_path / "spec.yaml"
    spec.write_text(f"metadata: {{name: a}}\nspec:\n  task: {{name: denoise}}\n  policy: {{base: {base}}}\n")
    (experiment,) = load_experiments(spec, [])
    found = footprints(Project(tmp_path), experiment, "b200")
    assert [one.shape.name for one in found] == ["own-base", "gpt-oss-20b", "gpt-oss-120b"]
    plain = footprint_json(found[2])
    assert (plain["gpu"], plain["parameters"]) == ("B200", 116_829_156_672)
    assert plain["adapter_parameters"] == PUBLISHED["gpt-oss-120b"].lora(8, BOTH)
    show_footprints("a", found)
    shown = " ".join(capsys.readouterr().out.split())
    assert "own-base" in shown
    assert "assumed, not measured" in shown
    (published,) = load_experiments(spec, ["policy.base=gpt-oss-120b"])
    assert [one.shape.name for one in footprints(Project(tmp_path), published, "H100")] == [
        "gpt-oss-120b",
        "gpt-oss-20b",
    ]
    (absent,) = load_experiments(spec, ["policy.base=/nowhere"])
    with pytest.raises(SpecError, match="neither a built-in base"):
        footprints(Project(tmp_path), absent, "H100")
