"""Reads that change nothing: for people, for summaries, and for evaluations."""
