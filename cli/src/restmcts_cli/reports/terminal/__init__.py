"""What the terminal shows of runs, wherever their numbers come from."""
