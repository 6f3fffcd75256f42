"""The coordinator: admits problems, advances iterations and rings again for what is overdue."""
