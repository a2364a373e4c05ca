"""Verification: what a task is, how its candidate programs are run and scored, and what is accepted."""
