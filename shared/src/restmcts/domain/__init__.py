"""Search, values, labels and answers as pure functions and state machines: no I/O, clock,
logging or global randomness.
"""
