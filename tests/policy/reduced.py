"""gpt-oss at a reduced width with everything else as published: its layer types, its experts, its rotary scaling."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np

FP4 = np.array([0, 0.5, 1, 1.5, 2, 3, 4, 6, -0.0, -0.5, -1, -1.5, -2, -3, -4, -6], dtype=np.float32)
"""The sixteen values of E2M1 (OCP Microscaling Formats, version 1.0, table 5)."""
YARN = {
    "rope_type": "yarn",
    "rope_theta": 150_000.0,
    "factor": 32.0,
    "beta_fast": 32.0,
    "beta_slow": 1.0,
    "truncate": False,
    "original_max_position_embeddings": 4096,
}


def build(folder: Path, base: Path, **sizes: Any) -> Path:
    """Write a random gpt-oss of width 64 with the tokenizer of `base`, as a normal checkpoint."""
    import torch
    from transformers import AutoTokenizer, GptOssConfig, GptOssForCausalLM

    tokenizer = AutoTokenizer.from_pretrained(base)
    published = {
        "hidden_size": 64,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 1,
        "head_dim": 64,
        "num_local_experts": 32,
        "num_experts_per_tok": 4,
        "sliding_window": 128,
        "layer_types": ["sliding_attention", "full_attention"],
        "rope_parameters": YARN,
        "max_position_embeddings": 131_072,
        "initializer_range": 0.05,
    }
    config = GptOssConfig(
        vocab_size=len(tokenizer),
        tie_word_embeddings=False,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        **{**published, **sizes},
    )
    torch.manual_seed(0)
    model = GptOssForCausalLM(config)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("sinks"):
                parameter.normal_()
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder, save_jinja_files=False)
    return folder


def pack(plain: Path, folder: Path) -> dict[str, np.ndarray]:
    """Write an mxfp4 twin of a checkpoint whose experts are random codes; return what they stand for, by name."""
    import torch
    from safetensors.torch import load_file, save_file

    shutil.copytree(plain, folder)
    random = np.random.default_rng(0)
    expected: dict[str, np.ndarray] = {}
    tensors: dict[str, Any] = {}
    for name, tensor in load_file(plain / "model.safetensors").items():
        if not name.endswith(("experts.gate_up_proj", "experts.down_proj")):
            tensors[name] = tensor.to(torch.bfloat16)
            continue
        experts, width, out = tensor.shape
        codes = random.integers(0, 16, (experts, out, width // 32, 32), dtype=np.uint8)
        scales = random.integers(120, 124, (experts, out, width // 32), dtype=np.uint8)
        tensors[f"{name}_blocks"] = torch.from_numpy(codes[..., ::2] | codes[..., 1::2] << 4)
        tensors[f"{name}_scales"] = torch.from_numpy(scales)
        values = FP4[codes] * np.exp2(scales.astype(np.float32) - 127)[..., None]
        expected[name] = values.reshape(experts, out, width).transpose(0, 2, 1)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    config = json.loads((folder / "config.json").read_text())
    config["quantization_config"] = {"quant_method": "mxfp4", "modules_to_not_convert": ["model.layers.*.self_attn"]}
    config["dtype"] = "bfloat16"
    (folder / "config.json").write_text(json.dumps(config))
    return expected
