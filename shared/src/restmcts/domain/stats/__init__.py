"""Figures and their errors."""
