"""The two agents of the loop: one writes the first scaffold, the other reads evidence and pulls a lever."""
