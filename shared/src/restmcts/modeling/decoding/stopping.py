"""When a generated row ends a step, and when it ends: the rules that turn tokens into steps, for
many rows at once.

Knows tokens, their log-probabilities and their text; no model. Work a token is a few array
operations over all rows; only a row that may have ended a step is looked at on its own.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from restmcts.domain.answers.extraction import states_answer
from restmcts.domain.requests import Alternative, ProposedStep, Sample
from restmcts.modeling.tokenization import TextDecoder

Ints = np.ndarray[Any, np.dtype[np.int64]]
Floats = np.ndarray[Any, np.dtype[np.float64]]
Bools = np.ndarray[Any, np.dtype[np.bool_]]

_FIRST_CAPACITY = 32


class StopRules:
    """What ends a step and a solution for one tokenizer: the step separator, an end token, a
    step that states an answer.
    """

    def __init__(
        self, decoder: TextDecoder, separator: str, end_token_ids: Iterable[int], vocabulary_size: int
    ) -> None:
        self.separator = separator
        # A token can complete the separator only if it holds the separator's last character.
        self.may_separate = decoder.tokens_with(separator[-1], vocabulary_size)
        self.ends = np.zeros(vocabulary_size, dtype=np.bool_)
        self.ends[[i for i in end_token_ids if i < vocabulary_size]] = True
        self.may_stop = self.may_separate | self.ends
        self.decode: Callable[[Sequence[Sequence[int]]], list[str]] = decoder.decode


class Continuations:
    """The tokens generated so far for R rows in lockstep, and the steps they make.

    Args:
        rules: of the tokenizer.
        max_steps: `[R]`, steps wanted of each row.
        max_tokens: `[R]`, new tokens allowed for each row, at least 1.
        max_step_tokens: new tokens allowed for one step; a longer one is cut there.
        begun: each row's given tokens, with which its first step begins; they count in no number.
            None: no row has any.
        num_alternatives: `[R]`, alternatives wanted at every position. None: no row wants any.
        min_log_probs: `[R]`, log-probabilities above which they are wanted. None: all are.
    """

    def __init__(
        self,
        rules: StopRules,
        max_steps: Ints,
        max_tokens: Ints,
        max_step_tokens: int,
        begun: Sequence[Sequence[int]] | None = None,
        num_alternatives: Ints | None = None,
        min_log_probs: Floats | None = None,
    ) -> None:
        num_rows = len(max_steps)
        self._begun = begun if begun is not None else [()] * num_rows
        self._num_alternatives = (
            num_alternatives if num_alternatives is not None else np.zeros(num_rows, dtype=np.int64)
        )
        self._min_log_probs = min_log_probs if min_log_probs is not None else np.full(num_rows, -np.inf)
        self._tops: list[tuple[Ints, Floats]] = []
        self._rules = rules
        self._max_steps, self._max_tokens, self._max_step_tokens = max_steps, max_tokens, max_step_tokens
        self._tokens: Ints = np.zeros((num_rows, _FIRST_CAPACITY), dtype=np.int64)
        self._log_probs: Floats = np.zeros((num_rows, _FIRST_CAPACITY))
        self._step_starts: Ints = np.zeros(num_rows, dtype=np.int64)
        self._num_tokens: Ints = np.zeros(num_rows, dtype=np.int64)
        self._steps: list[list[ProposedStep]] = [[] for _ in range(num_rows)]
        self._ended: Bools = np.zeros(num_rows, dtype=np.bool_)
        self.finished: Bools = np.zeros(num_rows, dtype=np.bool_)
        self.length = 0

    def append(
        self,
        rows: Ints,
        token_ids: Ints,
        log_probs: Floats,
        top_ids: Ints | None = None,
        top_log_probs: Floats | None = None,
    ) -> None:
        """Add the next token of each of these rows; those that are finished already are passed
        over.

        Args:
            top_ids: `[N, K]`, the most probable tokens at this position; not needed where no row
                wants alternatives.
            top_log_probs: `[N, K]`, theirs.
        """
        if top_ids is not None and top_log_probs is not None:
            self._keep_tops(rows, top_ids, top_log_probs)
        live = ~self.finished[rows]
        rows, token_ids = rows[live], token_ids[live]
        self._grow()
        self._tokens[rows, self.length] = token_ids
        self._log_probs[rows, self.length] = log_probs[live]
        self.length += 1
        self._num_tokens[rows] = self.length
        full = (self.length - self._step_starts[rows] >= self._max_step_tokens) | (
            self.length >= self._max_tokens[rows]
        )
        looked_at = rows[self._rules.may_stop[token_ids] | full]
        segments = [self._tokens[row, self._step_starts[row] : self.length].tolist() for row in looked_at]
        if segments:
            whole = [[*self._given(row), *segment] for row, segment in zip(looked_at, segments, strict=True)]
            for row, segment, text in zip(looked_at.tolist(), segments, self._rules.decode(whole), strict=True):
                self._look_at(row, segment, text)

    def _given(self, row: int) -> Sequence[int]:
        """Return the tokens that were given at the beginning of the row's present step."""
        return () if self._step_starts[row] else self._begun[row]

    def _keep_tops(self, rows: Ints, top_ids: Ints, top_log_probs: Floats) -> None:
        ids = np.zeros((len(self._max_steps), top_ids.shape[1]), dtype=np.int64)
        log_probs = np.full(ids.shape, -np.inf)
        ids[rows], log_probs[rows] = top_ids, top_log_probs
        self._tops.append((ids, log_probs))

    def _alternatives(self, row: int) -> tuple[Alternative, ...]:
        """Return the tokens that the present step did not take, by position, most probable
        first.
        """
        if not self._num_alternatives[row]:
            return ()
        before, prefix = 0.0, list(self._given(row))
        found: list[tuple[list[int], float, float, int]] = []
        start = int(self._step_starts[row])
        for place in range(start, self.length):
            taken = int(self._tokens[row, place])
            ids, log_probs = (values[row].tolist() for values in self._tops[place])
            others = [(i, p) for i, p in zip(ids, log_probs, strict=True) if i != taken and not self._rules.ends[i]]
            wanted = [(i, p) for i, p in others[: self._num_alternatives[row]] if p > self._min_log_probs[row]]
            found += [([*prefix, i], before, p, place - start) for i, p in wanted]
            prefix.append(taken)
            before += float(self._log_probs[row, place])
        texts = self._rules.decode([tokens for tokens, *_ in found]) if found else []
        separator = self._rules.separator
        told = zip(texts, found, strict=True)
        return tuple(
            Alternative(text, b, p, at) for text, (_, b, p, at) in told if separator not in text and text.strip()
        )

    def tokens(self, row: int) -> Ints:
        """Return the row's tokens so far, those behind its end left out."""
        return self._tokens[row, : self._num_tokens[row]]

    def sample(self, row: int) -> Sample:
        """Return the row's steps as they stand."""
        return Sample(tuple(self._steps[row]), int(self._num_tokens[row]), bool(self._ended[row]))

    def _look_at(self, row: int, segment: list[int], text: str) -> None:
        out_of_tokens = self.length >= self._max_tokens[row]
        self._ended[row] = self._rules.ends[segment[-1]]
        line, separator, _ = text.partition(self._rules.separator)
        if not (separator or self._ended[row] or out_of_tokens or len(segment) >= self._max_step_tokens):
            return
        line = line.strip()
        if line:
            log_prob = float(self._log_probs[row, self._step_starts[row] : self.length].sum())
            self._steps[row].append(
                ProposedStep(line + self._rules.separator, len(segment), log_prob, self._alternatives(row))
            )
            self._ended[row] |= states_answer(line)
        self._step_starts[row] = self.length
        self.finished[row] = self._ended[row] or out_of_tokens or len(self._steps[row]) >= self._max_steps[row]

    def _grow(self) -> None:
        if self.length == self._tokens.shape[1]:
            self._tokens = np.concatenate([self._tokens, np.zeros_like(self._tokens)], axis=1)
            self._log_probs = np.concatenate([self._log_probs, np.zeros_like(self._log_probs)], axis=1)
