"""The trees of ended runs, moved to the artifact store and back."""
