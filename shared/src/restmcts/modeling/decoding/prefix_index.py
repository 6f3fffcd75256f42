"""Which token sequences begin alike: a radix tree over token ids that gives every kept token a
slot, of a fixed number.

Knows neither models nor tensors; what is in a slot is the owner's. When slots run out, the
sequences that were not asked for longest go first, from their ends.
"""

import heapq
import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

Ints = np.ndarray[Any, np.dtype[np.int64]]

_NONE: Ints = np.zeros(0, dtype=np.int64)
# Freed beyond need, as a share of all slots: to look for the oldest costs a walk over the whole
# tree.
_FREED_SHARE = 1 / 16


class _Node:
    """A run of tokens below its parent's, their slots, and what goes on from its last token, by
    first token.
    """

    __slots__ = ("children", "last_used", "parent", "slots", "tokens")

    def __init__(self, parent: "_Node | None", tokens: Ints, slots: Ints, last_used: int) -> None:
        self.parent, self.tokens, self.slots, self.last_used = parent, tokens, slots, last_used
        self.children: dict[int, _Node] = {}


class PrefixIndex:
    """Slots for the tokens of sequences; sequences that begin alike share the slots of their common
    beginning.

    Invariants: a token's slot holds what belongs to it together with all tokens before it; at most
    `capacity` slots are used; what was found or added since the last `tick` is not evicted, and
    all else can be.
    """

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self._root = _Node(None, _NONE, _NONE, 0)
        # Slots from here on were never used: low ones go first, so that their owner can grow with
        # use.
        self._first_fresh = 0
        self._freed: list[int] = []
        self._now = 0

    @property
    def num_used(self) -> int:
        """Slots in use."""
        return self._first_fresh - len(self._freed)

    def tick(self) -> None:
        """Let go of what was used so far: from now on it may be evicted."""
        self._now += 1

    def find(self, tokens: Ints) -> Ints:
        """Return the slots of the longest beginning of `tokens` that is kept, `[at most
        len(tokens)]`.
        """
        pieces = [node.slots for node in self._walk(tokens)]
        return np.concatenate(pieces) if pieces else _NONE

    def add(self, tokens: Ints) -> tuple[int, Ints]:
        """Keep a sequence; return from which token on it was not kept yet, and the new slots of
        those tokens.

        Fewer slots than tokens come back where there is no room for all.
        """
        node, num_kept = self._root, 0
        for node in self._walk(tokens):
            num_kept += len(node.tokens)
        slots = self._take(len(tokens) - num_kept)
        if len(slots):
            added = _Node(node, tokens[num_kept : num_kept + len(slots)], slots, self._now)
            node.children[int(added.tokens[0])] = added
        return num_kept, slots

    def _walk(self, tokens: Ints) -> Iterator[_Node]:
        """Yield the nodes along `tokens`, used now; where a node agrees in part, it is split,
        so that its rest is not in use.
        """
        node, place = self._root, 0
        while place < len(tokens) and (child := node.children.get(int(tokens[place]))) is not None:
            length = common_length(child.tokens, tokens[place:])
            if length < len(child.tokens):
                self._split(child, length)
            child.last_used = self._now
            place += length
            yield child
            node = child

    def _split(self, node: _Node, place: int) -> None:
        rest = _Node(node, node.tokens[place:], node.slots[place:], node.last_used)
        rest.children = node.children
        for child in rest.children.values():
            child.parent = rest
        node.tokens, node.slots = node.tokens[:place], node.slots[:place]
        node.children = {int(rest.tokens[0]): rest}

    def _take(self, number: int) -> Ints:
        room = self.capacity - self.num_used
        if number > room:
            self._evict(number - room + int(self.capacity * _FREED_SHARE))
            number = min(number, self.capacity - self.num_used)
        num_freed = min(number, len(self._freed))
        reused = self._freed[len(self._freed) - num_freed :]
        del self._freed[len(self._freed) - num_freed :]
        fresh = np.arange(self._first_fresh, self._first_fresh + number - num_freed)
        self._first_fresh += len(fresh)
        return np.concatenate([np.array(reused, dtype=np.int64), fresh])

    def _evict(self, number: int) -> None:
        # Numbered, so that nodes of one age leave in an order that is always the same.
        numbers = itertools.count()
        leaves = [(n.last_used, next(numbers), n) for n in self._nodes() if not n.children and n.last_used < self._now]
        heapq.heapify(leaves)
        while leaves and number > 0:
            _, _, node = heapq.heappop(leaves)
            parent = node.parent
            assert parent is not None
            del parent.children[int(node.tokens[0])]
            self._freed.extend(node.slots.tolist())
            number -= len(node.slots)
            if parent is not self._root and not parent.children and parent.last_used < self._now:
                heapq.heappush(leaves, (parent.last_used, next(numbers), parent))

    def _nodes(self) -> Iterator[_Node]:
        waiting = list(self._root.children.values())
        while waiting:
            node = waiting.pop()
            yield node
            waiting.extend(node.children.values())


def common_length(first: Ints, second: Ints) -> int:
    """Return how many tokens two sequences have in common from their beginning."""
    length = min(len(first), len(second))
    differ = first[:length] != second[:length]
    return int(differ.argmax()) if differ.any() else length


def shared_beginnings(sequences: Sequence[Ints], min_tokens: int) -> list[list[tuple[int, int]]]:
    """Return what several sequences have in common, to be computed once before the sequences
    themselves: level by level, (a sequence's place, the number of its first tokens). Each lengthens
    one of an earlier level by at least `min_tokens`.
    """
    order = sorted(range(len(sequences)), key=lambda place: sequences[place].tolist())
    # common[i]: of the sorted sequences i - 1 and i.
    common = [0] + [common_length(sequences[a], sequences[b]) for a, b in itertools.pairwise(order)]
    levels: list[list[tuple[int, int]]] = []
    waiting = [(0, len(order), 0, 0)]
    while waiting:
        begin, end, level, known = waiting.pop()
        if end - begin < 2:
            continue
        least = min(common[begin + 1 : end])
        if least - known >= min_tokens:
            levels.extend([] for _ in range(level + 1 - len(levels)))
            levels[level].append((min(order[begin:end]), least))
            known, level = least, level + 1
        cuts = [begin, *(place for place in range(begin + 1, end) if common[place] == least), end]
        waiting.extend((a, b, level, known) for a, b in itertools.pairwise(cuts))
    return levels
