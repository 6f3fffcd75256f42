"""The flags of commands that make a run: names for settings of its document, from one table."""

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import wraps
from typing import Annotated, Any

import typer
from restmcts.domain.runs.options import Option, as_written, options_of
from restmcts.domain.runs.spec import RunSpec, with_derived
from restmcts.domain.runs.spec_settings import ALGORITHM, CHOICES, LEARNER, Setting, section_class

from restmcts_cli.arguments.search_options import named_values

PROBLEMS, METHOD, SEARCH = "Problems and models", "Method and budget", "Search"
TRAINING, MACHINE, FILE = "Training", "This machine", "Run file"
MANY = "given"
"""The parameter in which a command gets the settings that were typed."""


@dataclass(frozen=True, slots=True)
class Flag:
    """A name on the command line for one or more settings.

    Attributes:
        name: with its dashes; a second one, behind a slash, is accepted too.
        settings: dotted names in the run's document.
        panel: the group of the help text it is in.
        help: what it does; "": what the first setting says of itself.
    """

    name: str
    settings: tuple[str, ...]
    panel: str
    help: str = ""


@dataclass(frozen=True, slots=True)
class Prefix:
    """A flag that may be repeated, and sets any setting below a place: `-o branch=4`."""

    name: str
    prefix: str
    panel: str
    help: str


POLICY = Flag("--policy", ("policy",), PROBLEMS)
SEED = Flag("--seed", ("seed",), METHOD)
TEMPLATE = Flag("--template", ("models.template",), PROBLEMS)
TEST = Flag("--test", ("test",), PROBLEMS)
LIMIT = Flag("--limit", ("limit",), PROBLEMS)
TRUTH = Flag(
    "--truth",
    ("truth.source",),
    METHOD,
    "How solutions are found right or wrong when trees are labelled: answers, by each problem's own verification (for code its "
    "tests); tests, the same for code alone; votes, by the answer that most solutions of a tree agree on; judge, by what the "
    "language models of truth.judges say of each solution.",
)
PROBE = Flag("--probe", ("probe",), PROBLEMS)
BUDGET_TOKENS = Flag("--budget-tokens", ("budget.tokens",), SEARCH, "Generated tokens that each tree may spend.")
BATCH_SIZE = Flag("--batch-size", ("policy_training.batch_size", "value_training.batch_size"), TRAINING)
POLICY_RATE = Flag(
    "--policy-learning-rate",
    ("policy_training.learning_rate",),
    TRAINING,
    "Peak learning rate of the policy's training.",
)
VALUE_RATE = Flag(
    "--value-learning-rate",
    ("value_training.learning_rate",),
    TRAINING,
    "Peak learning rate of the value model's training.",
)
DEVICE = Flag("--device", ("models.device",), MACHINE)
DTYPE = Flag("--dtype", ("models.dtype",), MACHINE)
ENGINE = Flag("--engine", ("models.engine",), MACHINE)
TREES_IN_FLIGHT = Flag("--trees-in-flight", ("models.trees_in_flight",), MACHINE)
LEARNER_FLAG = Flag(
    "--learner",
    (LEARNER,),
    TRAINING,
    "What the policy learns of the trees; `restmcts options learner` lists the learners and their settings.",
)
LEARNER_OPTION = Prefix("--learner-option/-l", "learner.", TRAINING, "A setting of the learner, e.g. strength=0.3.")
STEPS = Flag(
    "--steps", ("policy_training.num_steps", "value_training.num_steps"), TRAINING, "Optimizer steps of every training."
)
SET = Prefix(
    "--set", "", FILE, "Any setting of the run by its dotted name, e.g. budget.nodes=40; it overrides all else."
)

ALGORITHM_FLAG = Flag(
    "--algorithm",
    (ALGORITHM,),
    SEARCH,
    "Search that collects trees; `restmcts options search` lists them and their settings.",
)
SEARCH_OPTION = Prefix("--option/-o", "search.", SEARCH, "A setting of the search, e.g. num_alternatives=3.")
GENERATION_FLAGS = (
    Flag("--temperature", ("generation.temperature",), SEARCH),
    Flag("--max-step-tokens", ("generation.max_step_tokens",), SEARCH),
    Flag("--max-solution-tokens", ("generation.max_solution_tokens",), SEARCH),
)
SPLIT, STRICT = Flag("--split", ("split",), PROBLEMS), Flag("--strict", ("strict",), PROBLEMS)
DIFFICULTY = Flag(
    "--difficulty",
    ("puzzles.difficulty",),
    PROBLEMS,
    "How hard the puzzles are: a range of distances of number paths, at most 8, of lines of small programs, at most "
    "5, or of changes in word problems, at most 5.",
)

