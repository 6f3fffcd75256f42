"""Self-training, evaluation and search from Python, in this process: `restmcts.selftrain`,
`restmcts.evaluate` and `restmcts.search`.

They do what the commands do, by the same code; models are loaded when a function is called.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, fields, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, get_args

from restmcts.adapters.files.run_files import is_run_file
from restmcts.adapters.observability.this_process import note_call
from restmcts.domain.problems import Problem
from restmcts.domain.requests import GenerationSettings
from restmcts.domain.runs.evaluation import ANSWERING, PROBLEM_SET
from restmcts.domain.runs.phases import SearchPhase
from restmcts.domain.runs.spec import RunSpec
from restmcts.domain.runs.spec_settings import Setting, settings_of, spec_settings
from restmcts.domain.search.protocol import Budget
from restmcts.domain.tasks.task import TASKS
from restmcts.errors import InputError, RestMctsError
from restmcts.notebook.arguments import checked_argument, checks_arguments
from restmcts.notebook.runs import LoadedRun, load_run
from restmcts.notebook.trees import SearchTree

from restmcts_cli.arguments.evaluation_request import EvaluationRequest
from restmcts_cli.arguments.model_checks import check_context
from restmcts_cli.arguments.run_flags import LOCAL_FLAGS, RUN_FLAGS, Flag
from restmcts_cli.arguments.run_requests import SELFTRAIN_RUN, requested_settings, run_of
from restmcts_cli.arguments.search_options import parse_search

if TYPE_CHECKING:
    from restmcts_cli.reports.evaluation_tables import EvaluationReport

Model = str | Path
SEARCH_RUN = "search"
_OF_GENERATION = ("temperature", "max_step_tokens", "max_solution_tokens", "template")
_NO_SETTINGS = ("problems", "policy", "value", "methods", "budgets", "seeds", "out", "run")
"""Fields of an evaluation that are arguments of their own here, or of the stack alone."""
_FLAG = re.compile(r"(`[^`]*`)|--([a-z][a-z-]*)")
_SETTINGS = {flag.name.lstrip("-"): flag.settings[0] for flag in (*RUN_FLAGS, *LOCAL_FLAGS) if isinstance(flag, Flag)}


@checks_arguments
def selftrain(spec: RunSpec | Mapping[str, Any] | str | Path, workdir: str | Path) -> LoadedRun:
    """Let a model teach itself, and return the run once it has ended. What was killed is resumed
    when it is asked for again with the same folder.

    Args:
        spec: the settings of the run (`restmcts options` lists them): a document, a dictionary of
            the same form, or a run file.
        workdir: folder for everything the run makes.

    Raises:
        InputError: if a setting, a file or a model cannot be used, or the folder contains a run
            with other settings.
        RestMctsError: if the run fails or is paused; what is done stays done.
    """
    from restmcts_cli.arguments.plugin_files import check_folder
    from restmcts_cli.experiments.selftrain_run import selftrained_here

    folder = Path(workdir)
    note_call(f"restmcts.selftrain({_shown(spec)}, {str(workdir)!r})")
    with _said_in_python({"plugin": "plugins", **_SETTINGS}):
        argument, given = (_run_file(spec), []) if isinstance(spec, str | Path) else (None, _given_settings(spec))
        settings = requested_settings(argument, given)
        asked = run_of(settings)
        check_folder(folder)
        with selftrained_here(asked, folder, {setting.name for setting in settings}):
            pass
    return load_run(SELFTRAIN_RUN, folder)


def _run_file(path: str | Path) -> str:
    """Return the path of a run file; raise InputError if something else is given."""
    if not is_run_file(str(path)):
        raise InputError(
            f"selftrain: spec is {str(path)!r}; give a run file (.toml), or settings: {{'problems': …, 'policy': …}}"
        )
    return str(path)


def _given_settings(spec: RunSpec | Mapping[str, Any]) -> list[Setting]:
    """Return the settings of a document, in which files and folders may be paths."""
    if isinstance(spec, RunSpec):
        return spec_settings(spec, "spec")
    return [replace(one, value=_as_text(one.value)) for one in settings_of(spec, "spec")]


def _shown(spec: RunSpec | Mapping[str, Any] | str | Path) -> str:
    return repr(str(spec)) if isinstance(spec, str | Path) else "…"


def _as_text(value: object) -> object:
    if isinstance(value, list | tuple):
        return [_as_text(one) for one in value]
    return str(value) if isinstance(value, Path) else value


@contextmanager
def _said_in_python(settings: Mapping[str, str]) -> Iterator[None]:
    """Let errors name arguments and settings where they name flags of a command.

    Args:
        settings: by flags without their dashes; other flags are the arguments of their names.
    """

    def in_python(found: re.Match[str]) -> str:
        command, flag = found.groups()
        return str(command or settings.get(flag, flag.replace("-", "_")))

    try:
        yield
    except RestMctsError as error:
        raise type(error)(_FLAG.sub(in_python, str(error))) from error


@checks_arguments
def evaluate(
    problems: str | Path,
    policy: Model | None = None,
    *,
    value: Model | Mapping[str, Model] | None = None,
    methods: Sequence[str] | None = None,
    budgets: Sequence[int] = (500, 1000, 2000, 4000),
    seeds: Sequence[int] = (0,),
    out: str | Path | None = None,
    **settings: object,
) -> "EvaluationReport":
    """Answer the same problems with every method under the same budgets of generated tokens.

    Args:
        problems: a benchmark's name, a file, or what else `restmcts evaluate` takes.
        policy: folder, hub id or server; None where `iterations_of` names a run.
        value: the value model that searches ask, or several by name.
        methods: names (`restmcts evaluate --help`); None: all that these models allow.
        budgets: in generated tokens for each problem.
        seeds: of sampling.
        out: folder of the evaluation, which resumes it; None: nothing is kept.
        settings: other options of `restmcts evaluate`, by name (`limit=50`, `temperature=1.0`).

    Returns:
        Its `outcomes` are one for each method, budget, seed and problem, `table.summaries()` one
        for each method and budget, both dataclasses.

    Raises:
        InputError: if a file, a model, a method or a setting cannot be used.
        RestMctsError: if the run fails, or no problem gets an answer.
    """
    from restmcts_cli.commands.learning.evaluate import evaluation_report

    note_call(f"restmcts.evaluate({str(problems)!r}, {str(policy)!r}, …)")
    _check_evaluation_settings(settings)
    for name, given in (("methods", methods), ("budgets", budgets), ("seeds", seeds)):
        if given is not None and not given:
            raise InputError(f"evaluate: {name} is empty; give at least one")
    values = value if isinstance(value, Mapping) else {} if value is None else {"": value}
    named = [f"{name}={model}" if name else str(model) for name, model in values.items()]
    place = TemporaryDirectory(prefix="restmcts-evaluate-") if out is None else nullcontext(out)
    with place as folder, _said_in_python({}):
        asked = EvaluationRequest(
            problems=str(problems),
            out=Path(folder),
            policy=str(policy) if policy is not None else None,
            value=named or None,
            methods=",".join(methods) if methods is not None else None,
            budgets=",".join(map(str, budgets)),
            seeds=",".join(map(str, seeds)),
            **settings,  # type: ignore[arg-type]
        )
        return evaluation_report(asked)


def _check_evaluation_settings(settings: Mapping[str, object]) -> None:
    """Raise InputError if there is no such setting of an evaluation, or its value does not fit."""
    known = {field.name: field for field in fields(EvaluationRequest) if field.name not in _NO_SETTINGS}
    for name, value in settings.items():
        if name not in known:
            raise InputError(f"evaluate has no setting {name!r}; it has {', '.join(sorted(known))}")
        hint, option = get_args(known[name].type)
        checked_argument(f"evaluate: {name}", value, hint)
        if option.min is not None and isinstance(value, int) and value < option.min:
            raise InputError(f"evaluate: {name} is {value}; give at least {option.min}")


@checks_arguments
def search(
    policy: Model,
    value: Model | None = None,
    problem: Problem | str | None = None,
    *,
    algorithm: str = "best-first",
    tokens: int = 2000,
    seed: int = 0,
    options: Mapping[str, object] | None = None,
    generation: GenerationSettings | None = None,
    device: str = "cpu",
) -> SearchTree:
    """Search one problem; return the tree, with verdicts where the problem has a true answer.

    Without a value model: `search(policy, problem=question, algorithm="self-consistency")`.

    Args:
        policy: folder, hub id or server.
        value: the value model; None for an algorithm that asks none.
        problem: the problem, or its question alone; it must be given.
        algorithm: a method of `restmcts evaluate`: best-first, mcts-star, tot-bfs, best-of-n, ….
        tokens: the budget in generated tokens.
        seed: of sampling; the same seed gives the same tree.
        options: settings of the algorithm, by name.
        generation: temperature and lengths of steps and solutions.
        device: of torch.

    Raises:
        InputError: if there is no such model, algorithm or option, or the algorithm asks for a
            value model and none is given.
        RestMctsError: if the search fails.
    """
    from restmcts_cli.arguments.model_sources import check_model_name, checkpoint_argument

    asked = Problem(problem, None) if isinstance(problem, str) else problem
    if asked is None or not asked.question.strip():
        raise InputError("search: problem is missing; give a question or a Problem, problem=…")
    TASKS.get(asked.kind)
    for name, number, least in (("tokens", tokens, 1), ("seed", seed, 0)):
        if number < least:
            raise InputError(f"search: {name} is {number}; give at least {least}")
    phase = _search_phase(algorithm, options or {}, tokens, generation or GenerationSettings(), value is not None)
    for kind, model in (("policy", policy), ("value", value)):
        if model is not None:
            check_model_name(str(model), kind)
    from restmcts_local.local_run import LocalRun, ModelOptions

    models = {"policy": ("policy", checkpoint_argument(str(policy), "policy", False))}
    in_search = {name.replace("_", "-"): f"generation.{name}" for name in _OF_GENERATION}
    with _said_in_python(in_search):
        check_context(models["policy"][1], phase.generation.max_step_tokens)
    if phase.value is not None:
        models[phase.value] = ("value", checkpoint_argument(str(value), "value", False))
    with TemporaryDirectory(prefix="restmcts-search-") as folder, _said_in_python(in_search):
        with LocalRun(Path(folder), ModelOptions(device=device, template=phase.generation.template)) as run:
            run.run(run.create(SEARCH_RUN, SEARCH_RUN, seed, {}, {PROBLEM_SET: [asked]}, models, [phase]))
        return _whole_tree(Path(folder))


def _search_phase(
    algorithm: str, options: Mapping[str, object], tokens: int, generation: GenerationSettings, has_values: bool
) -> SearchPhase:
    method = ANSWERING.get(algorithm)
    given = [f"{name}={_as_json(algorithm, name, value)}" for name, value in options.items()]
    settings = parse_search(method.search.algorithm, given, **asdict(method.search)).at_budget(tokens, tokens)
    if settings.needs_values and not has_values:
        raise InputError(
            f"{algorithm} asks a value model, and none was given: value=…, or algorithm=… with one that asks none: "
            f"{', '.join(name for name in ANSWERING.names() if not ANSWERING.get(name).search.needs_values)}"
        )
    value = "value" if settings.needs_values else None
    budget = Budget(tokens=tokens)
    return SearchPhase(SEARCH_RUN, 0, "evaluate", PROBLEM_SET, "policy", value, settings, budget, generation)


def _as_json(algorithm: str, name: str, value: object) -> str:
    try:
        return json.dumps(value)
    except (TypeError, ValueError):
        raise InputError(f"{algorithm}: {name} is {value!r}; give a number, a text, True, False or a list") from None


def _whole_tree(folder: Path) -> SearchTree:
    """Return the only tree of a work folder with all its nodes, which outlive the folder."""
    with load_run(SEARCH_RUN, folder) as loaded:
        (tree,) = loaded.trees()
        if tree.state == "failed":
            raise RestMctsError(f"the search failed: {tree.facts['error']}")
        _ = tree.nodes
    return tree
