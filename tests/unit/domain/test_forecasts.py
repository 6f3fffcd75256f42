"""What a run is forecast to take, from what phases like its own took."""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from restmcts.domain.forecasts.memory import (
    MemoryForecast,
    ModelShape,
    TrainedModel,
    memory_forecast,
    size_in_words,
    training_parts,
)
from restmcts.domain.forecasts.work import (
    Machine,
    Measured,
    MeasuredSearch,
    MeasuredTraining,
    WorkForecast,
    forecast,
    makespan,
    search_key,
)
from restmcts.domain.runs.phases import SEARCH_PHASE, SearchPhase, TrainPolicyPhase, TrainValuePhase
from restmcts.domain.runs.training_settings import TrainingSettings
from restmcts.domain.search.best_first import BestFirstSettings
from restmcts.domain.search.protocol import Budget

STEPS = TrainingSettings(num_steps=100, batch_size=10)
EPOCHS = TrainingSettings(num_epochs=2, batch_size=10)
MACHINE = Machine(trees_in_flight=50, trainings_at_once=1)


def collect(tokens: int | None = None) -> SearchPhase:
    return SearchPhase("collect-1", 1, "collect", "train", "base", None, BestFirstSettings(), Budget(tokens, 8))


def measured(num_trees: int, seconds: float, phase: SearchPhase | None = None) -> MeasuredSearch:
    key = search_key(SEARCH_PHASE.dump_python(phase or collect(), mode="json"))
    return MeasuredSearch(key, num_trees, 50 * num_trees, 3 * num_trees, 10 * num_trees, seconds, token_variance=100.0)


def forecast_of(searches: Sequence[MeasuredSearch], num_trees: int, **more: Any) -> WorkForecast:
    known = Measured("probe", searches, more.pop("trainings", ()), 100.0, {"policy": 1000})
    phases = more.pop("phases", [collect(more.pop("tokens", None))])
    return forecast(phases, {"train": num_trees}, known, MACHINE, more.pop("max_tokens", None))


def test_a_policy_is_forecast_from_what_it_took_itself() -> None:
    seen = [replace(measured(100, 5.0), policy=name, tokens=tokens) for name, tokens in (("base", 12_400), ("p", 5900))]

    def tokens(policy: str) -> float:
        amount = forecast_of(seen, 50, phases=[replace(collect(), policy=policy)]).tokens
        assert amount is not None
        return amount.expected

    assert (tokens("base"), tokens("p")) == (6200, 2950)
    assert tokens("policy-3") == 2950, "a trained one is like another trained one"


def test_tokens_and_requests_grow_with_the_trees_and_their_range_with_the_spread_of_a_tree() -> None:
    found = forecast_of([measured(25, 5.0)], 400)
    assert found.tokens is not None
    assert found.calls is not None
    assert (found.tokens.expected, found.calls.expected) == (20_000, 1200)
    error = 2 * 400 * math.sqrt(100.0 / 25)
    assert (found.tokens.low, found.tokens.high) == pytest.approx((18_000 - error, 22_000 + error))
    assert found.calls.high == pytest.approx(1200 * (1.25 + error / 20_000))
    assert found.disk_bytes is not None
    assert found.disk_bytes.expected == 400 * 10 * 100.0


def test_two_sizes_show_what_a_wave_of_trees_costs_and_what_each_tree_does() -> None:
    """10 s a wave and 0.1 s a tree; 50 trees are in flight at once."""
    found = forecast_of([measured(10, 11.0), measured(40, 14.0)], 200)
    assert found.seconds is not None
    assert found.seconds.expected == pytest.approx(4 * 10.0 + 200 * 0.1)
    assert (found.seconds.low, found.seconds.high) == pytest.approx((60.0 / 3.0, 60.0 * 3.0))
    one_size = forecast_of([measured(40, 14.0)], 200)
    assert one_size.seconds is not None
    assert one_size.seconds.expected == pytest.approx(200 * 14.0 / 40)


def test_a_larger_measurement_that_took_less_time_does_not_make_trees_free() -> None:
    found = forecast_of([measured(10, 11.0), measured(40, 8.0)], 50)
    assert found.seconds is not None
    assert found.seconds.expected == pytest.approx(0.75 * 8.0 + 50 * 0.25 * 0.2)


def test_what_was_not_measured_is_named_and_not_guessed() -> None:
    found = forecast_of([measured(40, 14.0)], 200, tokens=100)
    assert found.unknown == ["collect-1"]
    assert found.seconds is None
    assert found.calls is None
    assert found.disk_bytes is None
    assert found.tokens is not None
    assert (found.tokens.low, found.tokens.high) == (0.0, 200 * 100)
    assert forecast_of([], 200).tokens is None, "no budget of tokens bounds it"


def test_the_token_budget_of_the_run_bounds_its_tokens() -> None:
    found = forecast_of([measured(25, 5.0)], 400, max_tokens=5000)
    assert found.tokens is not None
    assert (found.tokens.expected, found.tokens.high) == (5000, 5000)


