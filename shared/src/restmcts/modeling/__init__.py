"""Policies, value models and their training: the only package here that imports torch and
transformers.
"""

import os

# Set before torch starts its threads. By default they spin while they wait, and where another
# process wants a core that makes a small model several times slower (4 M parameters, two threads on
# two busy cores: 117 against 650 tokens/s).
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

# oneDNN keeps a program, and what it works in, for each shape of a matrix product in bfloat16, by
# default 1,024 of them. Lengths of texts are shapes, so that all are used; making one takes 1 ms. A
# training of 135M parameters takes 0.6 GiB less than with 256.
os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "32")
