"""What a run may do, each thing once: created, steered, advanced, trained, promoted. Knows
ports, no commands and no queues.
"""
