"""This project's own formats: importing this package registers all of them."""

from restmcts.modeling.prm.known import classifiers, own, qwen_math, thudm, token_pairs, value_heads

__all__ = ["classifiers", "own", "qwen_math", "thudm", "token_pairs", "value_heads"]
