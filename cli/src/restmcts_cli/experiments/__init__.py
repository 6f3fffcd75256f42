"""What the demo, comparisons and evaluations run."""
