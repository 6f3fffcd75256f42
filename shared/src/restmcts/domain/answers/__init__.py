"""Final answers: where a solution states one, how it is written, and when two are the same."""
