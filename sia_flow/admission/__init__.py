"""Admission: what is found out about a task before anything is optimised against it."""
