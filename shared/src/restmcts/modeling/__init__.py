"""Policies, value models and their training: the only package here that imports torch and
transformers.
"""

import os

# Set before torch starts its threads. By default they spin while they wait, and where another
# process wants a core that makes a small model several times slower (4 M parameters, two threads on
# two busy cores: 117 against 650 tokens/s).
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