@pytest.mark.parametrize(("training", "num_steps"), [(STEPS, 100), (EPOCHS, 2 * 20)])
def test_training_takes_its_steps_and_what_surrounds_them(training: TrainingSettings, num_steps: int) -> None:
    """Measured on 4 examples from 8 trees, a step of 0.2 s: 400 trees give 200 examples, and a step
    on 10 takes 0.5 s.
    """
    phase = TrainPolicyPhase("policy-1", 1, "base", training, ("collect-1",))
    trained = MeasuredTraining("train-policy", 4, 4, 8, step_seconds=0.2, other_seconds=3.0)
    found = forecast_of([measured(50, 0.0)], 400, phases=[collect(), phase], trainings=[trained])
    assert found.phases[1].num_steps == num_steps
    assert found.phases[1].seconds == pytest.approx(3.0 + num_steps * 0.5)
    assert found.disk_bytes is not None
    assert found.disk_bytes.expected == 400 * 10 * 100.0 + 1000


def test_trainings_run_beside_searches_and_each_phase_after_what_it_needs() -> None:
    training = TrainPolicyPhase("policy-1", 1, "base", STEPS, ("collect-1",))
    value = TrainValuePhase("value-1", 1, None, "base", STEPS, ("collect-1",))
    beside = SearchPhase("held-out", 1, "held-out", "train", "base", None, BestFirstSettings())
    last = SearchPhase("grade-policy-1", 1, "evaluate", "train", "policy-1", None, BestFirstSettings())
    seconds = {"collect-1": 10.0, "policy-1": 5.0, "value-1": 4.0, "held-out": 3.0, "grade-policy-1": 1.0}
    phases = [collect(), beside, training, value, last]
    assert makespan(phases, seconds, 1) == 10.0 + 5.0 + 4.0
    assert makespan(phases, seconds, 2) == 10.0 + 5.0 + 1.0


SMOLLM2 = ModelShape(134_515_008, 305_280, 30, 576, 1536, 384, 49_152, num_heads=9)
"""SmolLM2-135M in float32."""


@pytest.mark.parametrize(
    ("settings", "num_tokens", "peak_mib"),
    [
        ({"batch_size": 8}, 60, 3404),
        ({"batch_size": 4}, 60, 3046),
        ({"batch_size": 4, "lora_rank": 8}, 60, 1789),
        ({"batch_size": 4, "gradient_checkpointing": True}, 60, 2909),
        ({"batch_size": 8}, 222, 6949),
    ],
)
def test_the_memory_of_a_training_is_what_was_measured(
    settings: dict[str, Any], num_tokens: int, peak_mib: int
) -> None:
    """Peak resident sizes of two steps of SmolLM2-135M's shape on a CPU with one thread."""
    model = TrainedModel("policy", SMOLLM2, TrainingSettings(**settings), num_tokens)
    found = sum(part.num_bytes for part in training_parts(model))
    assert found == pytest.approx(peak_mib * 2**20, rel=0.2)


@pytest.mark.parametrize(
    ("settings", "num_billions", "rank"),
    [
        ({}, 2, None),
        ({}, 7, 16),
        ({"lora_rank": 0}, 7, None),
        ({"trainable": "head"}, 7, None),
        ({"lora_rank": 4}, 2, 4),
    ],
)
def test_of_a_large_model_adapters_are_trained_unless_all_weights_are_asked_for(
    settings: dict[str, Any], num_billions: int, rank: int | None
) -> None:
    training = TrainingSettings(**settings)
    assert training.adapters_of(num_billions * 10**9) == rank
    shape = replace(SMOLLM2, num_parameters=num_billions * 10**9)
    optimizer = training_parts(TrainedModel("value", shape, training, 200))[2].num_bytes
    assert (optimizer < 10**9) == (rank is not None or training.trainable == "head")


def memory(available_bytes: int | None, **changes: Any) -> MemoryForecast:
    policy = TrainedModel("policy", SMOLLM2, TrainingSettings(batch_size=8, **changes), 200)
    value = TrainedModel("value", SMOLLM2, TrainingSettings(batch_size=4), 200)
    return memory_forecast(
        [SMOLLM2, SMOLLM2],
        [value, policy],
        kept_bytes=2**30,
        batch_tokens=1000,
        trainings_at_once=2,
        available_bytes=available_bytes,
    )


def test_what_does_not_fit_comes_with_settings_that_make_room() -> None:
    found = memory(12 * 10**9)
    assert found.fits is False
    assert "--set policy_training.batch_size=4 --set policy_training.gradient_accumulation=2" in " ".join(found.advice)
    assert any(advice.startswith("--set policy_training.lora_rank=16 saves") for advice in found.advice)
    assert any("one training at a time" in advice for advice in found.advice)
    assert not any("smaller model" in advice for advice in found.advice)
    smaller = memory(12 * 10**9, lora_rank=16)
    assert smaller.num_bytes < found.num_bytes - 10**9
    assert not any(advice.startswith("--set policy_training.lora_rank") for advice in smaller.advice)
    head = training_parts(TrainedModel("value", SMOLLM2, TrainingSettings(trainable="head"), 200))
    adapters = training_parts(TrainedModel("value", SMOLLM2, TrainingSettings(lora_rank=1), 200))
    assert all(less.num_bytes <= more.num_bytes for less, more in zip(head, adapters, strict=True))
    assert memory(10**9).advice[-1].endswith("take a smaller model")


def test_what_fits_or_is_not_known_to_be_too_much_needs_no_advice() -> None:
    assert memory(10**12).fits is True
    assert memory(None).fits is None
    assert list(memory(None).advice) == list(memory(10**12).advice) == []


def test_sizes_are_read_at_a_glance() -> None:
    assert [size_in_words(size) for size in (4_240, 3.1e8, 4.24e9, 2e12)] == ["4 kB", "310 MB", "4.2 GB", "2.0 TB"]
