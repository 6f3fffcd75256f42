"""Runs as data: phases, plans, methods, evaluations, promotion."""
