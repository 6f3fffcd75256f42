"""What the dashboard says of runs: the list, a run's page, its problems and training data."""
