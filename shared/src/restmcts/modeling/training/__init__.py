"""Training of policies and value models."""
