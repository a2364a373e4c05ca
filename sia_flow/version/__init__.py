"""Data versioning: published checkpoints as DVC outputs, beside the stages of `dvc.yaml`."""
