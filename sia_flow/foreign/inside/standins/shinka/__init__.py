"""What evaluators take from ShinkaEvolve, where that package is not installed."""
