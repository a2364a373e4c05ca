"""Running scaffolds on a policy."""
