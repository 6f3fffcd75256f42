"""A run as a person asks for it, whole: one typed document that a run file holds, flags override,
and the database keeps.

What is not given is derived when a document is validated: training takes the run's seed and its
prompt template, and a search that collects trees spends its whole budget. A validated `RunSpec`
has everything written out, so that it makes the same run in a version with other defaults.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, TypeVar

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidatorFunctionWrapHandler,
    WrapValidator,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError

from restmcts.domain.labels.filtering import TraceFilter
from restmcts.domain.learning.learner import LearnerSettings
from restmcts.domain.learning.losses import PreferenceLoss
from restmcts.domain.prompts import TEMPLATE_NAMES
from restmcts.domain.requests import GenerationSettings
from restmcts.domain.runs.methods import METHODS
from restmcts.domain.runs.promotion import PromotionSettings
from restmcts.domain.runs.self_training import FirstLabels
from restmcts.domain.runs.training_settings import HEAD_OF_VALUES, Dtype, TrainingSettings, ValueObjective
from restmcts.domain.search.protocol import Budget
from restmcts.domain.search.settings import ALGORITHM, SEARCHES, SearchSettings
from restmcts.domain.search.tool_calls import ToolSettings
from restmcts.domain.truth.truth_settings import TruthSettings
from restmcts.errors import InputError

NONE = "null"
"""What a run file writes for a setting that is None: TOML has no word for it."""

COLLECTING: tuple[tuple[str, Any], ...] = (("mode", "collect"), ("stop_threshold", None))
"""What a search that collects trees has in place of its own default: the first of these settings
that it has."""

METHOD = "rest-mcts"
MAX_ITERATIONS = 10_000
"""Of a run, and rounds of an iteration: all phases of a run are made when it is stored."""

TRAININGS = ("policy_training", "value_training", "seed_training", "preference_training")
_MAY_CHANGE = ("max_tokens", "plugins", "problems", "test", "limit", "split", "strict")
T = TypeVar("T")


def _reasoned(value: object, validate: ValidatorFunctionWrapHandler) -> object:
    """Turn what a settings class refuses into a reason that names its place in the document."""
    try:
        return validate(value)
    except InputError as error:
        raise PydanticCustomError("unusable", "{reason}", {"reason": str(error)}) from error


Section = Annotated[T, WrapValidator(_reasoned)]
"""Settings under a name of their own."""


def _as_text(value: object) -> object:
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


class Document(BaseModel):
    """What is written in a run file: unknown keys are refused, and nothing changes once read."""

    # Validators are made when they are first used: `restmcts --help` reads names and texts alone.
    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)


class PuzzleSets(Document):
    """Problem sets that are drawn from the run's seed; no two share a question."""

    kind: str = Field(
        default="number-paths", description="The puzzle: number-paths, small-programs, word-problems or story-problems."
    )
    difficulty: Annotated[str | None, BeforeValidator(_as_text)] = Field(
        default=None,
        description="How hard all puzzles but clumsy demonstrations are, a level or a range: distances of number paths "
        "(3-6; at most 8), lines of small programs (2-4; at most 5), changes in word problems (1-3; at most 5), "
        "levels of story problems (3; at most 5).",
    )
    demonstrations: int = Field(default=1500, ge=0, description="Puzzles with clumsy solutions, for the first policy.")
    bootstrap: int = Field(
        default=1000, ge=0, description="How many of the demonstrations' puzzles give the first value model its data."
    )
    searched: int = Field(default=2200, ge=1, description="Puzzles that are searched in each iteration.")
    fresh: bool = Field(
        default=True,
        description="Each iteration searches puzzles of its own; false: all search the same, as they do with a file.",
    )
    test: int = Field(default=1000, ge=0, description="Puzzles on which every policy is evaluated.")
    compared: int = Field(
        default=300, ge=0, description="How many of the test puzzles the evaluations at the end answer."
    )
    held_out: int = Field(
        default=200, ge=0, description="Puzzles on which new checkpoints are evaluated before promotion."
    )


