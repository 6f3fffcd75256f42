"""From what a person types to what the system takes."""
