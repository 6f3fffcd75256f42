"""Settings of searches as data: any registered class is read and written, by its name."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest
from restmcts.domain.answers.extraction import states_answer
from restmcts.domain.runs.phases import SEARCH_PHASE, SearchPhase
from restmcts.domain.search.best_of_n import BestOfNSettings, CotSettings, SelfConsistencySettings
from restmcts.domain.search.mcts_star import MctsStarSettings
from restmcts.domain.search.protocol import Budget, Search
from restmcts.domain.search.settings import SEARCH_SETTINGS, SEARCHES, Ends, SearchSettings, Steps
from restmcts.domain.search.tree_of_thoughts import StepBeamSettings, TotBfsSettings, TotDfsSettings
from restmcts.errors import InputError


@pytest.fixture
def own_search(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[SearchSettings]]:
    monkeypatch.setattr(SEARCHES, "_entries", dict(SEARCHES._filled()))

    @SEARCHES.register("own")
    @dataclass(frozen=True, slots=True)
    class OwnSettings(SearchSettings):
        num_samples: int = 4

        def build(self, budget: Budget, seed: int, ends: Ends = states_answer, begins_with: Steps = ()) -> Search:
            return CotSettings().build(budget, seed, ends)

    yield OwnSettings


def test_a_registered_search_is_stored_with_its_phase(own_search: type[SearchSettings]) -> None:
    phase = SearchPhase("collect", 1, "collect", "train", "base", None, own_search(num_samples=7))  # type: ignore[call-arg]
    stored = SEARCH_PHASE.dump_python(phase, mode="json")
    assert stored["search"] == {"algorithm": "own", "num_samples": 7}
    assert SEARCH_PHASE.validate_python(stored) == phase


def test_settings_are_read_as_they_were_stored_before_searches_were_a_table() -> None:
    stored = '{"algorithm":"mcts-star","mode":"collect","branch":5}'
    assert SEARCH_SETTINGS.validate_json(stored) == MctsStarSettings(mode="collect", branch=5)


def test_settings_without_a_known_search_are_refused() -> None:
    with pytest.raises(InputError, match="did you mean 'mcts-star'"):
        SEARCH_SETTINGS.validate_python({"algorithm": "mcts-tsar"})
    with pytest.raises(InputError, match="the field 'algorithm'"):
        SEARCH_SETTINGS.validate_python({"branch": 3})


def test_only_mcts_star_has_unfinished_leaves_verified() -> None:
    thresholds = {name: SEARCHES.get(name)().verified_threshold for name in SEARCHES}
    assert {name: found for name, found in thresholds.items() if found is not None} == {"mcts-star": 0.9}


@pytest.mark.parametrize(
    "make",
    [
        lambda: MctsStarSettings(branch=0),
        lambda: MctsStarSettings(leaves_in_flight=0),
        lambda: MctsStarSettings(alpha=1.5),
        lambda: MctsStarSettings(widening=-1.0),
        lambda: SelfConsistencySettings(num_samples=0),
        lambda: CotSettings(stop_threshold=0.5, num_retries=-1),
        lambda: BestOfNSettings(samples_at_once=0),
        lambda: StepBeamSettings(beam_width=0),
        lambda: TotBfsSettings(width=0),
        lambda: TotDfsSettings(max_depth=0),
        lambda: Budget(tokens=-1),
    ],
)
def test_settings_that_make_no_sense_are_refused(make: Callable[[], object]) -> None:
    with pytest.raises(InputError):
        make()
