"""A run's document: what is derived, what is refused and how, and its way to TOML and back."""

import tomllib
from dataclasses import fields, replace
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from restmcts.adapters.files.run_files import read_run_file, run_file_text
from restmcts.domain.learning.learner import LEARNERS
from restmcts.domain.prompts import TEMPLATE_NAMES
from restmcts.domain.runs.phases import SearchPhase, TrainPolicyPhase
from restmcts.domain.runs.plans import self_training_plan
from restmcts.domain.runs.spec import MAX_ITERATIONS, TRAININGS, PuzzleSets, RunSpec, differences, written
from restmcts.domain.runs.spec_plan import of_seed, self_training, spec_plan
from restmcts.domain.runs.spec_settings import Setting, settings_of, spec_of, spec_settings
from restmcts.domain.runs.training_settings import TrainingSettings
from restmcts.domain.search.best_first import BestFirstSettings
from restmcts.domain.search.best_of_n import CotSettings
from restmcts.domain.search.settings import SEARCHES
from restmcts.errors import InputError


def run_of(**document: Any) -> RunSpec:
    return RunSpec.model_validate(document)


def values_of(annotation: Any, name: str) -> st.SearchStrategy[Any]:
    """Return values of a setting's type that every class takes."""
    if get_origin(annotation) in (Union, UnionType):
        return st.one_of(*(values_of(member, name) for member in get_args(annotation)))
    if get_origin(annotation) is Literal:
        return st.sampled_from(get_args(annotation))
    if name == "template":
        return st.sampled_from(TEMPLATE_NAMES)
    known: dict[Any, st.SearchStrategy[Any]] = {
        NoneType: st.none(),
        bool: st.booleans(),
        int: st.integers(1, 2**40),
        float: st.floats(0.001, 0.999),
        str: st.text(min_size=1).filter(lambda text: text != "null"),
        tuple[str, ...]: st.lists(st.text(min_size=1), min_size=1, max_size=2),
    }
    return known[annotation]


def settings_in(owner: Any) -> st.SearchStrategy[dict[str, Any]]:
    """Return values for every setting of a class."""
    hints = get_type_hints(owner)
    names = getattr(owner, "model_fields", None) or owner.__dataclass_fields__
    return st.fixed_dictionaries({name: values_of(hints[name], name) for name in names})


def as_settings(owner: Any) -> st.SearchStrategy[dict[str, Any]]:
    """Return settings of one search, with its name."""
    return settings_in(owner).map(lambda given: {**given, "algorithm": SEARCHES.name_of(owner)})


SEARCH = st.one_of(*(as_settings(owner) for owner in SEARCHES.values()))
LEARNER = st.one_of(
    *(settings_in(LEARNERS.get(name)).map(lambda given, name=name: {**given, "name": name}) for name in LEARNERS)
)


def documents() -> st.SearchStrategy[dict[str, Any]]:
    hints = get_type_hints(RunSpec)
    tables: dict[str, st.SearchStrategy[Any]] = {
        "search": SEARCH,
        "learner": LEARNER,
        "plugins": st.lists(st.text(min_size=1)),
        **dict.fromkeys(("iterations", "rounds"), st.integers(1, MAX_ITERATIONS)),
    }
    evaluation = st.fixed_dictionaries({"name": st.text(min_size=1), "search": SEARCH})
    tables["evaluations"] = st.lists(evaluation, max_size=2)
    for name in RunSpec.model_fields:
        if name not in tables:
            section = _section(hints[name])
            tables[name] = settings_in(section) if section is not None else values_of(hints[name], name)
    return st.fixed_dictionaries({}, optional=tables).map(_one_source)


def _section(annotation: Any) -> Any:
    if hasattr(annotation, "__dataclass_fields__") or hasattr(annotation, "model_fields"):
        return annotation
    return next((found for one in get_args(annotation) if (found := _section(one)) is not None), None)


def _one_source(document: dict[str, Any]) -> dict[str, Any]:
    if "puzzles" in document:
        document = {name: value for name, value in document.items() if name not in ("problems", "test")}
    return {name: _judged_or_not(_training(name, section)) for name, section in document.items()}


def _judged_or_not(section: Any) -> Any:
    """Return settings of verdicts that name judges only where these are asked."""
    if isinstance(section, dict) and "judges" in section and section["source"] != "judge":
        return {**section, "judges": []}
    return section


def _training(name: str, section: Any) -> Any:
    """Return a training that may be: trees are packed of solutions and of paths alone, and heads
    alone are trained of value models, without adapters and checkpointing.
    """
    if isinstance(section, dict) and "tree_packing" in section:
        packs = section["tree_packing"] and not section["packing"] and name == "seed_training"
        fits = name == "value_training" and section["lora_rank"] is None and not section["gradient_checkpointing"]
        return {**section, "tree_packing": packs, "trainable": section["trainable"] if fits else "all"}
    return section


