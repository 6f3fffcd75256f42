"""Policies and reward models behind HTTP."""
