"""Events: what has happened, in the past tense."""

from typing import ClassVar

from restmcts.messages.base import Message, RunMessage


class RequestsAnswered(Message):
    """policy, prm -> search: requests have been answered; which, the database knows."""

    name: ClassVar[str] = "search.requests_answered"


class TreesLabelled(RunMessage):
    """labels, search -> coordinator: trees of this run are done (labelled, or failed)."""

    name: ClassVar[str] = "coordinator.trees_labelled"


class DatasetWritten(RunMessage):
    """labels -> coordinator: the dataset of a training phase of this run is ready."""

    name: ClassVar[str] = "coordinator.dataset_written"


class ValuesJudged(RunMessage):
    """prm -> coordinator: a promotion of this run has been decided."""

    name: ClassVar[str] = "coordinator.values_judged"


class CheckpointTrained(RunMessage):
    """trainer -> coordinator: a training phase of this run has ended."""

    name: ClassVar[str] = "coordinator.checkpoint_trained"
