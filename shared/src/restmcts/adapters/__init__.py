"""Implementations of the ports: SQL, artifact stores, verification, buses."""
