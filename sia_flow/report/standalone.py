"""Run an exported agent: the scaffold in `scaffold/` on the policy in `base/` with the adapter in `adapter/`.

Needs torch and transformers, and peft for an adapter; nothing of sia-flow. The scaffold is code that a model wrote and
runs here without a sandbox: read scaffold/ first.
"""

from __future__ import annotations

import argparse
import json
import pathlib
import runpy
import sys

HERE = pathlib.Path(__file__).resolve().parent


class Tools:
    """The task's tools, where nothing can be scored: what does not parse is invalid, the rest is not known."""

    def score_visible(self, *, program: str) -> dict[str, object]:
        """Say whether a program parses."""
        try:
            compile(program, "answer", "exec")
        except (SyntaxError, ValueError) as error:
            return {"reward": 0.0, "valid": False, "reason": "syntax", "feedback": str(error)}
        return {"reward": 0.0, "valid": True, "reason": "not_scored", "feedback": "nothing is scored outside sia-flow"}


class Job:
    """What the scaffold is given."""

    def __init__(self, instance: dict[str, object], seed: int, base: str) -> None:
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer

        self.instance, self.seed, self.tools = instance, seed, Tools()
        self._tokenizer = AutoTokenizer.from_pretrained(base, trust_remote_code=False)
        self._model = AutoModelForCausalLM.from_pretrained(base, use_safetensors=True, trust_remote_code=False)
        if (HERE / "adapter").is_dir():
            from peft import PeftModel

            self._model = PeftModel.from_pretrained(self._model, str(HERE / "adapter"))
        self._model.eval()
        self._limit = json.loads((HERE / "lock.json").read_text())["spec"]["spec"]["policy"].get("max_tokens", 1024)
        torch.manual_seed(seed)

    def generate(
        self, messages: list[dict[str, str]], n: int = 1, temperature: float = 1.0, max_tokens: int | None = None
    ) -> list[str]:
        """Return `n` completions of the policy."""
        prompt = self._tokenizer.apply_chat_template(
            [dict(message) for message in messages], add_generation_prompt=True, return_tensors="pt", return_dict=True
        )
        sampling = (
            {"do_sample": True, "temperature": temperature, "top_k": 0} if temperature > 0 else {"do_sample": False}
        )
        length = min(max_tokens or self._limit, self._limit)
        out = self._model.generate(**prompt, num_return_sequences=n, max_new_tokens=length, **sampling)
        start = prompt["input_ids"].shape[1]
        return [self._tokenizer.decode(row[start:], skip_special_tokens=True) for row in out]

    def fetch(self, url: str, headers: dict[str, str] | None = None) -> dict[str, object]:
        """Refuse: what sia-flow read for the scaffold was checked, bounded and logged by its host."""
        del headers
        raise RuntimeError(f"fetch: nothing is read outside sia-flow, {url[:200]!a} neither")


def main() -> None:
    """Run the agent on one instance and print its answer."""
    parser = argparse.ArgumentParser(description="Run an exported agent and print its answer.")
    parser.add_argument("instance", nargs="?", help="JSON file of what the agent sees; by default the one in here")
    parser.add_argument("--base", default=str(HERE / "base"), help="folder of the base model")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    path = pathlib.Path(options.instance) if options.instance else HERE / "instance.json"
    sys.path.insert(0, str(HERE / "scaffold"))
    solve = runpy.run_path(str(HERE / "scaffold" / "scaffold.py"))["solve"]
    sys.stdout.write(str(solve(Job(json.loads(path.read_text()), options.seed, options.base))) + "\n")


if __name__ == "__main__":
    main()
