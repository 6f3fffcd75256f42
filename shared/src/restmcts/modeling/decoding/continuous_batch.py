"""Many rows of one policy, as many at once as a budget of tokens allows: where rows are finished,
waiting ones take their places.

Knows tokens only; what they say, and who asked for them, it does not.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from restmcts.domain.requests import GenerationSettings
from restmcts.modeling.decoding.decode_loop import DecodingRows, can_join
from restmcts.modeling.decoding.forward import ModelForward
from restmcts.modeling.decoding.key_values import KeyValues
from restmcts.modeling.decoding.prefix_index import Ints
from restmcts.modeling.decoding.stopping import Continuations
from restmcts.modeling.decoding.token_sampling import choose_tokens, uniforms
from restmcts.ports import MayBegin

# Finished rows are dropped once they are this share of a batch: to drop costs about what one more
# token costs.
_DROPPED_SHARE = 1 / 8
# Waiting rows begin once they may be this share of those under way: their prompts cost a forward
# pass or two of their own.
_JOINED_SHARE = 1 / 4


@dataclass(frozen=True, slots=True)
class QueuedRow:
    """One sample to be generated: of which request, which sample of it (0 for the one greedy
    row), behind which prompt, and its bounds.
    """

    request: int
    sample: int
    prompt: int
    num_prompt_tokens: int
    max_steps: int
    max_tokens: int
    expected_tokens: float


@dataclass(frozen=True, slots=True)
class RowSampling:
    """How the next token of every row of a queue is chosen.

    Attributes:
        keys: `[R]`, each row's stream of uniform numbers.
        greedy: `[R]`, rows that take the most probable token.
        num_top: how many of the most probable tokens are wanted.
    """

    keys: np.ndarray[Any, np.dtype[np.uint64]]
    greedy: np.ndarray[Any, np.dtype[np.bool_]]
    settings: GenerationSettings
    num_top: int

    def append(self, decoding: DecodingRows, written: Continuations, active: Ints) -> torch.Tensor:
        """Add a token to each active row of `written`; return them, `[active]`."""
        device = decoding.logits.device
        numbers = torch.from_numpy(uniforms(self.keys[active], written.num_tokens[active])).to(device)
        greedy = torch.from_numpy(self.greedy[active]).to(device)
        chosen = choose_tokens(
            decoding.logits, numbers, greedy, self.settings.temperature, self.settings.top_p, self.num_top
        )
        tops = chosen.top_ids.cpu().numpy(), chosen.top_log_probs.double().cpu().numpy()
        written.append(active, chosen.token_ids.cpu().numpy(), chosen.log_probs.double().cpu().numpy(), *tops)
        return chosen.token_ids


class ContinuousBatch:
    """What decodes the rows of a policy.

    Invariant: `num_prefill_tokens`, as computed, padding not counted, only grows.

    Args:
        kept: where keys and values of earlier rows are; None: none are kept.
        max_batch_tokens: bound on rows x (prompt + expected new tokens) that are decoded at once; a
            single row always goes through.
    """

    def __init__(self, forward: ModelForward, kept: KeyValues | None, max_batch_tokens: int) -> None:
        self._forward, self._kept, self._max_batch_tokens = forward, kept, max_batch_tokens
        self.num_prefill_tokens = 0

    def forget(self) -> None:
        """Forget the keys and values that are kept; not while rows are decoded."""
        if self._kept is not None:
            self._kept.forget()

    def decode(
        self,
        queue: Sequence[QueuedRow],
        written: Continuations,
        sampling: RowSampling,
        prompts: Sequence[Ints],
        num_computed: list[int],
        may_begin: MayBegin,
    ) -> Iterator[int]:
        """Write all of the queue, as many at once as the token budget allows, or once no more may
        begin what is started; yield the places of those that are finished.
        """
        decoding: DecodingRows | None = None
        active, num_begun = np.empty(0, dtype=np.int64), 0
        is_kept = np.zeros(len(queue), dtype=np.bool_)
        has_room = True
        while len(active) or num_begun < len(queue):
            if has_room and num_begun and not may_begin():
                queue = queue[:num_begun]
                if not len(active):
                    return
            num_new = self._num_admitted(queue[num_begun:], active, queue, written) if has_room else 0
            if num_new:
                new = np.arange(num_begun, num_begun + num_new)
                begun, is_kept[new] = self._begin(queue[num_begun : num_begun + num_new], prompts, num_computed)
                if decoding is None:
                    decoding = begun
                else:
                    decoding.join(begun)
                active, num_begun = np.concatenate([active, new]), num_begun + num_new
            assert decoding is not None
            tokens = sampling.append(decoding, written, active)
            finished = written.finished[active]
            has_room = bool(finished.sum() >= len(active) * _DROPPED_SHARE)
            if has_room:
                self._save(decoding, np.flatnonzero(finished & is_kept[active]), active, queue, prompts, written)
                yield from active[finished].tolist()
                left = torch.from_numpy(np.flatnonzero(~finished)).to(self._forward.device)
                active, tokens = active[~finished], tokens.index_select(0, left)
                if not len(active):
                    decoding = None
                    continue
                decoding.keep(left)
            decoding.append(tokens)

    def _num_admitted(
        self, waiting: Sequence[QueuedRow], active: Ints, queue: Sequence[QueuedRow], written: Continuations
    ) -> int:
        """Return how many of those that wait are to begin beside the active ones."""
        if len(active) and not can_join(self._forward):
            return 0
        under_way = [max(queue[place].expected_tokens, written.num_tokens[place]) for place in active.tolist()]
        longest = max(
            (queue[a].num_prompt_tokens + n for a, n in zip(active.tolist(), under_way, strict=True)), default=0.0
        )
        expected = 0.0
        for count, row in enumerate(waiting):
            expected = max(expected, row.expected_tokens)
            longest = max(longest, row.num_prompt_tokens + expected)
            num_rows = len(active) + count
            over = (num_rows + 1) * longest > self._max_batch_tokens
            # Without a cache nothing says that the model can skip padding (recurrent ones cannot).
            uneven = not self._forward.has_cache and waiting[0].num_prompt_tokens != row.num_prompt_tokens
            if num_rows and (over or uneven):
                return count if count >= _JOINED_SHARE * len(active) else 0
        return len(waiting)

    def _begin(
        self, rows: Sequence[QueuedRow], prompts: Sequence[Ints], num_computed: list[int]
    ) -> tuple[DecodingRows, bool]:
        """Return these rows behind their prompts, and whether what they write is to be kept."""
        used = list(dict.fromkeys(row.prompt for row in rows))
        kept = self._prefill(used, prompts, num_computed)
        place_of_prompt = {prompt: place for place, prompt in enumerate(used)}
        prompt_of_row = [place_of_prompt[row.prompt] for row in rows]
        return DecodingRows(self._forward, [prompts[prompt] for prompt in used], prompt_of_row, kept), kept is not None

    def _save(
        self,
        decoding: DecodingRows,
        gone: Ints,
        active: Ints,
        queue: Sequence[QueuedRow],
        prompts: Sequence[Ints],
        written: Continuations,
    ) -> None:
        """Keep the keys and values of the rows at these places of `decoding`."""
        if self._kept is not None and len(gone):
            texts = [np.concatenate([prompts[queue[row].prompt], written.tokens(row)]) for row in active[gone].tolist()]
            decoding.save(self._kept, gone, texts)

    def _prefill(self, used: Sequence[int], prompts: Sequence[Ints], num_computed: list[int]) -> KeyValues | None:
        """Compute all but the last token of these prompts, as far as it is not kept; return
        None if they are not kept at all.
        """
        kept = self._kept
        if kept is None or sum(len(prompts[prompt]) for prompt in used) > kept.index.capacity:
            counts = [len(prompts[prompt]) for prompt in used]
            kept = None
        else:
            kept.index.tick()
            counts = [
                count + 1 for count in kept.prefill([prompts[prompt][:-1] for prompt in used], self._max_batch_tokens)
            ]
        for prompt, count in zip(used, counts, strict=True):
            num_computed[prompt] += count
        self.num_prefill_tokens += sum(counts)
        return kept
