"""What a person is shown of runs and evaluations."""
