"""Verdicts that no true answer gives: made, checked, and doubted."""
