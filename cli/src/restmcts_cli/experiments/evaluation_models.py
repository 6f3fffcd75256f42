"""Which models an evaluation compares: one policy with its value models, or those of every
iteration of a run.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from restmcts.adapters.models.ensemble import each_member
from restmcts.adapters.sql.reads import queries
from restmcts.adapters.sql.rows import StoredCheckpoint, StoredRun
from restmcts.adapters.sql.state import runs
from restmcts.adapters.storage.uris import ARTIFACT
from restmcts.domain.runs.evaluation import VALUE, ModelPair
from restmcts.domain.runs.spec import PuzzleSets
from restmcts.errors import InputError

from restmcts_cli.arguments.connection import Connection, connect

POLICY = "policy"
Locate = Callable[[str, str], str]
"""Returns the URI of a model as a person names it, of a kind."""


@dataclass(frozen=True, slots=True)
class EvaluatedModels:
    """Pairs of models by checkpoint name, each checkpoint's kind and URI, and how many calls of
    tools a solution of the run that made them may hold.
    """

    pairs: tuple[ModelPair, ...]
    checkpoints: Mapping[str, tuple[str, str]]
    tool_calls: int = 0


def given_models(policy: str, values: Sequence[str], locate: Locate) -> EvaluatedModels:
    """Return one pair: a policy, and value models each as MODEL or NAME=MODEL.

    Raises:
        InputError: if a name is used twice, or there is no such model.
    """
    models: dict[str, str] = {}
    for text in values:
        name, equals, model = text.partition("=")
        # What a model's format is said with has an equals sign too: MODEL?format=NAME.
        name, model = (name, model) if equals and "?" not in name else (VALUE, text)
        if name in models or name == POLICY:
            raise InputError(f"--value {text}: the name {name!r} is used already")
        models[name] = model
    checkpoints = {POLICY: (POLICY, locate(policy, POLICY))}
    checkpoints |= {name: (VALUE, locate(model, VALUE)) for name, model in models.items()}
    return EvaluatedModels((ModelPair("", POLICY, {name: name for name in models}),), checkpoints)


def models_of_run(where: str, stack: Connection | None) -> EvaluatedModels:
    """Return a pair for every iteration of a run: of the stack by its name, or in a work folder as
    FOLDER or FOLDER:NAME; with @N, that of iteration N alone.

    Raises:
        InputError: if there is no such run, or it has no policy yet.
    """
    iteration = where.partition("@")[2]
    with _stored(where, stack) as (connection, row):

        def located(uri: str) -> str:
            return uri if stack is not None else each_member(uri, partial(_fetched, connection))

        with connection.database.transaction() as transaction:
            rows = runs.checkpoints_of(transaction, row.id)
        tool_calls = row.config.get("spec", {}).get("tools", {}).get("max_calls", 0)
        return _pairs(rows, tool_calls, iteration, located)


def puzzles_of_run(where: str, stack: Connection | None) -> tuple[PuzzleSets, int] | None:
    """Return what the puzzles of a run were drawn by, and its seed; None if it was made of others.

    Raises:
        InputError: if there is no such run.
    """
    with _stored(where, stack) as (_, row):
        drawn = row.config.get("spec", {}).get("puzzles")
        return (PuzzleSets.model_validate(drawn), row.seed) if drawn else None


@contextmanager
def _stored(where: str, stack: Connection | None) -> Iterator[tuple[Connection, StoredRun]]:
    """Yield a run that models_of_run names, and where it is stored."""
    place = where.partition("@")[0]
    folder, _, name = place.partition(":")
    with nullcontext(stack) if stack is not None else connect(Path(folder)) as connection:
        with connection.database.transaction() as transaction:
            if stack is None and not name:
                newest = next(iter(queries.list_runs(transaction)), None)
                if newest is None:
                    raise InputError(f"{connection.workdir} contains no run")
                name = newest.name
            row = queries.run_named(transaction, name if stack is None else place)
        yield connection, row


def _fetched(connection: Connection, uri: str) -> str:
    place, mark, options = uri.partition("?")
    return f"{connection.artifacts.fetch(place)}{mark}{options}" if place.startswith(ARTIFACT) else uri


def _pairs(
    rows: Mapping[str, StoredCheckpoint], tool_calls: int, iteration: str, locate: Callable[[str], str]
) -> EvaluatedModels:
    numbers = sorted(
        int(number)
        for kind, _, number in (name.partition("-") for name in rows)
        if kind == POLICY and number.isascii() and number.isdigit()
    )
    policies = {number: f"policy-{number}" for number in numbers}
    if 0 not in policies and "base" in rows:
        policies = {0: "base", **policies}
    policies = {number: policy for number, policy in policies.items() if iteration in ("", str(number))}
    if not policies:
        raise InputError(f"the run has no policy{f' of iteration {iteration}' if iteration else ''} yet")
    pairs: list[ModelPair] = []
    checkpoints: dict[str, tuple[str, str]] = {}
    for number, policy in policies.items():
        value = f"value-{number}"
        values = {VALUE: value} if value in rows else {}
        pairs.append(ModelPair(f"iteration {number}", policy, values))
        checkpoints |= {name: (rows[name].kind, locate(rows[name].uri)) for name in (policy, *values.values())}
    return EvaluatedModels(tuple(pairs), checkpoints, tool_calls)
