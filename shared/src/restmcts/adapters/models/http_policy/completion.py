"""What is asked of a server and what it answers, the same for every protocol."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from restmcts.domain.prompts import Critic, PromptTemplate
from restmcts.domain.text import clean_text

MAX_TOKENS_OF_ANSWER = 10_000_000


@dataclass(frozen=True, slots=True)
class Ask:
    """One call for continuations of a text.

    Attributes:
        template: of the prompt.
        question: of the problem.
        steps: the partial solution, as it was written.
        critic: whose line is wanted; None: the next step is.
        begun: what is given of the wanted text already.
        num_samples: continuations wanted in this call.
        max_tokens: limit of new tokens for each.
        temperature: 0: the most probable token each time.
        stop: text that ends a continuation; None: only the model's own end does.
        num_alternatives: other tokens wanted at every position.
        token_ids: the prompt as the model's own tokenizer writes it; None: the text is sent.
        analysis: of an earlier critic, which this one is shown.
    """

    template: PromptTemplate
    question: str
    steps: str
    critic: Critic | None
    begun: str
    num_samples: int
    max_tokens: int
    seed: int
    temperature: float
    top_p: float
    stop: str | None
    num_alternatives: int
    token_ids: tuple[int, ...] | None = None
    analysis: str = ""

    def text(self) -> str:
        """Return the prompt as raw text."""
        critic = f"\n{self.template.wording.asked(self.critic, self.analysis)}\n" if self.critic is not None else ""
        return f"{self.template.question_text(self.question)}{self.steps}{critic}{self.begun}"


@dataclass(frozen=True, slots=True)
class Token:
    """A generated token: its text, its log-probability, and the most probable tokens at its
    position with theirs.
    """

    text: str
    log_prob: float
    top: tuple[tuple[str, float], ...] = ()


@dataclass(frozen=True, slots=True)
class Completion:
    """One continuation.

    Attributes:
        text: with or without the stop text at its end, as the server has it.
        num_tokens: generated for it, the end token included where the server counts it.
        tokens: each of them; None where the server does not say.
        ended: whether the model ended it; None where the server does not say the model's end from
            the stop text.
        cut: whether it ended at the limit of tokens.
    """

    text: str
    num_tokens: int
    tokens: tuple[Token, ...] | None
    ended: bool | None
    cut: bool = False

    def __post_init__(self) -> None:
        """Refuse a count that no answer has.

        Raises:
            ValueError: if it is negative or beyond what any model writes.
        """
        _check_count(self.num_tokens)


@dataclass(frozen=True, slots=True)
class Completions:
    """The answer to a call: at least one continuation, at most as many as asked for; `model`
    wrote them, "" if that is not returned.
    """

    samples: tuple[Completion, ...]
    num_prompt_tokens: int
    model: str

    def __post_init__(self) -> None:
        """Refuse a count that no prompt has.

        Raises:
            ValueError: if it is negative or beyond what any model reads.
        """
        _check_count(self.num_prompt_tokens)

    def cleaned(self) -> "Completions":
        """Return them without what no request can hold: what is written is a prompt's end later."""
        return replace(self, samples=tuple(map(_cleaned, self.samples)))


def _check_count(num_tokens: int) -> None:
    if not 0 <= num_tokens <= MAX_TOKENS_OF_ANSWER:
        raise ValueError(f"an answer of {num_tokens} tokens")


def _cleaned(sample: Completion) -> Completion:
    tokens = sample.tokens
    if tokens is not None:
        tokens = tuple(
            Token(clean_text(one.text), one.log_prob, tuple((clean_text(text), value) for text, value in one.top))
            for one in tokens
        )
    return replace(sample, text=clean_text(sample.text), tokens=tokens)


class Backend(Protocol):
    """One protocol of one server. Errors are those of the client library.

    Attributes:
        model: the name that its requests give.
        loads_what_is_named: whether the server loads whatever model a request names (`transformers
            serve`).
    """

    model: str
    loads_what_is_named: bool

    def complete(self, ask: Ask) -> Completions:
        """Return continuations of a text."""
        ...

    def served_models(self) -> Sequence[str]:
        """Return the names of what is served now, empty if the server does not say."""
        ...

    def close(self) -> None:
        """Give up the connections."""
        ...
