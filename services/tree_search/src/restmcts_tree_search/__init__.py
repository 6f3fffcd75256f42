"""The tree search: advances the state machines of search trees, one transaction a step."""