class EvaluationSpec(Document):
    """A search on test problems with the last promoted models once the iterations are done, or with
    the policy as it was given.
    """

    name: str = Field(description="The phase's name, unique in the run.")
    search: Section[SearchSettings] = Field(description="The search, by `algorithm`, and its settings.")
    budget: Section[Budget] = Field(default=Budget(), description="What each tree may spend.")
    policy: Literal["last", "base"] = Field(
        default="last", description="The last promoted policy, or the one that the run was given, untrained."
    )


class RunModelSettings(Document):
    """How models are loaded and called by whoever works on the run."""

    template: str = Field(
        default="auto",
        description="Prompt template: auto (the model's own), chat, plain, raw, few-shot, steps-en or steps-zh; for code"
        " code-en or code-zh.",
    )
    device: str = Field(default="cpu", min_length=1, description="Device of torch: cpu, cuda, cuda:1, … or auto.")
    dtype: Dtype = Field(
        default="auto",
        description="Number format of weights in use; auto: as stored if the device computes in it quickly, else float32.",
    )
    engine: str = Field(
        default="transformers",
        min_length=1,
        description="What runs the models' weights: transformers (in this process) or vllm (servers that are"
        " started here); `restmcts plugins list` names more.",
    )
    trees_in_flight: int = Field(default=64, ge=1, description="Trees that are searched at the same time.")
    trust_remote_code: bool = Field(default=False, description="Whether code that comes with a model may run.")
    max_batch_tokens: int = Field(default=16_384, ge=1, description="Tokens of one forward pass at most.")
    key_value_bytes: int = Field(
        default=2**30,
        ge=0,
        description="Memory for the keys and values that each model keeps of what it has read; 0: none.",
    )
    num_threads: int | None = Field(default=None, ge=1, description="Threads of torch; if not given, torch chooses.")
    num_training_threads: int | None = Field(
        default=None, ge=1, description="Threads of each training process; if not given, torch chooses."
    )
    keep_training_logs: bool = Field(default=True, description="Whether training writes TensorBoard's event files.")

    @field_validator("template")
    @classmethod
    def _is_known(cls, template: str) -> str:
        if template not in TEMPLATE_NAMES:
            reason = f"there is no prompt template {template!r}; there are {', '.join(TEMPLATE_NAMES)}"
            raise PydanticCustomError("unusable", "{reason}", {"reason": reason})
        return template


