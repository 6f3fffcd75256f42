"""What a policy can learn from all of a labelled tree: estimates of its steps, and learners."""
