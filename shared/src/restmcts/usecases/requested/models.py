"""The models that a project may name over HTTP: what every worker reaches by itself, and nothing on
the disk of a server, as who asks is no operator. No model is looked for.
"""

import re
from pathlib import Path
from urllib.parse import parse_qsl

from restmcts.adapters.models.ensemble import each_member
from restmcts.adapters.models.http_policy.address import is_server, parse_address
from restmcts.adapters.models.http_scorer.address import parse_scoring_address
from restmcts.adapters.models.llm_judge import MAX_ALTERNATIVES, judge_address, judge_settings
from restmcts.adapters.storage.packaged_models import PACKAGED_MODELS
from restmcts.adapters.storage.uris import ARTIFACT, is_artifact
from restmcts.domain.runs.plans import BASE
from restmcts.domain.runs.spec import RunSpec
from restmcts.domain.runs.spec_plan import FIRST_VALUE
from restmcts.domain.tasks.puzzles import puzzle_names
from restmcts.errors import InputError
from restmcts.usecases.requested.runs import Models

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]{0,95}(/[A-Za-z0-9_][\w.-]{0,95})?", re.ASCII)
_JUDGE = "judge"
MAX_ASKED = 10_000
"""Samples and steps that a model is asked for at once; other projects ask it too."""

_OF_FORMAT = ("format", "separator", "aggregation")
_OPTIONS = (*_OF_FORMAT, "reference", "beta", "samples", "argue", "template")
"""What may be said of a value model that is no server (restmcts.modeling.prm.reference)."""


def models_over_http(spec: RunSpec) -> Models:
    """Return the models that a run begins with.

    Raises:
        InputError: if the run names no policy, or a model that is no id of the hub, no artifact, no
            server and no puzzle.
    """
    if spec.policy is None:
        raise InputError("policy is missing: name the model that is to learn, an id of the hub or a server")
    is_fresh = spec.policy in puzzle_names()
    models = {BASE: ("policy", f"{spec.policy}:{spec.seed}" if is_fresh else _policy(spec.policy))}
    if spec.value is not None:
        models[FIRST_VALUE] = ("value", each_member(spec.value, _value))
    for judge in spec.truth.judges:
        parse_address(judge)
    return models


def _policy(given: str) -> str:
    if not is_server(given):
        return _elsewhere("policy", given)
    address = parse_address(given)
    _elsewhere("policy", address.model)
    return address.uri


def _value(given: str) -> str:
    place, mark, query = given.partition("?")
    options = dict(parse_qsl(query, keep_blank_values=True)) if mark else {}
    if options.get("format") == _JUDGE:
        _check_judge(options)
    if is_server(given):
        _check_server(place, options)
        return given
    unknown = sorted(set(options) - set(_OPTIONS))
    if unknown:
        raise InputError(f"value: unknown option {', '.join(unknown)}; there are {', '.join(_OPTIONS)}")
    _elsewhere("value", place)
    if "reference" in options:
        _elsewhere("value: reference", options["reference"])
    return given


def _check_judge(options: dict[str, str]) -> None:
    judge = judge_settings(options, MAX_ALTERNATIVES, "last")
    if max(judge.num_samples, judge.argument_tokens) > MAX_ASKED:
        raise InputError(f"value: a judge is asked for more than {MAX_ASKED:,} samples or tokens; give fewer")


def _check_server(place: str, options: dict[str, str]) -> None:
    of_server = {name: text for name, text in options.items() if name not in _OF_FORMAT}
    if options.get("format") == _JUDGE:
        judge_address(place, of_server)
        return
    if "format" not in options:
        raise InputError(f"value: {place}: say by which format this server scores, ?format=NAME")
    address = parse_scoring_address(place, of_server)
    for model in (address.model, address.tokenizer):
        _elsewhere("value", model)


def _elsewhere(what: str, place: str) -> str:
    """Return what is no folder of a server; whether there is such a folder is not said."""
    if place.startswith(ARTIFACT):
        is_one = is_artifact(place)
    else:
        is_one = _HUB_ID.fullmatch(place) is not None and place not in PACKAGED_MODELS and not Path(place).exists()
    if not is_one:
        raise InputError(
            f"{what}: {place!r} cannot be named over HTTP: give an id of the hub such as Qwen/Qwen3-0.6B, {ARTIFACT}… "
            f"or openai+http://HOST:PORT/v1?model=NAME; a policy may also be one of {', '.join(puzzle_names())}"
        )
    return place
