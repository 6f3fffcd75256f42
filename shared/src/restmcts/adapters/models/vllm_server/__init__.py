"""A vLLM server of one's own: its process, and the weights that it has."""
