"""The coordinator: admits problems, advances iterations and wakes what is overdue."""
