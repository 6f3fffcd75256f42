"""Answering methods and their settings as a person types them for `restmcts evaluate`."""

from collections.abc import Sequence
from dataclasses import asdict, replace

from restmcts.domain.runs.evaluation import ANSWERING, AnsweringMethod
from restmcts.errors import InputError

from restmcts_cli.arguments.benchmarks import Benchmark
from restmcts_cli.arguments.search_options import parse_search


def parse_methods(text: str, options: Sequence[str], benchmark: Benchmark) -> tuple[AnsweringMethod, ...]:
    """Return the methods that a person names: [NEW=]KNOWN[@VALUE], with commas, and
    METHOD.setting=value for each.

    What is not given is as the benchmark has it, and else as the method does.

    Raises:
        InputError: if a name or a setting is unknown.
    """
    settings: dict[str, list[str]] = {}
    for option in options:
        name, dot, rest = option.partition(".")
        if not dot:
            raise InputError(f"option {option!r}: write it as METHOD.setting=value")
        settings.setdefault(name, []).append(rest)
    methods = []
    for part in (part.strip() for part in text.split(",")):
        new, equals, known = part.partition("=")
        base, at, value = (known if equals else part).partition("@")
        method = ANSWERING.get(base)
        name = new if equals else part
        own = asdict(method.search)
        algorithm = method.search.algorithm
        search = parse_search(algorithm, settings.pop(name, ()), **{**own, **benchmark.settings.get(algorithm, {})})
        methods.append(replace(method, name=name, search=search, value=value if at else method.value))
    if settings:
        raise InputError(f"an option is for {next(iter(settings))!r}, which is none of the methods ({text})")
    return tuple(methods)
