"""ReST-MCTS*: self-training of language models by process-reward-guided tree search (arXiv:2406.03816)."""
