"""Tracking: MLflow as a view of the records, and the Prefect server that a run needs."""
