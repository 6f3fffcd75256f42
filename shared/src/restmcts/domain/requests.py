"""What a search asks of the models and what they answer: the wire between pure search code and
everything that has weights.

Requests are numbered from 0 within one tree. A partial solution is a tuple of steps; every step is
one text, exactly as it was written, that ends with the step separator (a newline or a blank line)
unless it ends the solution or was cut: joined, the steps are the solution's text. Nothing here
knows true answers.
"""

import hashlib
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal, get_args

from restmcts.domain.prompts import TEMPLATE_NAMES, Critic
from restmcts.domain.ranges import AtLeastOne, Positive, PositiveShare, check_ranges
from restmcts.errors import InputError

STEP_SEPARATOR = "\n"
StepSeparator = Literal["auto", "newline", "blank-line", "numbered-step", "sentence", "tokens"]
SEPARATORS = MappingProxyType({"newline": STEP_SEPARATOR, "blank-line": "\n\n"})
"""The separators among `restmcts.domain.segmenters.SEGMENTERS`, by their names."""


@dataclass(frozen=True, slots=True)
class GenerationSettings:
    """How a policy generates; equal for all requests of one batch.

    Attributes:
        temperature: softmax temperature of sampling (greedy requests, as those of the search
            "cot", ignore it).
        top_p: mass of the most probable tokens that sampling keeps (nucleus sampling).
        max_step_tokens: new tokens of one step at most.
        max_solution_tokens: new tokens of one request at most, over all its steps.
        template: how questions are written, one of restmcts.domain.prompts.TEMPLATE_NAMES.
        step_separator: what ends a step: "newline" or "blank-line", which are part of it; the next
            "Step N" ("numbered-step"); the end of a "sentence" or line; "tokens": `max_step_tokens`
            alone; "auto": what the checkpoint says, else what the model is seen to write.
        split_thoughts: divide what is between <think> and </think> like any other text; else a
            thought is one step, however long.
    """

    temperature: Positive = 0.7
    top_p: PositiveShare = 1.0
    max_step_tokens: AtLeastOne = 256
    max_solution_tokens: AtLeastOne = 1024
    template: str = "auto"
    step_separator: StepSeparator = "auto"
    split_thoughts: bool = False

    def __post_init__(self) -> None:
        check_ranges(self)
        if self.template not in TEMPLATE_NAMES:
            raise InputError(
                f"no prompt template is called {self.template!r}; choose one of {', '.join(TEMPLATE_NAMES)}"
            )
        if self.step_separator not in get_args(StepSeparator):
            raise InputError(
                f"no step separator is called {self.step_separator!r}; choose one of {', '.join(get_args(StepSeparator))}"
            )


@dataclass(frozen=True, slots=True)
class ProposeSteps:
    """Ask the policy to go on from a partial solution (search -> policy).

    Attributes:
        number: the request's place in its tree, from 0.
        steps: the partial solution p_k, k >= 0 steps.
        num_samples: continuations wanted, each sampled on its own.
        max_steps: steps wanted in each continuation; None: go on until the solution ends.
        seed: of this request's sampling; the same seed and inputs give the same samples.
        greedy: take the most probable token each time instead of sampling.
        begun: the beginning of the next step, given; the first step of every continuation begins
            with it.
        num_alternatives: most probable other tokens wanted at every position
            (restmcts.domain.search.best_first); 0: none.
        min_log_prob: alternatives at or below this log-probability are of no use and may be left
            out; None: all are wanted.
        needs_log_probs: whether the search reads log-probabilities; a policy that cannot return
            them refuses the request.
        critic: ask for that critic's line on the partial solution instead of its next step; None: a
            step is wanted.
        analysis: of an earlier critic, put into the prompt.
    """

    number: int
    steps: tuple[str, ...]
    num_samples: int
    max_steps: int | None
    seed: int
    greedy: bool = False
    begun: str = ""
    num_alternatives: int = 0
    min_log_prob: float | None = None
    needs_log_probs: bool = False
    critic: Critic | None = None
    analysis: str = ""


