"""What is stored of runs as they go: each module owns the statements that change its tables."""
