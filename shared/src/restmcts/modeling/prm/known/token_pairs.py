"""Formats of language models whose score is the probability of one token against another's:
Math-Shepherd, Math-psa, RLHFlow. Sources: the models' cards and their authors' inference code.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from restmcts.modeling.prm.format import LEADS, POOLING, PRM_FORMATS, RIGHT, PrmFormat, Scoring
from restmcts.modeling.prm.layouts import Layout, TextLayout, bare, chat_text
from restmcts.modeling.prompt_rendering import Template
from restmcts.modeling.tokenization import TextEncoder

if TYPE_CHECKING:
    from restmcts.modeling.prm.weights import PrmWeights


class _TokenPair(PrmFormat):
    routes = (POOLING,)
    good_class = 0

    def _scoring(self, weights: "PrmWeights", good: int, bad: int) -> Scoring:
        """P(good) of two tokens as the next one."""
        model = weights.causal_model()
        output, pair = model.get_output_embeddings(), [good, bad]
        return Scoring(model, model.base_model, lambda states: output(states)[:, pair].float().softmax(dim=-1)[:, 0])


class _Tagged(_TokenPair):
    """Question, blank, steps with the marker behind each.

    Attributes:
        between: what is between a marker and the next step.
        written: the good and the bad token, as they are written together.
        tag: the marker, or the part of it that must be one token.
    """

    between: str
    written: str
    tag: str

    def layout(self, tokenizer: Any, separator: str) -> Layout:
        """Return one text, read at the markers."""

        def render(question: str, steps: Sequence[str]) -> tuple[str, list[int]]:
            text, ends = f"{question} ", []
            for place, step in enumerate(steps):
                text += (self.between if place else "") + bare(step) + self.marker
                ends.append(len(text))
            return text, ends

        return TextLayout(TextEncoder(tokenizer, Template.PLAIN), render)

    def load(self, weights: "PrmWeights") -> Scoring:
        """Return the language model."""
        good, bad = weights.tokens(self.written, 2)
        weights.tokens(self.tag, 1)
        return self._scoring(weights, good, bad)


class MathShepherd(_Tagged):
    """Tagged with " ки", a step a line."""

    models = "peiyi9979/math-shepherd-mistral-7b-prm"
    meaning = LEADS
    aggregation = "min"
    marker, tag, between, written = " ки", "ки", "\n", "+ -"
    trace = "math-shepherd"


class MathPsa(_Tagged):
    """Tagged with a blank and five newlines."""

    models = "openreasoner/Math-psa"
    meaning = RIGHT
    aggregation = "min"
    marker, tag, between, written = " \n\n\n\n\n", " \n\n\n\n\n", " ", " + -"
    trace = "math-psa"


class RlhFlow(_TokenPair):
    """A conversation: the user writes a step (the first one behind the question), the assistant
    "+"; read before each "+".
    """

    models = "RLHFlow/Llama3.1-8B-PRM-{Mistral,Deepseek}-Data"
    meaning = LEADS
    aggregation = "mean"
    marker = "+"
    trace = "rlhflow"

    def layout(self, tokenizer: Any, separator: str) -> Layout:
        """Return the conversation."""

        def render(question: str, steps: Sequence[str]) -> tuple[str, list[int]]:
            turns: list[dict[str, str]] = []
            ends = []
            for place, step in enumerate(steps):
                content = f"{question} {bare(step)}" if place == 0 else bare(step)
                turns += [{"role": "user", "content": content}, {"role": "assistant", "content": "+"}]
                ends.append(chat_text(tokenizer, turns).rindex("+") + 1)
            return chat_text(tokenizer, turns), ends

        return TextLayout(TextEncoder(tokenizer, Template.CHAT), render, shift=-1)

    def load(self, weights: "PrmWeights") -> Scoring:
        """Return the language model."""
        (good,), (bad,) = weights.tokens("+", 1), weights.tokens("-", 1)
        return self._scoring(weights, good, bad)


PRM_FORMATS.add("math-shepherd", MathShepherd())
PRM_FORMATS.add("math-psa", MathPsa())
PRM_FORMATS.add("rlhflow", RlhFlow())
