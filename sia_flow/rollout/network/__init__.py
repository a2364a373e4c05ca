"""Reads the web for scaffolds: only what is granted, bounded in every way, each answer kept."""

AT_ONCE = 16
"""Calls of scaffolds that are out at the same time."""
