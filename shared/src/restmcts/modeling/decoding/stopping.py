"""When a generated row ends a step, and when it ends: the rules that turn tokens into steps, for
many rows at once.

Knows tokens, their log-probabilities and their text; no model. Work a token is a few array
operations over all rows; only a row that may have ended a step is looked at on its own.
"""

from collections.abc import Callable, Iterable, Sequence
from copy import copy
from typing import Any

import numpy as np

from restmcts.domain.answers.extraction import states_answer
from restmcts.domain.requests import Alternative, ProposedStep, Sample
from restmcts.domain.segmenters import Segmenter, thought_is_open
from restmcts.domain.tasks.code.steps import closes_program
from restmcts.modeling.tokenization import TextDecoder

Ints = np.ndarray[Any, np.dtype[np.int64]]
Floats = np.ndarray[Any, np.dtype[np.float64]]
Bools = np.ndarray[Any, np.dtype[np.bool_]]

_FIRST_CAPACITY = 32
# A step that is too long goes on to the end of its word, but no further than so many tokens.
WORD_TOKENS = 16
_HALF_CHARACTER = "\N{REPLACEMENT CHARACTER}"
# From here on, Unicode has scripts without blanks between words.
_FIRST_UNSPACED = "\N{CJK RADICAL REPEAT}"


class StopRules:
    """What ends a step and a solution for one tokenizer: the step separator, an end token, a
    step that states an answer.

    Attributes:
        segmenter: what divides steps.
        separator: of lines.
        keeps_text: whether texts survive the way to tokens and back to the last blank, so that a
            step can be exactly what was written. A tokenizer of whole words does not keep them;
            its steps are lines without blanks around them, each with the separator behind it.
    """

    def __init__(
        self,
        decoder: TextDecoder,
        separator: str,
        end_token_ids: Iterable[int],
        vocabulary_size: int,
        *,
        keeps_text: bool = False,
    ) -> None:
        self.separator = separator
        self.segmenter = Segmenter(separator)
        self.keeps_text = keeps_text
        # A token can complete the separator only if it holds the separator's last character.
        self._may_separate = decoder.tokens_with(separator[-1], vocabulary_size)
        self.ends = np.zeros(vocabulary_size, dtype=np.bool_)
        self.ends[[i for i in end_token_ids if i < vocabulary_size]] = True
        self.may_stop = self._may_separate | self.ends
        self.decode: Callable[[Sequence[Sequence[int]]], list[str]] = decoder.decode

    def divided_by(self, segmenter: Segmenter) -> "StopRules":
        """Return the same rules with another segmenter, whose separator, if it has one, ends in the
        same character.
        """
        rules = copy(self)
        rules.segmenter = segmenter
        if segmenter.separator is not None:
            rules.separator = segmenter.separator
        else:
            # Where a step ends is seen from what comes behind it, which may be any token.
            rules.may_stop = np.ones_like(self.may_stop) if segmenter.boundary is not None else self.ends
        return rules


