"""Evaluators that others wrote, run as they are: in the sandbox, in a process of their own, heard as bounded JSON."""
