"""The index of prefixes against a plain dictionary, its bound, and the order in which it
forgets.
"""

import numpy as np
import pytest
from restmcts.modeling.decoding.prefix_index import PrefixIndex, shared_beginnings


def ids(text: str) -> np.ndarray:
    return np.frombuffer(text.encode(), dtype=np.uint8).astype(np.int64)


def test_slots_belong_to_prefixes() -> None:
    index, slot_of_prefix = PrefixIndex(10_000), {}
    generator = np.random.default_rng(0)
    for _ in range(500):
        tokens = generator.integers(0, 3, size=generator.integers(1, 12))
        start, slots = index.add(tokens)
        for place, slot in enumerate(slots.tolist(), start=start + 1):
            assert slot_of_prefix.setdefault(tuple(tokens[:place]), slot) == slot
        index.tick()
        probe = generator.integers(0, 3, size=12)
        found = index.find(probe)
        known = [tuple(probe[:n]) for n in range(1, 13) if tuple(probe[:n]) in slot_of_prefix]
        assert found.tolist() == [slot_of_prefix[prefix] for prefix in known]
    assert len(set(slot_of_prefix.values())) == len(slot_of_prefix) == index.num_used


def test_what_was_not_asked_for_longest_goes_first() -> None:
    index = PrefixIndex(12)
    for text in ("aabbbb", "aacccc"):
        index.tick()
        index.add(ids(text))
    index.tick()
    assert len(index.find(ids("aabbbb"))) == 6 and index.num_used == 10
    start, slots = index.add(ids("dddd"))
    assert (start, len(slots)) == (0, 4) and len(set(slots.tolist()) | set(index.find(ids("aabbbb")).tolist())) == 10
    assert len(index.find(ids("aacccc"))) == 2
    assert index.num_used <= 12


def test_what_is_in_use_stays_and_the_rest_gets_no_slot() -> None:
    index = PrefixIndex(6)
    index.tick()
    index.add(ids("abcd"))
    start, slots = index.add(ids("xyzxyz"))
    assert (start, len(slots)) == (0, 2)
    assert len(index.find(ids("abcd"))) == 4 and len(index.find(ids("xyzxyz"))) == 2
    assert PrefixIndex(0).add(ids("a"))[1].tolist() == []


@pytest.mark.parametrize("seed", range(5))
def test_slots_are_never_shared_by_different_prefixes_however_much_is_forgotten(seed: int) -> None:
    index, generator, owner = PrefixIndex(40), np.random.default_rng(seed), {}
    for _ in range(400):
        if generator.random() < 0.7:
            index.tick()
        tokens = generator.integers(0, 3, size=generator.integers(1, 20))
        start, slots = index.add(tokens)
        owner.update({slot: tuple(tokens[: start + n + 1]) for n, slot in enumerate(slots.tolist())})
        probe = generator.integers(0, 3, size=20)
        assert [owner[slot] for slot in index.find(probe).tolist()] == [
            tuple(probe[: n + 1]) for n in range(len(index.find(probe)))
        ]
        assert index.num_used <= 40


def test_shared_beginnings_come_level_by_level() -> None:
    one = "few shots. question one: "
    texts = [f"{one}a", f"{one}b", "few shots. other", "nothing in common", "few shots. other"]
    levels = shared_beginnings([ids(text) for text in texts], min_tokens=4)
    assert [[(place, texts[place][:length]) for place, length in sorted(level)] for level in levels] == [
        [(0, "few shots. ")],
        [(0, one), (2, "few shots. other")],
    ]
    assert shared_beginnings([ids("abc"), ids("abd")], min_tokens=3) == []
    assert shared_beginnings([ids("abc")], min_tokens=1) == [] == shared_beginnings([], min_tokens=1)
