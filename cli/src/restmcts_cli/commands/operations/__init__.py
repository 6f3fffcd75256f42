"""Commands that look after the stack."""
