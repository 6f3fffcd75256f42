"""Qwen2.5-Math-PRM: a two-layer head at a token of its own. Source: the models' cards."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from restmcts.modeling.prm.folders import ModelFolder
from restmcts.modeling.prm.format import POOLING, PRM_FORMATS, RIGHT, PrmFormat, Scoring
from restmcts.modeling.prm.layouts import Layout, TextLayout, bare, chat_text
from restmcts.modeling.prompt_rendering import Template
from restmcts.modeling.tokenization import TextEncoder

if TYPE_CHECKING:
    from restmcts.modeling.prm.weights import PrmWeights

_SYSTEM = "Please reason step by step, and put your final answer within \\boxed{}."


class QwenMathPrm(PrmFormat):
    """A conversation: the system's instruction, the question, and the steps with <extra_0>
    behind each.
    """

    models = "Qwen/Qwen2.5-Math-PRM-{7B,72B}"
    meaning = RIGHT
    aggregation = "product"
    marker = "<extra_0>"
    routes = (POOLING,)
    good_class = 1

    def shows_in(self, folder: ModelFolder) -> bool:
        """Return whether the architecture is its authors' own."""
        return "Qwen2ForProcessRewardModel" in folder.architectures

    def layout(self, tokenizer: Any, separator: str) -> Layout:
        """Return the conversation."""

        def render(question: str, steps: Sequence[str]) -> tuple[str, list[int]]:
            answer = "".join(bare(step) + self.marker for step in steps)
            turns = [
                {"role": "system", "content": _SYSTEM},
                {"role": "user", "content": question},
                {"role": "assistant", "content": answer},
            ]
            text = chat_text(tokenizer, turns)
            end, ends = text.rindex(answer), []
            for step in steps:
                end += len(bare(step)) + len(self.marker)
                ends.append(end)
            return text, ends

        return TextLayout(TextEncoder(tokenizer, Template.CHAT), render)

    def load(self, weights: "PrmWeights") -> Scoring:
        """Return the trunk with its head."""
        found = weights.named("score.")
        first, second = weights.linear("score.0", found), weights.linear("score.2", found)
        weights.tokens(self.marker, 1)
        trunk = weights.trunk()
        return Scoring(
            trunk, trunk, lambda states: second(first(states.to(first.weight.dtype)).relu()).softmax(dim=-1)[:, 1]
        )


PRM_FORMATS.add("qwen-math-prm", QwenMathPrm())
