"""Value models: what they are and how they are read."""
