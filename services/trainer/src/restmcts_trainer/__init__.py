"""The trainer: trains policies and value models under a lease."""
