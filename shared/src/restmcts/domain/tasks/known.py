"""This project's own tasks: importing this module registers all of them."""

from restmcts.domain.tasks import answers, puzzles

__all__ = ["answers", "puzzles"]
