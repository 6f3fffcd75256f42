"""Which models an evaluation compares: one policy with its value models, or those of every
iteration of a run.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from restmcts.adapters.models.ensemble import each_member
from restmcts.adapters.sql.reads import queries
from restmcts.adapters.sql.rows import StoredCheckpoint
from restmcts.adapters.sql.state import runs
from restmcts.adapters.storage.uris import ARTIFACT
from restmcts.domain.runs.evaluation import VALUE, ModelPair
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
    where, _, iteration = where.partition("@")
    if stack is not None:
        return _pairs(*_stored(stack, where), iteration, lambda uri: uri)
    folder, _, name = where.partition(":")
    with connect(Path(folder)) as connection:
        return _pairs(
            *_stored(connection, name or None), iteration, lambda uri: each_member(uri, partial(_fetched, connection))
        )


def _fetched(connection: Connection, uri: str) -> str:
    place, mark, options = uri.partition("?")
    return f"{connection.artifacts.fetch(place)}{mark}{options}" if place.startswith(ARTIFACT) else uri


def _stored(connection: Connection, name: str | None) -> tuple[dict[str, StoredCheckpoint], int]:
    """Return the checkpoints of a run, and the calls of tools that its solutions may hold."""
    with connection.database.transaction() as transaction:
        if name is None:
            newest = next(iter(queries.list_runs(transaction)), None)
            if newest is None:
                raise InputError(f"{connection.workdir} contains no run")
            name = newest.name
        row = queries.run_named(transaction, str(name))
        return runs.checkpoints_of(transaction, row.id), row.config.get("spec", {}).get("tools", {}).get("max_calls", 0)


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