RUN_FLAGS: tuple[Flag | Prefix, ...] = (
    POLICY,
    Flag("--value", ("value",), PROBLEMS),
    TEST,
    PROBE,
    LIMIT,
    SPLIT,
    STRICT,
    TRUTH,
    Flag("--method", ("method",), METHOD, "Self-training method, e.g. rest-mcts, rest-mcts-paper, rest-em or star."),
    Flag("--labels", ("labels",), METHOD),
    Flag("--iterations", ("iterations",), METHOD),
    Flag("--rounds", ("rounds",), METHOD),
    Flag("--max-staleness", ("max_staleness",), METHOD),
    Flag("--max-tokens", ("max_tokens",), METHOD),
    SEED,
    Flag(
        "--held-out",
        ("promotion.num_problems",),
        METHOD,
        "The most problems, one in ten, that are held out to evaluate new checkpoints on; 0: each checkpoint is promoted.",
    ),
    Flag(
        "--promotion-margin/--gate-margin",
        ("promotion.margin",),
        METHOD,
        "A new checkpoint is promoted unless it is more than so many standard errors worse than the one before it.",
    ),
    ALGORITHM_FLAG,
    SEARCH_OPTION,
    BUDGET_TOKENS,
    Flag("--budget-iterations", ("budget.iterations",), SEARCH, "Rounds of the search that each tree may spend."),
    *GENERATION_FLAGS,
    Flag(
        "--top-k",
        ("traces.top_k",),
        TRAINING,
        "The most right traces of each problem that train the policy; if not given, all of them.",
    ),
    LEARNER_FLAG,
    LEARNER_OPTION,
    Flag("--epochs", ("policy_training.num_epochs", "value_training.num_epochs"), TRAINING),
    BATCH_SIZE,
    POLICY_RATE,
    VALUE_RATE,
    Prefix(
        "--policy-option",
        "policy_training.",
        TRAINING,
        "A setting of the policy's training, e.g. precision=bfloat16, packing=true, lora_rank=16 (adapters, which models "
        "of more than 3 billion parameters have without it; 0: all weights).",
    ),
    Prefix(
        "--value-option",
        "value_training.",
        TRAINING,
        "A setting of the value model's training, e.g. validation_share=0.1, patience=3.",
    ),
    Flag("--value-objective", ("value_objective",), TRAINING),
    TEMPLATE,
    SET,
)
LOCAL_FLAGS = (
    DEVICE,
    DTYPE,
    ENGINE,
    TREES_IN_FLIGHT,
    Flag("--trust-remote-code", ("models.trust_remote_code",), MACHINE),
)
COMPARE_FLAGS = (
    *(POLICY, TEST, LIMIT, DIFFICULTY, BUDGET_TOKENS, STEPS, BATCH_SIZE, POLICY_RATE, VALUE_RATE),
    *(LEARNER_FLAG, LEARNER_OPTION, DEVICE, DTYPE, ENGINE, TREES_IN_FLIGHT, SET),
)
PROBE_FLAGS = (
    *(POLICY, LIMIT, SPLIT, STRICT, TEMPLATE, SEED, ALGORITHM_FLAG, SEARCH_OPTION, *GENERATION_FLAGS),
    *(*LOCAL_FLAGS, SET),
)


def with_flags(
    flags: Sequence[Flag | Prefix], *, changes_stored: bool = False
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Return a decorator that gives a command these flags; of one that changes a stored run no
    defaults are shown, as a flag that is left out keeps what is stored.

    The command takes the parameter `given`: a list of the settings that were typed, in the order in
    which they override one another.
    """

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        @wraps(command)
        def call(**typed: object) -> None:
            values = [(flag, typed.pop(_name(flag))) for flag in flags]
            command(**typed, given=[one for flag, value in values for one in _settings(flag, value)])

        signature = inspect.signature(command)
        own = [parameter for name, parameter in signature.parameters.items() if name != MANY]
        parameters = [*own, *(_parameter(flag, shows_default=not changes_stored) for flag in flags)]
        call.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
        call.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
        return call

    return decorate


def _settings(flag: Flag | Prefix, value: Any) -> list[Setting]:
    if value is None or value == [] or value is False:
        return []
    name = flag.name.partition("/")[0]
    if isinstance(flag, Flag):
        return [Setting(setting, value, name) for setting in flag.settings]
    found = [Setting(flag.prefix + key, one, name) for key, one in named_values(value).items()]
    return sorted(found, key=lambda setting: setting.name not in CHOICES)


def _name(flag: Flag | Prefix) -> str:
    """Return the name of a flag's parameter."""
    return flag.name.partition("/")[0].lstrip("-").replace("-", "_")


def _parameter(flag: Flag | Prefix, *, shows_default: bool) -> inspect.Parameter:
    names, panel = flag.name.split("/"), flag.panel
    annotation: Any
    if isinstance(flag, Prefix):
        annotation = Annotated[list[str] | None, typer.Option(*names, help=flag.help, rich_help_panel=panel)]
    else:
        option = _option(flag.settings[0])
        default = _default(flag.settings[0], option) if shows_default else ""
        # Typer would put a default that is a text in brackets of its own.
        shown_default = rf" [dim]\[default: {default}][/dim]" if default else ""
        text = f"{flag.help or option.help}{shown_default}"
        shown = typer.Option(*names, help=text, rich_help_panel=panel, show_default=False)
        annotation = Annotated[option.annotation | None, shown]
    return inspect.Parameter(_name(flag), inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)


def _option(setting: str) -> Option:
    *sections, name = setting.split(".")
    if setting in CHOICES:
        return Option(name, str, "", "", "")
    owner = RunSpec if not sections else section_class(RunSpec.model_fields[sections[0]].annotation)
    return next(option for option in options_of(owner) if option.name == name)


_DERIVED = with_derived({})


def _default(setting: str, option: Option) -> str:
    """Return the default to be shown; empty if there is none."""
    value: Any = _DERIVED
    for name in setting.split("."):
        value = value.get(name) if isinstance(value, dict) else None
    shown = (as_written(value) if value is not None else option.default).strip('"')
    return shown if shown not in ("null", "false") else ""
