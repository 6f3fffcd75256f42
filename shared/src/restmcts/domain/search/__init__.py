"""Tree searches as pure state machines, one algorithm a file."""
