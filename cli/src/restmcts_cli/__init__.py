"""The command `restmcts`: one file per group of commands."""
