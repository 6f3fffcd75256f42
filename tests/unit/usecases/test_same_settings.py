"""A run that is asked for again with other settings is refused, each of them named with both
values.
"""

import pytest
from restmcts.domain.runs.spec import RunSpec
from restmcts.errors import InputError
from restmcts.usecases.same_settings import MAX_NAMED, changed_settings, check_same_settings, with_stored_search

STORED = {
    "seed": 0,
    "search": {"kind": "mcts-star", "branch": 3},
    "budget": {"tokens": None},
    "train_sets": ["train"],
    "problems": {"train": "0123", "test": "4567"},
}


def test_the_same_settings_differ_in_nothing() -> None:
    assert changed_settings(STORED, {**STORED}) == []
    check_same_settings(STORED, STORED, "run1", "choose another --workdir")


def test_every_change_is_named_with_old_and_new_value() -> None:
    asked = {
        "search": {"kind": "mcts-star", "branch": 4, "alpha": 0.5},
        "budget": {"tokens": 100},
        "train_sets": ["train", "train"],
        "problems": {"train": "89ab", "held-out": "4567"},
    }
    assert changed_settings(STORED, asked) == [
        "seed (0 -> nothing)",
        "search.branch (3 -> 4)",
        "budget.tokens (None -> 100)",
        "train_sets (['train'] -> ['train', 'train'])",
        "search.alpha (nothing -> 0.5)",
        "the problems of the set held-out",
        "the problems of the set test",
        "the problems of the set train",
    ]


def test_sets_of_puzzles_that_follow_from_the_seed_are_not_named() -> None:
    old, new, edited = (
        {
            "spec": {"seed": seed, "policy": policy, "puzzles": {"kind": "number-paths"}},
            "problems": {"search-1": digest},
        }
        for seed, policy, digest in ((0, "a", "01"), (1, "a", "23"), (0, "b", "23"))
    )
    assert changed_settings(old, new) == ["seed (0 -> 1)"]
    assert changed_settings(old, edited) == ["policy (a -> b)", "the problems of the set search-1"]


def test_a_setting_that_became_a_table_is_another() -> None:
    assert changed_settings({"rate": {"a": 1}}, {"rate": 1}) == ["rate.a (1 -> nothing)", "rate (nothing -> 1)"]


def test_what_a_run_of_an_older_version_did_not_store_is_no_change() -> None:
    assert changed_settings({"seed": 0}, {"seed": 0, "spec": {"seed": 0}, "invented_since": True}) == []
    assert changed_settings({"seed_training": {"num_steps": 1}}, {"seed_set": None, "seed_training": None}) == []


def test_runs_with_documents_are_compared_by_these() -> None:
    old, new = ({"spec": {"policy": "someone/model", "search": {"num_alternatives": top}}} for top in (3, 4))
    assert changed_settings(old, new) == ["search.num_alternatives (3 -> 4)"]
    assert changed_settings(old, old) == []


@pytest.mark.parametrize(
    ("setting", "name"),
    [({"learn_from": "newest"}, "learn_from"), ({"search": {"algorithm": "of-tomorrow"}}, "search")],
)
def test_a_run_that_another_version_stored_is_refused_by_the_setting_not_understood(
    setting: dict[str, object], name: str
) -> None:
    asked = {"spec": {"policy": "someone/model"}}
    with pytest.raises(InputError, match=f"another version of restmcts: its setting {name}.* is not understood here"):
        changed_settings({"spec": {"policy": "someone/model", **setting}}, asked)


def test_the_refusal_says_who_holds_the_run_and_the_way_out() -> None:
    with pytest.raises(InputError) as refused:
        check_same_settings({"seed": 0}, {"seed": 1}, "run1", "choose another --workdir")
    expected = (
        "run1 contains a run with other settings: seed (0 -> 1); give the old ones again or choose another --workdir"
    )
    assert str(refused.value) == expected


def test_long_values_and_many_changes_stay_readable() -> None:
    old = {f"option{number:02}": "x" * 1000 for number in range(MAX_NAMED + 3)}
    with pytest.raises(InputError) as refused:
        check_same_settings(old, {}, "run1", "choose another")
    assert " and 3 more; give" in str(refused.value)
    assert len(str(refused.value)) < 2000


@pytest.mark.parametrize("with_document", [True, False])
def test_a_run_begun_with_another_search_of_its_method_goes_on_with_it(with_document: bool) -> None:
    asked = RunSpec.model_validate({"policy": "someone/model"})
    begun = RunSpec.model_validate({"policy": "someone/model", "search": {"algorithm": "mcts-star", "branch": 2}})
    stored = begun.model_dump(mode="json")
    config = {"spec": stored} if with_document else {"method": "rest-mcts", "search": stored["search"]}
    assert with_stored_search(asked, config, {"policy", "problems"}).search == begun.search
    assert with_stored_search(asked, config, {"search.score"}).search == asked.search, "what is named decides"
    other = asked.model_copy(update={"method": "rest-mcts-paper"})
    assert with_stored_search(other, config, ()).search == asked.search
