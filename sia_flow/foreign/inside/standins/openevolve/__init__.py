"""What evaluators take from OpenEvolve, where that package is not installed."""
