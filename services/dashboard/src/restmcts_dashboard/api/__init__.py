"""The HTTP API by which projects reach their runs, by tokens of their own."""