class RunSpec(Document):
    """A self-training run."""

    policy: str | None = Field(
        default=None,
        description="Language model that learns: folder, hub id, openai+http://HOST:PORT/v1?model=NAME or a puzzle.",
    )
    value: str | None = Field(
        default=None,
        description="Value model: folder, hub id or server; if not given, it is trained from the policy's own samples.",
    )
    problems: str | None = Field(
        default=None,
        description="Problems to train on: a file (.jsonl, .csv), hub:OWNER/NAME[:CONFIG] or demo:COUNT.",
    )
    test: str | None = Field(
        default=None, description="Problems on which every policy is evaluated, from the same sources."
    )
    probe: str | None = Field(
        default=None,
        description="Problems with true answers on which verdicts by votes are checked in every iteration, 50 to 200 of "
        "them: one of these sources, or held-out for the held-out problems.",
    )
    limit: int | None = Field(default=None, ge=1, description="Use only this many problems, from the first on.")
    split: str = Field(default="train", description="Split of a data set of the hub.")
    strict: bool = Field(default=False, description="Stop at the first bad line instead of skipping it.")
    seed: int = Field(default=0, ge=0, description="Decides every sample and the order of training data.")
    method: str = Field(default=METHOD, description="Self-training method; `restmcts options method` lists them.")
    labels: FirstLabels | None = Field(
        default=None, description="Source of the labels of the first value model; if not given, the method's own."
    )
    iterations: int = Field(
        default=1, ge=1, le=MAX_ITERATIONS, description="How often problems are searched and the models trained."
    )
    rounds: int = Field(
        default=1,
        ge=1,
        le=MAX_ITERATIONS,
        description="Parts of an iteration's problems, after each of which the models are trained further.",
    )
    max_staleness: int = Field(
        default=0,
        ge=0,
        description="Trainings of the policy that may lie between the one that writes a tree and the one that learns from "
        "it; 1: a round is searched while the models of the one before are trained.",
    )
    max_tokens: int | None = Field(
        default=None,
        ge=1,
        description="Generated tokens of the whole run; once they are spent, the run pauses until the number is raised.",
    )
    plugins: tuple[str, ...] = Field(
        default=(), description="Python files that add tasks, searches or methods to this run."
    )
    control: bool = Field(
        default=False, description="Also train the first policy as many further steps on given solutions alone."
    )
    seeds_again: bool = Field(
        default=False,
        description="Whether policies learn the given solutions again in every iteration, beside the traces.",
    )
    hint: str = Field(
        default="{question}\n(The answer is {answer}.)",
        description="Prompt in which a policy is asked to explain the answer of a problem (STaR).",
    )
    num_bootstrap_samples: int = Field(
        default=4, ge=1, description="Solutions of the first policy to each problem, for the first value model."
    )
    merge_solutions: bool = Field(
        default=True, description="Whether given solutions join the trees of the first labels."
    )
    value_objective: ValueObjective = Field(
        default="mse",
        description="What value models learn: mse, soft, hard, orm or ranking of siblings; siblings is mse and their order, "
        "progress is mse and what each step adds.",
    )
    puzzles: PuzzleSets | None = Field(default=None, description="Problem sets of a puzzle, in place of `problems`.")
    search: Section[SearchSettings] = Field(description="How trees are collected.")
    budget: Section[Budget] = Field(description="What each tree may spend.")
    generation: Section[GenerationSettings] = Field(description="How the policy generates.")
    traces: Section[TraceFilter] = Field(default=TraceFilter(), description="Which right traces train the policy.")
    learner: Section[LearnerSettings] = Field(description="What the policy learns of the trees, and by which loss.")
    policy_training: Section[TrainingSettings] = Field(description="Training of the policy in every iteration.")
    value_training: Section[TrainingSettings] = Field(description="Training of every value model.")
    seed_training: Section[TrainingSettings | None] = Field(
        default=None,
        description="Training of the first policy on given solutions; if not given, the given policy is the first.",
    )
    preference_training: Section[TrainingSettings | None] = Field(
        default=None,
        description="Training on pairs; if not given, as `policy_training` with a tenth of its learning rate.",
    )
    promotion: Section[PromotionSettings] = Field(
        default=PromotionSettings(), description="When a new checkpoint replaces the one before it."
    )
    truth: Section[TruthSettings] = Field(
        default=TruthSettings(), description="Where the verdicts on training trees come from."
    )
    tools: Section[ToolSettings] = Field(
        default=ToolSettings(), description="Whether steps may call tools of the problems' task."
    )
    evaluations: tuple[EvaluationSpec, ...] = Field(default=(), description="Searches compared with the last models.")
    models: RunModelSettings = Field(default=RunModelSettings(), description="How models are loaded and called.")

    @model_validator(mode="before")
    @classmethod
    def _derived(cls, given: object) -> object:
        return with_derived(given) if isinstance(given, Mapping) else given

    @model_validator(mode="after")
    def _packs_paths(self) -> "RunSpec":
        packs_pairs = self.policy_training.tree_packing and isinstance(self.learner.loss, PreferenceLoss)
        others = [self.value_training, self.preference_training]
        if packs_pairs or any(one is not None and one.tree_packing for one in others):
            reason = "tree_packing is for paths that a policy learns, not for pairs or value models: leave it out"
            raise PydanticCustomError("unusable", "{reason}", {"reason": reason})
        return self

    @model_validator(mode="after")
    def _policies_learn_whole(self) -> "RunSpec":
        of_policies = [self.policy_training, self.seed_training, self.preference_training]
        if any(one is not None and one.trainable == "head" for one in of_policies):
            raise PydanticCustomError("unusable", "{reason}", {"reason": HEAD_OF_VALUES})
        return self

    @model_validator(mode="after")
    def _one_source(self) -> "RunSpec":
        if self.puzzles is not None and (self.problems is not None or self.test is not None):
            raise PydanticCustomError("unusable", "puzzles have their own problems: leave out problems and test")
        return self


