"""sia-flow: YAML experiment specs that compile into Prefect flows running the SIA loop with both levers."""

__version__ = "0.1.0"