def max_new_tokens(request: ProposeSteps, settings: GenerationSettings) -> int:
    """Return how many tokens the answer to a request may cost at most."""
    of_steps = (
        settings.max_solution_tokens if request.max_steps is None else request.max_steps * settings.max_step_tokens
    )
    return request.num_samples * min(of_steps, settings.max_solution_tokens)


@dataclass(frozen=True, slots=True)
class Alternative:
    """A token that was not chosen inside a step.

    Attributes:
        begun: the step's text up to and with this token.
        log_prob_before: of the step's generated tokens before it, summed.
        log_prob: of the token itself.
        position: how many of the step's generated tokens are before it.
    """

    begun: str
    log_prob_before: float
    log_prob: float
    position: int


@dataclass(frozen=True, slots=True)
class ProposedStep:
    """One generated step: its text exactly as it was written, new tokens spent on it, their
    summed log-probability under the policy at temperature 1 (that of the end token included
    where the policy gave one), and the alternatives to them if the request wanted any.
    """

    text: str
    num_tokens: int
    log_prob: float
    alternatives: tuple[Alternative, ...] = ()


@dataclass(frozen=True, slots=True)
class Observation(ProposedStep):
    """What a tool answered, as the step after the call. The policy did not write it: it has no
    tokens and no log-probability, and nobody trains on it.
    """


@dataclass(frozen=True, slots=True)
class Sample:
    """One continuation.

    Attributes:
        steps: at most the `max_steps` asked for; empty when the policy ended the solution at once.
        num_tokens: all tokens generated for it, end-of-sequence and discarded ones included.
        ended: whether the policy itself ended the solution after the last step.
    """

    steps: tuple[ProposedStep, ...]
    num_tokens: int
    ended: bool


@dataclass(frozen=True, slots=True)
class StepsProposed:
    """The policy's answer (policy -> search).

    Attributes:
        samples: one per continuation asked for.
        num_prompt_tokens: of the prompt, counted once.
        num_reused_tokens: those of them whose keys and values were kept from earlier; the others
            were prefilled.
    """

    number: int
    samples: tuple[Sample, ...]
    num_prompt_tokens: int
    num_reused_tokens: int = 0


@dataclass(frozen=True, slots=True)
class ScoreSteps:
    """Ask the value model for V of every step of every branch below a partial solution (search ->
    PRM).

    Attributes:
        number: the request's place in its tree, from 0.
        steps: the partial solution that all branches continue.
        branches: B continuations of at least one step each.
        whole: the branches end solutions, and each one's score as a whole is wanted too.
    """

    number: int
    steps: tuple[str, ...]
    branches: tuple[tuple[str, ...], ...]
    whole: bool = False


@dataclass(frozen=True, slots=True)
class StepsScored:
    """The value model's answer (PRM -> search).

    Attributes:
        values: `values[b][i]` in [0, 1] is V of `steps + branches[b][: i + 1]`.
        num_scored_tokens: of the texts that were scored, each branch's once.
        num_reused_tokens: those of them whose keys and values were kept from earlier; the others
            were computed.
        solution_scores: `solution_scores[b]` in [0, 1] is that of the whole solution `steps +
            branches[b]`, made of the values of all its steps as the model's authors do it; empty
            unless asked for.
    """

    number: int
    values: tuple[tuple[float, ...], ...]
    num_scored_tokens: int
    num_reused_tokens: int = 0
    solution_scores: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class CallTool:
    """Ask the task of a problem for the answer of a tool (search -> value labeler).

    Attributes:
        number: the request's place in its tree, from 0.
        steps: a partial solution whose last step is the call.
        kind: of the problem.
        max_chars: characters of the answer that are kept.
    """

    number: int
    steps: tuple[str, ...]
    kind: str
    max_chars: int


@dataclass(frozen=True, slots=True)
class ToolAnswered:
    """A tool's answer (value labeler -> search).

    Attributes:
        text: one line; what a call came to, its errors included.
        is_known: whether it is that; else it is why this machine could not find out.
    """

    number: int
    text: str
    is_known: bool = True


Request = ProposeSteps | ScoreSteps | CallTool
Response = StepsProposed | StepsScored | ToolAnswered


def derive_seed(*parts: object) -> int:
    """Return a 63-bit seed that depends on every part and on their order, equal on every
    machine.
    """
    digest = hashlib.blake2b(repr(parts).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1
