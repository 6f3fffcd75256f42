"""`restmcts options` and its page: every setting, said by the class that has it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from restmcts.domain.ranges import check_ranges
from restmcts.domain.requests import GenerationSettings
from restmcts.domain.runs.option_groups import option_groups, options_page
from restmcts.domain.runs.promotion import PromotionSettings
from restmcts.domain.runs.spec import RunSpec, written
from restmcts.domain.runs.training_settings import TrainingSettings
from restmcts.errors import InputError
from typer.testing import Result

PAGE = Path(__file__).parents[3] / "docs" / "reference" / "options.md"
CHOICES = ("algorithm", "name")
PREPOSITIONS = ("Of", "From", "For", "In", "On", "With", "At", "By", "Between", "Since", "To", "Under")


def test_the_page_is_up_to_date() -> None:
    assert PAGE.read_text(encoding="utf-8") == options_page(), "make it again: restmcts options --markdown"


def test_every_setting_says_what_it_does_in_a_sentence() -> None:
    found = [(group, option) for group in option_groups() for option in group.options]
    assert len(found) > 120
    for group, option in found:
        place = f"{group.kind} {group.name} {option.name}"
        assert len(option.help.split()) > 2 and option.help.endswith("."), place
        assert option.help.split()[0] not in PREPOSITIONS, place
        assert "object at" not in option.type and "Annotated" not in option.type, place


def test_every_group_of_settings_is_described_in_whole_sentences() -> None:
    cut = [f"{one.kind} {one.name}: {one.summary}" for one in option_groups() if not one.summary.endswith((".", "`"))]
    assert cut == []


def test_every_setting_of_a_run_file_is_listed() -> None:
    listed = {(group.kind, option.name) for group in option_groups() for option in group.options}
    kinds = {"policy_training": "training", "value_training": "training"}
    for name, value in written(RunSpec.model_validate({})).items():
        if isinstance(value, dict):
            assert {(kinds.get(name, name), one) for one in value if one not in CHOICES} <= listed
        elif name != "evaluations":
            assert ("run", name) in listed


def test_defaults_are_those_of_a_run_file(document: Callable[..., Any]) -> None:
    (search,) = document("options", "search", "best-first")
    defaults = {option["name"]: option["default"] for option in search["options"]}
    assert (defaults["stop_threshold"], defaults["value_weight"]) == ("null", "5.0")
    (training,) = document("options", "training")
    batch = next(option for option in training["options"] if option["name"] == "batch_size")
    assert (batch["default"], batch["range"], batch["type"]) == ("8", "at least 1", "whole number")


def test_kinds_and_tables_are_shown(shown: Callable[..., str]) -> None:
    kinds = shown("options")
    assert "[policy_training]" in kinds and "mcts-star" in kinds
    assert "at least 0 and below 1" in shown("options", "training")
    assert "STaR" in shown("options", "method", "star")
    assert shown("options", "--markdown") == options_page()


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        (("trainings",), "did you mean 'training'?"),
        (("search", "mcts"), "there is no search 'mcts'; did you mean 'mcts-star'?"),
        (("budget", "tokens"), "there are none with a name"),
    ],
)
def test_an_unknown_kind_is_one_line(typed: tuple[str, ...], expected: str, call: Callable[..., Result]) -> None:
    result = call("options", *typed)
    assert isinstance(result.exception, InputError)
    assert expected in str(result.exception)


def test_a_value_outside_the_range_of_its_type_is_refused_in_code_too() -> None:
    with pytest.raises(InputError, match=r"temperature is -1; give above 0"):
        GenerationSettings(temperature=-1)
    with pytest.raises(InputError, match=r"validation_share is 1.0; give at least 0 and below 1"):
        TrainingSettings(validation_share=1.0)
    with pytest.raises(InputError, match=r"learning_rate is nan; give a finite number"):
        TrainingSettings(learning_rate=float("nan"))
    check_ranges(PromotionSettings(margin=0.0))
