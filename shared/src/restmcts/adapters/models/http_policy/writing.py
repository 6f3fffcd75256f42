"""From a server's text to steps: where steps end, when a solution ends, and what of it is known
token by token.

The rules are those of the policy in this process (restmcts.modeling.decoding.stopping), with one
departure: where a whole solution is asked for, a long line is one step, because not every server
returns its tokens.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from restmcts.adapters.models.http_policy.completion import Completion, Token
from restmcts.domain.answers.extraction import states_answer
from restmcts.domain.requests import Alternative, GenerationSettings, ProposedStep, ProposeSteps, Sample
from restmcts.domain.segmenters import Segmenter, thought_is_open
from restmcts.domain.tasks.code.steps import closes_program
from restmcts.errors import MissingLogProbsError

MAX_BLANK_LINES = 4
# Special tokens come as text from servers that do not say which are special; nothing a step would
# begin with looks like them.
_SPECIAL = re.compile(r"<(?:\|[^<>|]*\||/?s|/?eos|/?bos|pad|unk|end_of_turn|endoftext)>|^$|�")


@dataclass(frozen=True, slots=True)
class _Piece:
    """A part of a text that is not divided: a token, or a line where tokens are not returned."""

    text: str
    num_tokens: int
    token: Token


class Writing:
    """One sample as it is written, call by call."""

    def __init__(
        self,
        request: ProposeSteps,
        settings: GenerationSettings,
        separator: str,
        *,
        in_thought: bool = False,
        is_code: bool = False,
    ) -> None:
        self._request = request
        self._settings = settings
        self._separator = separator
        self._segmenter = Segmenter(separator, split_thoughts=settings.split_thoughts, is_code=is_code)
        self._in_thought = in_thought or thought_is_open("".join(request.steps) + request.begun)
        self._steps: list[ProposedStep] = []
        self._open: list[_Piece] = []
        self._num_tokens = 0
        self._num_blank = 0
        self._step_start = request.begun
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
            MissingLogProbsError: if the search needs log-probabilities or alternatives that the
                server does not return.
        """
        self._check_returned(completion)
        out_of_tokens = completion.cut and self.max_tokens < self._settings.max_step_tokens
        self._num_tokens += completion.num_tokens
        for piece in self._pieces(completion):
            self._open.append(piece)
            self.text += piece.text
            if self._segmenter.end(self._open_text(), self._in_thought) is not None:
                self._close_step(self._open_text())
            if self.complete:
                return
        self._end_call(completion, out_of_tokens or (completion.cut and self.stop is None))

    def _check_returned(self, completion: Completion) -> None:
        if self._request.needs_log_probs and completion.tokens is None:
            raise MissingLogProbsError("the server returns no log-probabilities, which this search needs")
        returns_others = completion.tokens is not None and all(token.top for token in completion.tokens if token.text)
        if self._request.num_alternatives and not returns_others:
            raise MissingLogProbsError("the server returns no alternatives to its tokens, which this search needs")

    def _pieces(self, completion: Completion) -> list[_Piece]:
        """Return the call's text in pieces that join to exactly what the model wrote, the
        separator that ended it included.
        """
        body, stopped, _ = completion.text.partition(self._separator) if self.stop else (completion.text, "", "")
        ending = "" if completion.cut or completion.ended else self.stop or ""
        if completion.tokens is not None:
            texts = [_written(token) for token in completion.tokens]
            if ending and texts and not texts[-1]:
                texts[-1] = ending  # a server may name the token that completes the stop text by nothing
            if "".join(texts).startswith(body + (ending if stopped else "")):
                extra = ending if self._separator not in "".join(texts) else ""
                returned = zip(texts, completion.tokens, strict=True)
                return [_Piece(text, 1, token) for text, token in returned] + _unreturned(extra, 0, 0.0)
        log_prob = sum(token.log_prob for token in completion.tokens or ())
        return _unreturned(body + ending, completion.num_tokens, log_prob, self._separator)

    def _open_text(self) -> str:
        return self._step_start + "".join(piece.text for piece in self._open)

    def _close_step(self, text: str, num_pieces: int | None = None) -> None:
        """Add the first so many pieces of what is open as a step of that text; None: all."""
        pieces, self._open = self._open[:num_pieces], []
        if self._request.critic is not None:
            text = text.strip() + self._separator
        num_tokens = sum(piece.num_tokens for piece in pieces)
        log_prob = min(sum(piece.token.log_prob for piece in pieces), 0.0)
        self._steps.append(ProposedStep(text, num_tokens, log_prob, self._alternatives(pieces)))
        self._step_start = ""
        self._in_thought = thought_is_open(text, self._in_thought)
        ends = closes_program if self._segmenter.is_code else states_answer
        self.ended = not self._in_thought and ends(text.strip())
        self.complete = self.ended or len(self._steps) == self._request.max_steps

    def _end_call(self, completion: Completion, out_of_tokens: bool) -> None:
        """Decide whether there is another call, where this one's text did not complete the
        sample.
        """
        text = self._open_text()
        is_line = self._request.critic is not None
        if text.strip() and (completion.ended or is_line):
            self._close_step(text)
        elif text.strip() and completion.cut and not out_of_tokens:
            if not self._segmenter.goes_on(text, self._in_thought):
                self._cut_step()
        elif not text.strip():
            self._num_blank += 1
        out_of_patience = self._num_blank >= MAX_BLANK_LINES
        # A server that does not say so, and gives nothing time and again, has ended.
        self.ended = self.ended or bool(completion.ended) or (completion.ended is None and out_of_patience)
        done = self.stop is None or self.ended or out_of_patience or out_of_tokens or self.max_tokens < 1
        self.complete = self.complete or done

    def _cut_step(self) -> None:
        """End a step that is too long where its last word begins, which is then not of it."""
        for count in range(len(self._open) - 1, 0, -1):
            before = self._step_start + "".join(piece.text for piece in self._open[:count])
            if self._open[count].text[:1].isspace() and before.strip():
                dropped = "".join(piece.text for piece in self._open[count:])
                self.text = self.text.removesuffix(dropped)
                self._close_step(before, count)
                return
        self._close_step(self._open_text())

    def _alternatives(self, pieces: Sequence[_Piece]) -> tuple[Alternative, ...]:
        """Return the tokens that this step did not take, by position, most probable first."""
        wanted = self._request.num_alternatives
        found: list[Alternative] = []
        before, prefix = 0.0, self._step_start
        for position, piece in enumerate(pieces):
            others = [pair for pair in piece.token.top if pair[0] != piece.token.text and not _SPECIAL.search(pair[0])]
            for text, log_prob in sorted(others, key=lambda other: -other[1])[:wanted]:
                branch = prefix + text
                if self._separator not in branch.lstrip() and branch.strip():
                    found.append(Alternative(branch, before, log_prob, position))
            before += piece.token.log_prob
            prefix += piece.text
        return tuple(found)


def _written(token: Token) -> str:
    return "" if _SPECIAL.fullmatch(token.text) else token.text


def _unreturned(text: str, num_tokens: int, log_prob: float, separator: str = "") -> list[_Piece]:
    """Return a text's lines, each with its share of the tokens and of their log-probability."""
    lines = re.split(f"(?<={re.escape(separator)})", text) if separator else [text]
    shares = [(line, len(line) / len(text)) for line in lines if line]
    return [_Piece(line, int(num_tokens * share), Token("", log_prob * share)) for line, share in shares]
