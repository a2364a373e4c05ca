"""The weight lever: credit, losses, the on-policy LoRA loop and the choice of algorithm."""
