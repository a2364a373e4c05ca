"""The losses against TRL's own, on the same tiny gpt-oss."""

import os

import pytest
import torch

from sia_flow.training.advantages import grpo
from sia_flow.training.batch import collate
from sia_flow.training.forward import Chunk, logprobs
from sia_flow.training.losses import aggregate, clipped_surrogate, dpo_loss, k3
from sia_flow.training.types import Episode
from tests.training.world import PROMPTS, VOCAB, ToyPolicy

pytestmark = pytest.mark.slow
LENGTH = 4


@pytest.fixture(scope="module")
def trl_home(tmp_path_factory):
    os.environ.update(HF_HUB_OFFLINE="1", TRL_EXPERIMENTAL_SILENCE="1")
    return tmp_path_factory.mktemp("trl")


@pytest.fixture(scope="module")
def tokenizer():
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = {"<pad>": 0, "<bos>": 1, "<eos>": 2, "<unk>": 3} | {f"w{i}": i for i in range(4, VOCAB)}
    core = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    core.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=core, pad_token="<pad>", bos_token="<bos>", eos_token="<eos>", unk_token="<unk>"
    )


@pytest.mark.parametrize("weighted", [True, False])
@pytest.mark.parametrize(("loss_type", "mode"), [("dapo", "token_mean"), ("grpo", "row_mean"), ("dr_grpo", "constant")])
def test_the_grpo_loss_is_that_of_trl(trl_home, tokenizer, loss_type, mode, weighted):
    from datasets import Dataset
    from trl import GRPOConfig, GRPOTrainer

    policy = ToyPolicy()
    turns = policy.sample(PROMPTS[1], 8, 5, LENGTH)
    rewards = torch.tensor([0.1, 0.9, 0.4, 0.4, 0.0, 1.0, 0.3, 0.7])
    batch = collate([Episode("g", (t,), float(r), True) for t, r in zip(turns, rewards, strict=True)])
    noise = torch.Generator().manual_seed(1)
    old = batch.old + 0.3 * torch.randn(batch.old.shape, generator=noise)
    base = batch.old - 0.1 + 0.2 * torch.randn(batch.old.shape, generator=noise)
    advantage = grpo(batch.rewards, batch.groups).float()

    with torch.no_grad():
        (chunk,) = batch.chunks(8)
        current = logprobs(policy.model, chunk)[batch.token_source]
        penalty = k3(current, base) * (torch.exp(current - old) if weighted else 1.0)
        tokens = clipped_surrogate(current, old, advantage[batch.token_episode]) + 0.04 * penalty
        ours = aggregate(tokens, batch.token_row, mode, constant=LENGTH)

    settings = GRPOConfig(
        output_dir=str(trl_home),
        per_device_train_batch_size=8,
        num_generations=8,
        max_completion_length=LENGTH,
        bf16=False,
        gradient_checkpointing=False,
        use_cpu=True,
        report_to=[],
        loss_type=loss_type,
        use_bias_correction_kl=weighted,
        router_aux_loss_coef=0.0,
    )
    trainer = GRPOTrainer(
        model=policy.model.unload(),
        reward_funcs=lambda completions, **_: [0.0] * len(completions),
        args=settings,
        train_dataset=Dataset.from_list([{"prompt": "w4"}] * 8),
        processing_class=tokenizer,
    )
    trainer.beta, trainer.current_gradient_accumulation_steps = 0.04, 1
    trainer.model.train()
    theirs = trainer._compute_loss(trainer.model, _padded(batch, advantage, old, base))
    assert theirs.item() == pytest.approx(ours.item(), abs=2e-6)


def _padded(batch, advantage, old, base):
    """Lay the flat streams out as TRL wants them, completions right-padded to the longest."""
    start = len(PROMPTS[1])
    ids, mask = batch.tokens[batch.row_call], batch.sampled[batch.row_call, start:]
    prompt = ids[:, :start]

    def spread(stream):
        return torch.zeros(mask.shape).masked_scatter(mask, stream)

    return {
        "prompt_ids": prompt,
        "prompt_mask": torch.ones_like(prompt),
        "completion_ids": ids[:, start:],
        "completion_mask": mask.long(),
        "advantages": advantage,
        "num_items_in_batch": mask.sum(),
        "old_per_token_logps": spread(old),
        "ref_per_token_logps": spread(base),
    }


def test_the_dpo_loss_is_that_of_trl(trl_home, tokenizer):
    from datasets import Dataset
    from trl import DPOConfig, DPOTrainer

    policy, reference = ToyPolicy(seed=1).model.unload(), ToyPolicy(seed=0).model.unload()
    rows = [
        ("<bos> w4", " w5 w6", " w7"),
        ("<bos> w9", " w8", " w4 w4 w10"),
        ("<bos> w5 w6", " w7 w7", " w7 w8"),
    ]
    settings = DPOConfig(
        output_dir=str(trl_home),
        per_device_train_batch_size=3,
        bf16=False,
        gradient_checkpointing=False,
        use_cpu=True,
        report_to=[],
        beta=0.1,
        max_length=32,
        router_aux_loss_coef=0.0,
    )
    trainer = DPOTrainer(
        model=policy,
        ref_model=reference,
        args=settings,
        train_dataset=Dataset.from_list(
            [dict(zip(("prompt", "chosen", "rejected"), row, strict=True)) for row in rows]
        ),
        processing_class=tokenizer,
    )
    theirs = trainer.compute_loss(trainer.model, next(iter(trainer.get_train_dataloader()))).item()

    def total(model, prompt, answer):
        start, ids = tokenizer(prompt).input_ids, [*tokenizer(answer).input_ids, tokenizer.eos_token_id]
        sampled = torch.tensor([[False] * len(start) + [True] * len(ids)])
        with torch.no_grad():
            return logprobs(model, Chunk(torch.tensor([start + ids]), sampled, torch.ones(1), 0, len(ids))).sum()

    sums = [[total(m, p, a) for m in (policy, reference) for a in (good, bad)] for p, good, bad in rows]
    good, bad, base_good, base_bad = torch.tensor(sums).T
    assert dpo_loss(good, bad, base_good, base_bad, 0.1).mean().item() == pytest.approx(theirs, abs=2e-6)