@given(documents())
@settings(max_examples=60, deadline=None)
def test_a_run_file_makes_the_run_that_wrote_it(document: dict[str, Any]) -> None:
    spec = run_of(**document)
    document = tomllib.loads(run_file_text(spec))
    assert RunSpec.model_validate(document) == spec
    assert spec_of(settings_of(document, "run.toml")) == spec
    assert RunSpec.model_validate(spec.model_dump(mode="json")) == spec


def test_every_setting_is_drawn_by_the_round_trip() -> None:
    """A section that the strategy passes over would make the test above say nothing of it."""
    hints = get_type_hints(RunSpec)
    plain = {name for name in RunSpec.model_fields if _section(hints[name]) is None}
    assert {"policy", "seed", "method", "labels", "max_tokens"} <= plain
    assert not plain & {"budget", "generation", "traces", "promotion", "puzzles", "models", *TRAININGS}


def test_what_the_seed_and_the_template_decide_is_derived() -> None:
    spec = run_of(seed=3, models={"template": "plain"}, value_training={"seed": 9})
    assert (spec.policy_training.seed, spec.value_training.seed) == (3, 9)
    assert spec.policy_training.template == spec.generation.template == "plain"
    other = of_seed(spec, 4)
    assert (other.policy_training.seed, other.value_training.seed, other.seed) == (4, 9, 4)
    assert other.policy_training == replace(spec.policy_training, seed=4)


def test_a_search_that_collects_spends_its_budget_unless_told_otherwise() -> None:
    assert run_of(method="rest-mcts-paper").search.mode == "collect"
    collecting = run_of(search={"algorithm": "best-first"}).search
    assert isinstance(collecting, BestFirstSettings) and collecting.stop_threshold is None
    kept = run_of(search={"algorithm": "best-first", "stop_threshold": 0.5}).search
    assert isinstance(kept, BestFirstSettings) and kept.stop_threshold == 0.5


def test_later_settings_decide_and_another_search_begins_afresh() -> None:
    given = [
        Setting("search.branch", 5, "run.toml, line 2"),
        Setting("method", "rest-mcts-paper", "run.toml, line 1"),
        Setting("seed", 1, "run.toml, line 3"),
    ]
    assert spec_of([*given, Setting("seed", 2, "--seed")]).seed == 2
    spec = spec_of([*given, Setting("search.algorithm", "mcts-star", "--algorithm")])
    assert spec.search.branch == 5
    base = spec_settings(spec, "run.toml")
    assert spec_of([*base, Setting("search.algorithm", "best-of-n", "--algorithm")]).search.algorithm == "best-of-n"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("sede = 1", "line 1: sede: there is no such setting; did you mean 'seed'?"),
        ("seed = 'x'", "line 1: seed is 'x'; give a whole number"),
        ("iterations = 0", "line 1: iterations is 0; give at least 1"),
        ("\n[search]\nalgorithm = 'mcts'", "line 3: search: no search is called 'mcts'; did you mean 'mcts-star'?"),
        ("[search]\nbrnch = 4", "line 2: search.brnch: there is no such setting; did you mean 'branch_at'?"),
        (
            "[search]\nbanana = 4",
            "line 2: search.banana: there is no such setting; there are algorithm, branch_at, branches",
        ),
        ("[search]\n\nnum_alternatives = 'x'", "line 3: search.num_alternatives is 'x'; give a whole number"),
        ("[search]\nnum_alternatives = 0", "line 2: search.num_alternatives is 0; give at least 1"),
        ("search = 3", "line 1: search is 3; give a table of settings"),
        ("[policy_training]\nbatch_size = 0", "line 2: policy_training.batch_size is 0; give at least 1"),
        ("[value_training]\nlearning_rate = 'high'", "line 2: value_training.learning_rate is 'high'; give a number"),
        ("[models]\ntemplate = 'x'", "line 2: models.template: there is no prompt template 'x'; there are auto"),
        ("[promotion]\nmargn = 1", "line 2: promotion.margn: there is no such setting; did you mean 'margin'?"),
        ("problems = 'a.jsonl'\n[puzzles]", "puzzles have their own problems"),
        ("labels = 'guesses'", "line 1: labels is 'guesses'; it should be 'values', 'hard-rollouts'"),
        ("seed = [", "is not a TOML file"),
        (
            "[[evaluations]]\nname = 'a'\n[evaluations.search]\nalgorithm = 'cot'\ngreddy = true",
            "evaluations.0.search.greddy: there is no such setting; did you mean 'greedy'?",
        ),
        ("[[evaluations]]\nname = 'a'", "evaluations.0.search is missing"),
    ],
)
def test_a_bad_setting_is_one_line_with_its_place_and_the_right_one(text: str, expected: str, tmp_path: Path) -> None:
    path = tmp_path / "run.toml"
    path.write_text(text)
    with pytest.raises(InputError) as refused:
        spec_of(read_run_file(path))
    assert expected in str(refused.value)
    assert "\n" not in str(refused.value)


