"""Files of problems and of training data."""
