"""The value labeler: verifies answers, infers step values and writes datasets."""
