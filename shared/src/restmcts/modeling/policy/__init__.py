"""Policies in process, and the first policies of the generated problems."""
