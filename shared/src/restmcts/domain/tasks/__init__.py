"""Kinds of problems: how they are drawn, and how their solutions are checked."""
