"""What a project is, and what an experiment will do and cost."""
