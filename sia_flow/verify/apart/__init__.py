"""A task's verifier in a process of its own, confined, behind the same protocols as in this one."""
