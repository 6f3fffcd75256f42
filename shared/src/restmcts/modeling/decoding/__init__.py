"""Decoding with kept keys and values."""
