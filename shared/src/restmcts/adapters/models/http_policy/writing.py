"""From a server's text to steps: where steps end, when a solution ends, and what of it is known
token by token.

The rules are those of the policy in this process (restmcts.modeling.decoding.stopping), with one
departure: where a whole solution is asked for, a long line is one step, because not every server
tells its tokens.
"""

import itertools
import math
import re
from collections.abc import Sequence

from restmcts.adapters.models.http_policy.completion import Completion, Token
from restmcts.domain.answers.extraction import states_answer
from restmcts.domain.requests import Alternative, GenerationSettings, ProposedStep, ProposeSteps, Sample
from restmcts.errors import LogProbsNotToldError

MAX_BLANK_LINES = 4
# Special tokens come as text from servers that do not say which are special; nothing a step would
# begin with looks like them.
_SPECIAL = re.compile(r"<(?:\|[^<>|]*\||/?s|/?eos|/?bos|pad|unk|end_of_turn|endoftext)>|^$|�")


class Writing:
    """One sample as it is written, call by call."""

    def __init__(self, request: ProposeSteps, settings: GenerationSettings, separator: str) -> None:
        self._request = request
        self._settings = settings
        self._separator = separator
        self._steps: list[ProposedStep] = []
        self._num_tokens = 0
        self._num_blank = 0
        self._begun = request.begun
        self.text = ""
        self.ended = False
        self.complete = False

    @property
    def stop(self) -> str | None:
        """What ends the next call's text: the separator, but for whole solutions, which take
        one call.
        """
        return None if self._request.max_steps is None else self._separator

    @property
    def max_tokens(self) -> int:
        """The limit of the next call."""
        left = self._settings.max_solution_tokens - self._num_tokens
        return left if self.stop is None else min(left, self._settings.max_step_tokens)

    def sample(self) -> Sample:
        """Return what is written."""
        return Sample(tuple(self._steps), self._num_tokens, self.ended)

    def add(self, completion: Completion) -> None:
        """Take a call's text.

        Raises:
            LogProbsNotToldError: if the search needs log-probabilities or alternatives that the
                server does not tell.
        """
        if self._request.needs_log_probs and completion.tokens is None:
            raise LogProbsNotToldError("the server tells no log-probabilities, which this search needs")
        tells_others = completion.tokens is not None and all(token.top for token in completion.tokens if token.text)
        if self._request.num_alternatives and not tells_others:
            raise LogProbsNotToldError("the server tells no alternatives to its tokens, which this search needs")
        self._num_tokens += completion.num_tokens
        text = completion.text if self.stop is None else completion.text.partition(self._separator)[0]
        start = 0
        for line in text.split(self._separator):
            end = start + len(line) + len(self._separator)
            self._add_line(line, completion, start, end if end <= len(text) else math.inf)
            if self.complete:
                return
            start = end
        self._prepare_next(completion, text)

    def _add_line(self, line: str, completion: Completion, start: int, end: float) -> None:
        whole = (self._begun + line).strip()
        if whole:
            if completion.tokens is None:
                tokens: Sequence[Token] = ()
                num_tokens = int(completion.num_tokens * len(line) / max(len(completion.text.strip()), 1))
            else:
                tokens = completion.tokens if self.stop is not None else _between(completion.tokens, start, end)
                num_tokens = len(tokens)
            log_prob = min(sum(token.log_prob for token in tokens), 0.0)
            self._steps.append(ProposedStep(whole + self._separator, num_tokens, log_prob, self._alternatives(tokens)))
            self.ended = states_answer(whole)
            self.complete = self.ended or len(self._steps) == self._request.max_steps
        self._begun = ""

    def _prepare_next(self, completion: Completion, text: str) -> None:
        """Decide whether there is another call, where this one's text did not complete the
        sample.
        """
        if not text.strip():
            self._num_blank += 1
        out_of_patience = self._num_blank >= MAX_BLANK_LINES
        # A server that does not say so, and gives nothing time and again, has ended.
        self.ended = self.ended or bool(completion.ended) or (completion.ended is None and out_of_patience)
        self.complete = self.stop is None or self.ended or out_of_patience or self.max_tokens < 1
        self.text += text + self._separator

    def _alternatives(self, tokens: Sequence[Token]) -> tuple[Alternative, ...]:
        """Return the tokens that this step did not take, by position, most probable first."""
        wanted = self._request.num_alternatives
        found: list[Alternative] = []
        before, prefix = 0.0, self._begun
        for position, token in enumerate(tokens):
            others = [
                (text, log_prob) for text, log_prob in token.top if text != token.text and not _SPECIAL.search(text)
            ]
            for text, log_prob in sorted(others, key=lambda other: -other[1])[:wanted]:
                begun = prefix + text
                if self._separator not in begun and begun.strip():
                    found.append(Alternative(begun, before, log_prob, position))
            before += token.log_prob
            prefix += token.text
        return tuple(found)


def _between(tokens: Sequence[Token], start: int, end: float) -> list[Token]:
    """Return the tokens that begin within `[start, end)` of the text."""
    places = itertools.accumulate((len(token.text) for token in tokens), initial=0)
    return [token for token, place in zip(tokens, places, strict=False) if start <= place < end]
