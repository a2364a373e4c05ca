"""The policy: a base checkpoint and a LoRA adapter behind the `Sampler` protocol."""
