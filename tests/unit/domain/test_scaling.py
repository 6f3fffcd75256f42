import pytest
from hypothesis import given
from hypothesis import strategies as st
from restmcts.domain.scaling import Autoscaler, Bounds, parse_bounds
from restmcts.errors import InputError


def test_one_worker_runs_for_each_target_of_work_within_the_bounds() -> None:
    bounds = parse_bounds("1-4:64")
    assert bounds == Bounds(1, 4, 64)
    assert [bounds.workers(work) for work in (0, 1, 64, 65, 256, 10_000)] == [1, 1, 1, 2, 4, 4]


@pytest.mark.parametrize(
    "text", ["3", "0-4", "4-0:1", "0-0:1", "1-2:0", "0-4:-1", "a-b:c", "", "0-4:64 ", f"0-{10**9}:1"]
)
def test_other_bounds_are_refused_with_the_form_they_should_have(text: str) -> None:
    with pytest.raises(InputError, match=r"LEAST|MOST"):
        parse_bounds(text)


def test_more_run_at_once_and_fewer_once_fewer_have_sufficed_for_a_while() -> None:
    scaler = Autoscaler(Bounds(0, 4, 10), cooldown_seconds=60.0)
    looks = [(0, 0), (10, 35), (20, 5), (69, 0), (70, 0), (71, 0), (81, 0), (131, 0)]
    assert [scaler.decide(work, now) for now, work in looks] == [0, 4, 4, 4, 4, 1, 0, 0]


@given(st.lists(st.integers(0, 1000), min_size=1, max_size=50), st.floats(0, 100))
def test_there_are_never_fewer_than_the_work_of_now_asks_for(works: list[int], cooldown: float) -> None:
    bounds = Bounds(1, 8, 7)
    scaler = Autoscaler(bounds, cooldown)
    for now, work in enumerate(works):
        assert bounds.workers(work) <= scaler.decide(work, float(now)) <= bounds.most
