"""Commands that search, train, evaluate and grade."""
