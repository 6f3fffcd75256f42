"""Settings by the names of version 0.1, wherever runs, run files or options are read."""

from dataclasses import asdict, dataclass

import pytest
from pydantic import TypeAdapter, ValidationError
from restmcts.domain.runs.evaluation import ANSWERING, Evaluation, ModelPair
from restmcts.domain.runs.phases import PHASE, SearchPhase
from restmcts.domain.runs.spec import RunSpec
from restmcts.domain.runs.spec_settings import Setting, spec_of
from restmcts.domain.search.best_first import BestFirstSettings
from restmcts.domain.search.best_of_n import BestOfNSettings, CotSettings
from restmcts.domain.search.mcts_star import MctsStarSettings
from restmcts.domain.search.settings import SEARCH_SETTINGS, SEARCHES, SearchSettings
from restmcts.errors import InputError
from restmcts.usecases.same_settings import changed_settings
from restmcts_cli.arguments.search_options import parse_search

FORMER = {"cot": "gate", "self-consistency": "gate", "best-of-n": "gate", "best-first": "gate", "tot-bfs": "gate"}
FORMER |= {"tot-dfs": "gate", "step-beam": "gate", "mcts-star": "end_gate"}


def threshold(settings: SearchSettings) -> object:
    return asdict(settings)["stop_threshold"]


def given(**settings: object) -> RunSpec:
    return spec_of(Setting(name.replace("__", "."), value, "a test") for name, value in settings.items())


@pytest.mark.parametrize(("search", "name"), FORMER.items())
def test_stored_settings_have_what_they_had_under_the_former_name(search: str, name: str) -> None:
    settings = SEARCH_SETTINGS.validate_python({"algorithm": search, name: 0.25})
    assert threshold(settings) == 0.25
    written = SEARCH_SETTINGS.dump_python(settings, mode="json")
    assert written["stop_threshold"] == 0.25 and name not in written
    assert parse_search(search, [f"{name}=0.25"]) == settings


def test_a_stored_phase_has_its_threshold() -> None:
    phase = SearchPhase("test", 0, "evaluate", "problems", "base", "value-0", BestFirstSettings(stop_threshold=0.25))
    stored = PHASE.dump_python(phase, mode="json")
    stored["search"]["gate"] = stored["search"].pop("stop_threshold")
    assert PHASE.validate_python(stored) == phase


def test_a_stored_run_is_the_same_run() -> None:
    run = given(policy="model", search__algorithm="tot-dfs", search__stop_threshold=0.25, test="test.jsonl")
    now = run.model_dump(mode="json")
    now["evaluations"] = [{"name": "wide", "search": {"algorithm": "best-of-n", "stop_threshold": 0.5}}]
    then = {
        **now,
        "search": dict(now["search"]),
        "evaluations": [{"name": "wide", "search": {"algorithm": "best-of-n"}}],
    }
    then["search"]["gate"] = then["search"].pop("stop_threshold")
    then["evaluations"][0]["search"]["gate"] = 0.5
    assert RunSpec.model_validate(then) == RunSpec.model_validate(now)
    assert changed_settings({"spec": then}, {"spec": now}) == []
    then["search"]["gate"] = 0.75
    assert changed_settings({"spec": then}, {"spec": now}) == ["search.stop_threshold (0.75 -> 0.25)"]


def test_a_stored_evaluation_is_the_same_evaluation() -> None:
    methods = tuple(ANSWERING.get(name) for name in ("gated-best-of-n", "gated-mcts-star"))
    evaluation = Evaluation(methods, (40,), (0,), (ModelPair("", "policy", {"value": "value"}),), solution_tokens=20)
    stored = TypeAdapter(Evaluation).dump_python(evaluation, mode="json")
    for method, name in zip(stored["methods"], ("gate", "end_gate"), strict=True):
        method["search"][name] = method["search"].pop("stop_threshold")
    assert TypeAdapter(Evaluation).validate_python(stored) == evaluation
    assert changed_settings(stored, TypeAdapter(Evaluation).dump_python(evaluation, mode="json")) == []


def test_a_run_file_and_its_overrides_may_have_either_name() -> None:
    assert given(search__end_gate=0.25).search == given(search__stop_threshold=0.25).search
    file = {"search__gate": 0.25, "search__algorithm": "best-first"}
    assert threshold(given(**file).search) == 0.25
    assert threshold(given(**file, search__stop_threshold=0.5).search) == 0.5
    flags = [Setting(f"search.{name}", value, "a test") for name, value in (("stop_threshold", 0.5), ("gate", 0.75))]
    assert threshold(spec_of([Setting("search.algorithm", "best-first", "a test"), *flags]).search) == 0.75


def test_collecting_has_no_threshold_where_one_would_end_it() -> None:
    defaults = [threshold(given(search__algorithm=name).search) for name in ("best-first", "tot-dfs", "mcts-star")]
    assert defaults == [None, None, MctsStarSettings().stop_threshold]


def test_both_names_at_once_are_refused() -> None:
    with pytest.raises(ValidationError, match="gate"):
        SEARCH_SETTINGS.validate_python({"algorithm": "best-first", "gate": 0.5, "stop_threshold": 0.5})
    with pytest.raises(InputError, match="has no option 'gate'"):
        parse_search("best-first", ["gate=0.5", "stop_threshold=0.5"])


def test_a_search_without_a_threshold_knows_neither_name() -> None:
    with pytest.raises(InputError, match=r"search\.gate: there is no such setting"):
        given(search__algorithm="step-rollouts", search__gate=0.5)


def test_a_setting_of_ones_own_of_the_former_name_keeps_it(monkeypatch: pytest.MonkeyPatch) -> None:
    @dataclass(frozen=True, slots=True)
    class Gated(CotSettings):
        gate: int = 3

    known = dict(SEARCHES._entries)
    monkeypatch.setattr(SEARCHES, "_entries", known)
    SEARCHES.add("gated", Gated)
    settings = SEARCH_SETTINGS.validate_python({"algorithm": "gated", "gate": 5, "stop_threshold": 0.5})
    assert settings == Gated(stop_threshold=0.5, gate=5)
    assert BestOfNSettings().stop_threshold is None
