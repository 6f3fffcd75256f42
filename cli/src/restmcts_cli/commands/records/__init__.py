"""Commands that show and change what is stored."""