def with_derived(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return a document with what it leaves out and other parts of it decide."""
    document = {name: _without_none(value) for name, value in given.items() if value != NONE}
    models = document.get("models")
    template = models.get("template", "auto") if isinstance(models, Mapping) else getattr(models, "template", "auto")
    shared = {"seed": document.get("seed", 0), "template": template}
    own = {"num_epochs": 2, "batch_size": 8}
    for name, learning_rate in zip(TRAININGS, (1e-5, 2e-5, 1e-5, 1e-6), strict=True):
        if document.get(name) is not None or name in TRAININGS[:2]:
            _fill(document, name, {**own, "learning_rate": learning_rate, **shared})
    _fill(document, "budget", {"iterations": 16})
    _fill(document, "generation", {"template": template})
    _fill(document, "learner", {"name": "sft"})
    of_method = search_of_method(document)
    search = search_class(of_method[ALGORITHM])
    if search is not None and isinstance(document.get("search"), Mapping):
        document["search"] = search.with_present_names(document["search"])
    _fill(document, "search", of_method)
    if search is not None:
        _fill(document, "search", _collecting(search))
    return document


def search_of_method(document: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the settings with which the method of a run's document searches, where the document
    does not say otherwise: the algorithm, and what of it is the method's own.
    """
    method, search = document.get("method", METHOD), document.get("search", {})
    own = METHODS.get(method if isinstance(method, str) and method in METHODS else METHOD).search
    if document.get("value") is not None:
        own = {name: value for name, value in own.items() if name != "score"}
    named = search.get(ALGORITHM, own[ALGORITHM]) if isinstance(search, Mapping) else own[ALGORITHM]
    return own if named == own[ALGORITHM] else {ALGORITHM: named}


def _fill(document: dict[str, Any], name: str, defaults: Mapping[str, Any]) -> None:
    """Put defaults under what a section gives; one that is not a table stays for the validation."""
    section = document.get(name, {})
    if isinstance(section, Mapping):
        document[name] = {**defaults, **section}


def _collecting(search: type[SearchSettings]) -> dict[str, Any]:
    names = search.option_names()
    return dict([one for one in COLLECTING if one[0] in names][:1])


def search_class(algorithm: object) -> type[SearchSettings] | None:
    """Return the settings' class of a search; None if there is no such search."""
    return SEARCHES.get(algorithm) if isinstance(algorithm, str) and algorithm in SEARCHES else None


def _without_none(value: Any) -> Any:
    """Return a document with None where it says so in words."""
    if isinstance(value, Mapping):
        return {name: None if member == NONE else _without_none(member) for name, member in value.items()}
    return [_without_none(member) for member in value] if isinstance(value, list) else value


def written(spec: RunSpec) -> dict[str, Any]:
    """Return a spec as a run file has it: everything, but for what is None at the top and what the
    run's seed and template decide.
    """
    document = {name: value for name, value in spec.model_dump(mode="json").items() if value is not None}
    shared = {"seed": spec.seed, "template": spec.models.template}
    for name in ("generation", *TRAININGS):
        section = document.get(name, {})
        for setting, value in shared.items():
            if setting in section and section[setting] == value:
                del section[setting]
    return {name: _in_words(value) for name, value in document.items()}


def _in_words(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: NONE if member is None else _in_words(member) for name, member in value.items()}
    return [_in_words(member) for member in value] if isinstance(value, list) else value


def flattened(document: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return every value of a document by its dotted name."""
    found: dict[str, Any] = {}
    for name, value in document.items():
        if isinstance(value, Mapping):
            found |= flattened(value, f"{prefix}{name}.")
        else:
            found[prefix + name] = value
    return found


def differences(old: RunSpec, new: RunSpec) -> list[tuple[str, Any, Any]]:
    """Return (dotted name, old value, new value) of each setting that makes another run.

    How models are loaded on a machine, and how many tokens a run may spend, may change when it is
    resumed. Where problems come from may too: whether they are the same is seen from the problems.
    """
    before, after = flattened(written(old)), flattened(written(new))
    names = [name for name in dict.fromkeys((*before, *after)) if _decides(name)]
    return [(name, before.get(name), after.get(name)) for name in names if before.get(name) != after.get(name)]


def _decides(name: str) -> bool:
    section = name.partition(".")[0]
    return name not in _MAY_CHANGE and (section != "models" or name == "models.template")