class Continuations:
    """The tokens generated so far for R rows, and the steps they make.

    Args:
        rules: of the tokenizer.
        max_steps: `[R]`, steps wanted of each row.
        max_tokens: `[R]`, new tokens allowed for each row, at least 1.
        max_step_tokens: new tokens allowed for one step; a longer one is cut there, where text is
            kept at the end of the word.
        begun: each row's given tokens, with which its first step begins; they count in no number.
            None: no row has any.
        num_alternatives: `[R]`, alternatives wanted at every position. None: no row wants any.
        min_log_probs: `[R]`, log-probabilities above which they are wanted. None: all are.
        as_lines: `[R]`, rows whose steps are lines even where the tokenizer keeps text. None: no
            row's are.
        in_thought: whether each row's prompt leaves a thought open. None: no row's does.
    """

    def __init__(
        self,
        rules: StopRules,
        max_steps: Ints,
        max_tokens: Ints,
        max_step_tokens: int,
        prefixes: Sequence[Sequence[int]] | None = None,
        num_alternatives: Ints | None = None,
        min_log_probs: Floats | None = None,
        as_lines: Bools | None = None,
        in_thought: Sequence[bool] | None = None,
    ) -> None:
        num_rows = len(max_steps)
        self._in_thought = list(in_thought) if in_thought is not None else [False] * num_rows
        self._as_written = np.full(num_rows, rules.keeps_text) & ~(np.False_ if as_lines is None else as_lines)
        self._prefixes = prefixes if prefixes is not None else [()] * num_rows
        self._num_alternatives = (
            num_alternatives if num_alternatives is not None else np.zeros(num_rows, dtype=np.int64)
        )
        self._min_log_probs = min_log_probs if min_log_probs is not None else np.full(num_rows, -np.inf)
        self._tops: list[list[tuple[list[int], list[float]]]] = [[] for _ in range(num_rows)]
        self._rules = rules
        self._max_steps, self._max_tokens, self._max_step_tokens = max_steps, max_tokens, max_step_tokens
        self._tokens: Ints = np.zeros((num_rows, _FIRST_CAPACITY), dtype=np.int64)
        self._log_probs: Floats = np.zeros((num_rows, _FIRST_CAPACITY))
        self._step_starts: Ints = np.zeros(num_rows, dtype=np.int64)
        self.num_tokens: Ints = np.zeros(num_rows, dtype=np.int64)
        self._steps: list[list[ProposedStep]] = [[] for _ in range(num_rows)]
        self._ended: Bools = np.zeros(num_rows, dtype=np.bool_)
        self.finished: Bools = np.zeros(num_rows, dtype=np.bool_)

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
        live = ~self.finished[rows]
        rows, token_ids = rows[live], token_ids[live]
        if top_ids is not None and top_log_probs is not None:
            self._keep_tops(rows, top_ids[live], top_log_probs[live])
        self._grow()
        before = self.num_tokens[rows]
        self._tokens[rows, before] = token_ids
        self._log_probs[rows, before] = log_probs[live]
        lengths = before + 1
        self.num_tokens[rows] = lengths
        full = (lengths - self._step_starts[rows] >= self._max_step_tokens) | (lengths >= self._max_tokens[rows])
        looked_at = rows[self._rules.may_stop[token_ids] | full]
        segments = [self._tokens[row, self._step_starts[row] : self.num_tokens[row]].tolist() for row in looked_at]
        if segments:
            whole = [[*self._given(row), *segment] for row, segment in zip(looked_at, segments, strict=True)]
            for row, segment, text in zip(looked_at.tolist(), segments, self._rules.decode(whole), strict=True):
                self._look_at(row, segment, text)

    def _given(self, row: int) -> Sequence[int]:
        """Return the tokens that were given at the beginning of the row's present step."""
        return () if self._step_starts[row] else self._prefixes[row]

    def _keep_tops(self, rows: Ints, top_ids: Ints, top_log_probs: Floats) -> None:
        for place in np.flatnonzero(self._num_alternatives[rows]):
            self._tops[rows[place]].append((top_ids[place].tolist(), top_log_probs[place].tolist()))

    def _alternatives(self, row: int, num_tokens: int) -> tuple[Alternative, ...]:
        """Return the tokens that the present step of so many did not take, by position, most
        probable first.
        """
        if not self._num_alternatives[row]:
            return ()
        before, prefix = 0.0, list(self._given(row))
        found: list[tuple[list[int], float, float, int]] = []
        start = int(self._step_starts[row])
        for place in range(start, start + num_tokens):
            chosen = int(self._tokens[row, place])
            ids, log_probs = self._tops[row][place]
            others = [(i, p) for i, p in zip(ids, log_probs, strict=True) if i != chosen and not self._rules.ends[i]]
            wanted = [(i, p) for i, p in others[: self._num_alternatives[row]] if p > self._min_log_probs[row]]
            found += [([*prefix, i], before, p, place - start) for i, p in wanted]
            prefix.append(chosen)
            before += float(self._log_probs[row, place])
        texts = self._rules.decode([tokens for tokens, *_ in found]) if found else []
        pairs = zip(texts, found, strict=True)
        return tuple(Alternative(text, b, p, at) for text, (_, b, p, at) in pairs if self._may_begin(row, text))

    def _may_begin(self, row: int, text: str) -> bool:
        """Return whether a step may begin with a text: it is no whole step, and no part of a
        character.
        """
        if not self._as_written[row]:
            return self._rules.separator not in text and bool(text.strip())
        is_whole = self._rules.segmenter.end(text, self._in_thought[row]) is not None
        return not is_whole and bool(text.strip()) and _HALF_CHARACTER not in text

    def tokens(self, row: int) -> Ints:
        """Return the row's tokens so far, those behind its end left out."""
        return self._tokens[row, : self.num_tokens[row]]

    def sample(self, row: int) -> Sample:
        """Return the row's steps as they are now."""
        return Sample(tuple(self._steps[row]), int(self.num_tokens[row]), bool(self._ended[row]))

    def _look_at(self, row: int, segment: list[int], text: str) -> None:
        self._ended[row] = self._rules.ends[segment[-1]]
        out_of_tokens = bool(self.num_tokens[row] >= self._max_tokens[row])
        end = self._end_of_text if self._as_written[row] else self._end_of_line
        found = end(row, segment, text, out_of_tokens)
        if found is None:
            return
        step, num_tokens = found
        if step:
            begin = int(self._step_starts[row])
            log_prob = float(self._log_probs[row, begin : begin + num_tokens].sum())
            self._steps[row].append(ProposedStep(step, num_tokens, log_prob, self._alternatives(row, num_tokens)))
            open_after = thought_is_open(step, self._in_thought[row])
            ends = closes_program if self._rules.segmenter.is_code else states_answer
            self._ended[row] |= not open_after and ends(step.strip())
            self._in_thought[row] = open_after
        self._step_starts[row] += num_tokens
        self.finished[row] = self._ended[row] or out_of_tokens or len(self._steps[row]) >= self._max_steps[row]

    def _end_of_line(self, row: int, segment: list[int], text: str, out_of_tokens: bool) -> tuple[str, int] | None:
        """Return the line that ends here, "" for an empty one, and how many tokens it took; None
        if it goes on.
        """
        line, separator, _ = text.partition(self._rules.separator)
        if not (separator or self._ended[row] or out_of_tokens or len(segment) >= self._max_step_tokens):
            return None
        return line.strip() and line.strip() + self._rules.separator, len(segment)

    def _end_of_text(self, row: int, segment: list[int], text: str, out_of_tokens: bool) -> tuple[str, int] | None:
        """Return the step that ends here, exactly as it was written, and how many tokens it took;
        None if it goes on.

        What a solution's limit leaves unfinished is no step.
        """
        if self._ended[row]:
            return (text if text.strip() else ""), len(segment)
        segmenter, in_thought = self._rules.segmenter, self._in_thought[row]
        end = segmenter.end(text, in_thought)
        if end is not None:
            return self._first(row, segment, end)
        if len(segment) > self._max_step_tokens and not segmenter.goes_on(text, in_thought):
            newest = self._rules.decode([segment[-1:]])[0]
            before = self._rules.decode([[*self._given(row), *segment[:-1]]])[0]
            if _begins_word(newest) and before.strip():
                return before, len(segment) - 1
            if len(segment) >= self._max_step_tokens + WORD_TOKENS:
                return text, len(segment)
        return ("", len(segment)) if out_of_tokens else None

    def _first(self, row: int, segment: list[int], end: int) -> tuple[str, int]:
        """Return the text and number of the first tokens that reach so many characters."""
        count, text = len(segment), self._rules.decode([[*self._given(row), *segment]])[0]
        while count > 1:
            before = self._rules.decode([[*self._given(row), *segment[: count - 1]]])[0]
            if len(before) < end:
                break
            count, text = count - 1, before
        return text, count

    def _grow(self) -> None:
        if self.num_tokens.max() == self._tokens.shape[1]:
            self._tokens = np.concatenate([self._tokens, np.zeros_like(self._tokens)], axis=1)
            self._log_probs = np.concatenate([self._log_probs, np.zeros_like(self._log_probs)], axis=1)


def _begins_word(text: str) -> bool:
    """Return whether a token's text can follow the end of a word or a number."""
    return text[:1].isspace() or (text[:1] >= _FIRST_UNSPACED and text[:1] != _HALF_CHARACTER)
