"""Self-training, evaluation and search from Python, in this process: `restmcts.selftrain`,
`restmcts.evaluate` and `restmcts.search`.

They do what the commands do, by the same code; models are loaded when a function is called.
"""

import json
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict, fields
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from restmcts.domain.problems import Problem
from restmcts.domain.requests import GenerationSettings
from restmcts.domain.runs.evaluation import ANSWERING, PROBLEM_SET
from restmcts.domain.runs.phases import SearchPhase
from restmcts.domain.runs.spec import RunSpec
from restmcts.domain.runs.spec_settings import settings_of, spec_of, spec_settings
from restmcts.domain.search.protocol import Budget
from restmcts.errors import InputError, RestMctsError
from restmcts.notebook.runs import LoadedRun, load_run
from restmcts.notebook.trees import SearchTree

from restmcts_cli.arguments.evaluation_request import EvaluationRequest
from restmcts_cli.arguments.run_requests import SELFTRAIN_RUN, requested_settings
from restmcts_cli.arguments.search_options import parse_search

if TYPE_CHECKING:
    from restmcts_cli.reports.evaluation_tables import EvaluationReport

Model = str | Path
SEARCH_RUN = "search"


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

    if isinstance(spec, str | Path):
        settings = requested_settings(str(spec), [])
    else:
        document = spec_settings(spec, "spec") if isinstance(spec, RunSpec) else settings_of(spec, "spec")
        settings = requested_settings(None, document)
    folder = Path(workdir)
    check_folder(folder)
    with selftrained_here(spec_of(settings), folder, {setting.name for setting in settings}):
        pass
    return load_run(SELFTRAIN_RUN, folder)


def evaluate(
    problems: str | Path,
    policy: Model,
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
        policy: folder, hub id or server.
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

    known = {field.name for field in fields(EvaluationRequest)} - {"problems", "out", "run"}
    if unknown := sorted(set(settings) - known):
        raise InputError(f"evaluate has no setting {unknown[0]!r}; it has {', '.join(sorted(known))}")
    values = value if isinstance(value, Mapping) else {} if value is None else {"": value}
    named = [f"{name}={model}" if name else str(model) for name, model in values.items()]
    with TemporaryDirectory(prefix="restmcts-evaluate-") if out is None else nullcontext(out) as folder:
        asked = EvaluationRequest(
            problems=str(problems),
            out=Path(folder),
            policy=str(policy),
            value=named or None,
            methods=",".join(methods) if methods is not None else None,
            budgets=",".join(map(str, budgets)),
            seeds=",".join(map(str, seeds)),
            **settings,  # type: ignore[arg-type]
        )
        return evaluation_report(asked)


def search(
    policy: Model,
    value: Model | None,
    problem: Problem | str,
    *,
    algorithm: str = "best-first",
    tokens: int = 2000,
    seed: int = 0,
    options: Mapping[str, object] | None = None,
    generation: GenerationSettings | None = None,
    device: str = "cpu",
) -> SearchTree:
    """Search one problem; return the tree, with verdicts where the problem has a true answer.

    Args:
        policy: folder, hub id or server.
        value: the value model; None for an algorithm that asks none.
        problem: the problem, or its question alone.
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
    from restmcts_local.local_run import LocalRun, ModelOptions

    from restmcts_cli.arguments.model_sources import checkpoint_argument

    phase = _search_phase(algorithm, options or {}, tokens, generation or GenerationSettings(), value is not None)
    models = {"policy": ("policy", checkpoint_argument(str(policy), "policy", False))}
    if phase.value is not None:
        models[phase.value] = ("value", checkpoint_argument(str(value), "value", False))
    asked = Problem(problem, None) if isinstance(problem, str) else problem
    with TemporaryDirectory(prefix="restmcts-search-") as folder:
        with LocalRun(Path(folder), ModelOptions(device=device, template=phase.generation.template)) as run:
            run.run(run.create(SEARCH_RUN, SEARCH_RUN, seed, {}, {PROBLEM_SET: [asked]}, models, [phase]))
        return _whole_tree(Path(folder))


def _search_phase(
    algorithm: str, options: Mapping[str, object], tokens: int, generation: GenerationSettings, has_values: bool
) -> SearchPhase:
    method = ANSWERING.get(algorithm)
    given = [f"{name}={json.dumps(value)}" for name, value in options.items()]
    settings = parse_search(method.search.algorithm, given, **asdict(method.search)).at_budget(tokens, tokens)
    if settings.needs_values and not has_values:
        raise InputError(f"{algorithm} asks a value model, and none was given")
    value = "value" if settings.needs_values else None
    budget = Budget(tokens=tokens)
    return SearchPhase(SEARCH_RUN, 0, "evaluate", PROBLEM_SET, "policy", value, settings, budget, generation)


def _whole_tree(folder: Path) -> SearchTree:
    """Return the only tree of a work folder with all its nodes, which outlive the folder."""
    with load_run(SEARCH_RUN, folder) as loaded:
        (tree,) = loaded.trees()
        if tree.state == "failed":
            raise RestMctsError(f"the search failed: {tree.facts['error']}")
        _ = tree.nodes
    return tree
