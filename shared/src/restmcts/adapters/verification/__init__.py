"""Verification of final answers in a guarded process."""
