"""Servers and workers as plain processes of this machine."""
