"""Training targets from verified trees."""
