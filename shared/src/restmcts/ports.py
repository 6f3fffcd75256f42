"""What the services need from the outside, as protocols; adapters and models implement them,
contract suites in `restmcts.testing` hold every implementation to them.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from restmcts.domain.problems import Check, Verdict
from restmcts.domain.requests import (
    CallTool,
    GenerationSettings,
    ProposeSteps,
    ScoreSteps,
    StepsProposed,
    StepsScored,
    ToolAnswered,
)
from restmcts.domain.tasks.task import Judgement


class StepProposer(Protocol):
    """A policy that continues partial solutions."""

    def propose(
        self, questions: Sequence[str], requests: Sequence[ProposeSteps], settings: GenerationSettings
    ) -> list[StepsProposed]:
        """Return one answer per request, in order; `questions[i]` belongs to `requests[i]`.

        Raises:
            ModelError: if a request cannot be served at all (its question alone does not fit the
                context, say).
            MissingLogProbsError: if it wants log-probabilities or alternatives to tokens, and this
                policy does not return them.
        """
        ...


MayBegin = Callable[[], bool]
"""Says whether a model may begin with more of what it was asked for; what it has started it ends in
any case.
"""


def always() -> bool:
    """Return that more may be started."""
    return True


@runtime_checkable
class StreamingProposer(StepProposer, Protocol):
    """A policy that gives answers as they come."""

    def stream(
        self,
        questions: Sequence[str],
        requests: Sequence[ProposeSteps],
        settings: GenerationSettings,
        may_begin: MayBegin = always,
    ) -> Iterator[tuple[int, StepsProposed]]:
        """Yield each request's place and its answer, equal to that of `propose`; whoever stops
        early loses what was under way alone.

        Args:
            may_begin: asked before more requests are started, besides the first; once it says no,
                those that were not started get no answer.

        Raises:
            ModelError: as `propose`, before the first answer or between two.
        """
        ...


class StepScorer(Protocol):
    """A value model or PRM that scores partial solutions."""

    def score(self, questions: Sequence[str], requests: Sequence[ScoreSteps]) -> list[StepsScored]:
        """Return one answer per request, in order, values in [0, 1].

        A partial solution's value and a whole solution's score are two things: the score is
        returned where a request asks for it (`whole`), and is made of the values of all the
        solution's steps, those before the branch too, by the model's own rule.

        Raises:
            ModelError: if a request cannot be served at all.
        """
        ...


class Verifier(Protocol):
    """A judge of solutions, safe against hostile text and bounded in time."""

    def verify(self, checks: Sequence[Check]) -> list[Verdict]:
        """Return one verdict per check, in order."""
        ...

    def judge(self, checks: Sequence[Check]) -> list[Judgement]:
        """Return one verdict per check, in order, with its score, source and reason."""
        ...

    def same_answers(self, kind: str, answers: Sequence[str]) -> list[str]:
        """Return answers to one problem, in order, each written as the first that is equal."""
        ...

    def answer_call(self, request: CallTool) -> ToolAnswered:
        """Return what the tool answers that the last step calls, in one line; or, not known, why
        this machine cannot find out.
        """
        ...


@dataclass(frozen=True, slots=True)
class Artifact:
    """A stored folder of files: where it is, its digest, and its size in bytes."""

    uri: str
    digest: str
    num_bytes: int


@dataclass(frozen=True, slots=True)
class StoredArtifact:
    """An artifact of a store, or what there is of one whose upload has not ended (not `is_whole`):
    its size in bytes, and for how long its newest file has been there.
    """

    uri: str
    num_bytes: int
    age_seconds: float
    is_whole: bool = True


class ArtifactStore(Protocol):
    """A place for what is big: an artifact becomes visible only whole, and never changes."""

    def put(self, folder: Path, kind: str, lineage: dict[str, Any]) -> Artifact:
        """Store a folder's files under their digest.

        Raises:
            StorageError: if they cannot be stored; nothing is left behind.
        """
        ...

    def fetch(self, uri: str) -> Path:
        """Return a local folder with the artifact's files, verified.

        Raises:
            StorageError: if there is no such artifact.
            CorruptArtifactError: if its files are not those of its manifest.
        """
        ...

    def stored(self, kind: str | None = None) -> Iterator[StoredArtifact]:
        """Yield the artifacts of a kind, or all.

        Raises:
            StorageError: if the store does not say.
        """
        ...

    def remove(self, uri: str) -> None:
        """Forget an artifact that nothing names any more, or what is there of one; one that is not
        there is no error.

        Raises:
            StorageError: if the store does not do it.
        """
        ...
