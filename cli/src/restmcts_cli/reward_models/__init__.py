"""Reward models at the command line: opened, scored on benches, and reported."""
