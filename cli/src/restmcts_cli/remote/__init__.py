"""Commands over the HTTP API of a stack, where its database is not within reach."""
