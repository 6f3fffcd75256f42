"""This project's own tasks: importing this module registers all of them."""

from restmcts.domain.tasks import answers, puzzles
from restmcts.domain.tasks.code import task as code

__all__ = ["answers", "code", "puzzles"]
