"""Code: problems whose truth is tests, and whose solutions are Python programs."""
