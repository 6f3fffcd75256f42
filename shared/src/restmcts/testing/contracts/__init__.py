"""What every implementation of a port must do, as functions that raise AssertionError: one
suite a port, run over all adapters.
"""
