"""A base is a local checkpoint of safetensors, named by the digest of what is sampled."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from sia_flow.errors import SpecError
from sia_flow.policy.bases import base_digest, resolve_base


@pytest.fixture
def copy(base: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(base, tmp_path / "copy"))


def test_resolves_a_name_and_a_path(base: Path) -> None:
    assert resolve_base("tiny-gpt-oss", base.parent) == base
    assert resolve_base(str(base), Path("/nowhere")) == base


def test_a_base_that_was_not_built_says_how(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="sia-flow prepare"):
        resolve_base("tiny-gpt-oss", tmp_path)


def test_an_unknown_name_lists_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="tiny-gpt-oss"):
        resolve_base("no-such-model", tmp_path)


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json"])
def test_a_folder_without_a_needed_file_is_refused(copy: Path, name: str) -> None:
    (copy / name).unlink()
    with pytest.raises(SpecError, match=name):
        resolve_base(str(copy), copy)


def test_pickled_weights_are_refused(copy: Path) -> None:
    (copy / "model.safetensors").rename(copy / "pytorch_model.bin")
    with pytest.raises(SpecError, match="safetensors"):
        resolve_base(str(copy), copy)


def test_the_digest_depends_on_content_alone(base: Path, copy: Path) -> None:
    assert base_digest(copy) == base_digest(base)
    assert len(base_digest(base)) == 64


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "model.safetensors", "tokenizer_config.json"])
def test_the_digest_notices_every_file(base: Path, copy: Path, name: str) -> None:
    before = base_digest(copy)
    data = bytearray((copy / name).read_bytes())
    data[-2] ^= 1
    (copy / name).write_bytes(bytes(data))
    assert base_digest(copy) != before