def test_files_are_looked_for_beside_the_run_file(tmp_path: Path) -> None:
    (tmp_path / "problems.jsonl").write_text("")
    path = tmp_path / "run.toml"
    path.write_text("problems = 'problems.jsonl'\npolicy = 'Qwen/Qwen3-0.6B'\nvalue = 'openai+http://host/v1?model=m'")
    spec = spec_of(read_run_file(path))
    assert (spec.problems, spec.policy) == (str(tmp_path / "problems.jsonl"), "Qwen/Qwen3-0.6B")


def test_differences_name_what_makes_another_run() -> None:
    old = run_of(seed=1, problems="a.jsonl")
    new = run_of(seed=2, problems="b.jsonl", max_tokens=9, search={"num_alternatives": 3}, models={"device": "cuda"})
    assert differences(old, new) == [("seed", 1, 2), ("search.num_alternatives", 4, 3)]
    assert differences(old, old) == []


def test_an_evaluation_answers_test_problems_with_the_last_models() -> None:
    asked = [{"name": "greedy", "search": {"algorithm": "cot"}}]
    last = spec_plan(run_of(puzzles={}, iterations=2, evaluations=asked))[-1]
    assert isinstance(last, SearchPhase)
    assert (last.policy, last.value, last.problem_set) == ("gate-policy-2", "gate-value-2", "compared")
    last = spec_plan(run_of(test="t.jsonl", method="rest-em", promotion={"num_problems": 0}, evaluations=asked))[-1]
    assert isinstance(last, SearchPhase)
    assert (last.policy, last.value, last.problem_set, last.search) == ("policy-1", None, "test", CotSettings())
    before = [{**asked[0], "name": "before", "policy": "base"}]
    last = spec_plan(run_of(puzzles={}, iterations=2, evaluations=before))[-1]
    assert isinstance(last, SearchPhase)
    assert (last.policy, last.problem_set) == ("base", "compared")
    with pytest.raises(InputError, match="names none; give `test`"):
        spec_plan(run_of(evaluations=asked))
    asked = [{"name": "beam", "search": {"algorithm": "step-beam"}}]
    with pytest.raises(InputError, match="step-beam asks a value model, which rest-em has not"):
        spec_plan(run_of(test="t.jsonl", method="rest-em", evaluations=asked))


def test_puzzles_and_files_make_the_same_kinds_of_sets() -> None:
    puzzles = self_training(RunSpec.model_validate({"puzzles": PuzzleSets(), "iterations": 2, "seed_training": {}}))
    assert (puzzles.train_sets, puzzles.seed_set, puzzles.test_set) == (("search-1", "search-2"), "demos", "test")
    given_problems = self_training(run_of(problems="a.jsonl", iterations=2))
    assert (given_problems.train_sets, given_problems.seed_set) == (("train", "train"), None)
    assert (given_problems.test_set, given_problems.held_out_set) == (None, "held-out")
    assert self_training_plan(given_problems) == spec_plan(run_of(problems="a.jsonl", iterations=2))


def test_given_solutions_are_learned_again_beside_the_traces() -> None:
    again = {"puzzles": PuzzleSets(), "iterations": 2, "seed_training": {}, "seeds_again": True}
    learned = {
        phase.name: (phase.solutions_of, phase.sources)
        for phase in spec_plan(RunSpec.model_validate(again))
        if isinstance(phase, TrainPolicyPhase)
    }
    assert learned == {
        "policy-0": ("demos", ()),
        "policy-1": ("demos", ("collect-1",)),
        "policy-2": ("demos", ("collect-2",)),
    }
    assert self_training(run_of(problems="a.jsonl", seeds_again=True)).seed_set == "seeds"


def test_a_spec_of_another_version_is_read_with_its_own_values() -> None:
    """What is stored is whole: another default of today changes nothing of it."""
    stored = run_of(value_training={"batch_size": 5}).model_dump(mode="json")
    assert RunSpec.model_validate(stored).value_training.batch_size == 5
    assert stored["policy_training"]["num_epochs"] == 2
    assert set(stored["policy_training"]) == {field.name for field in fields(TrainingSettings)}
    assert written(RunSpec.model_validate(stored)) == written(run_of(value_training={"batch_size": 5}))
