"""What is accepted as true where no true answer may be used, and how far it can be trusted."""
