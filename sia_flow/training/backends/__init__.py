"""The engines behind `TrainingBackend`."""
