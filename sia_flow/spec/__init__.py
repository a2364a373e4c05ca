"""YAML to Experiment: strict models, positions in every error, nothing heavy imported."""
