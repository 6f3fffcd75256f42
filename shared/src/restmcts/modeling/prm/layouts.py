"""The ways in which PRM formats write a question and its steps, and at which token a step's score
is read.

Knows texts and tokens; no weights and no torch. A step's own separator is left out where the format
has a marker in its place.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

from restmcts.domain.requests import STEP_SEPARATOR
from restmcts.errors import ModelError
from restmcts.modeling.prompt_rendering import PromptFormat, Template, choose_template
from restmcts.modeling.tokenization import EncodedText, TextEncoder
from restmcts.modeling.value.readings import Path, Reading, token_places

# A text with the end of each step in it, in characters.
Render = Callable[[str, Sequence[str]], tuple[str, list[int]]]


class Layout(Protocol):
    """What to run and where to read for the values of paths."""

    def readings_of_paths(self, paths: Sequence[Path]) -> Iterator[list[Reading]]:
        """Yield the readings of each path; see `StepReader`."""
        ...


class TextLayout:
    """A format that is one text; scores are read at the last token of each step's end.

    Args:
        shift: of the place of reading, in tokens; -1: at the token before.
    """

    def __init__(self, encoder: TextEncoder, render: Render, shift: int = 0) -> None:
        self._encoder, self._render, self._shift = encoder, render, shift

    def readings_of_paths(self, paths: Sequence[Path]) -> Iterator[list[Reading]]:
        """Yield one reading a path; one a step where tokens do not respect the ends of steps.

        Raises:
            ModelError: if a step's end cannot be found in the tokens at all.
        """
        rendered = [self._render(question, steps) for question, steps, _ in paths]
        for path, (_, ends), encoded in zip(paths, rendered, self._encode([text for text, _ in rendered]), strict=True):
            numbers = list(range(path[2], len(path[1]) + 1))
            reading = self._reading(encoded, [ends[number - 1] for number in numbers], numbers)
            yield [reading] if reading else [self._prefix(path, number) for number in numbers]

    def _prefix(self, path: Path, number: int) -> Reading:
        text, ends = self._render(path[0], path[1][:number])
        (encoded,) = self._encode([text])
        reading = self._reading(encoded, ends[-1:], [number])
        if reading is None:
            raise ModelError(
                "the tokenizer joins the end of a step with what follows it; is the format the model's own?"
            )
        return reading

    def _reading(self, encoded: EncodedText, ends: list[int], numbers: list[int]) -> Reading | None:
        places = token_places(encoded, ends)
        return (
            None if places is None else Reading(encoded.token_ids, [place + self._shift for place in places], numbers)
        )

    def _encode(self, texts: Sequence[str]) -> list[EncodedText]:
        encoded = self._encoder.encode_with_ends(texts)
        if encoded is None:
            raise ModelError("this PRM format needs a fast tokenizer (tokenizer.json); convert the model's tokenizer")
        return encoded


class TokenLayout:
    """A format whose pieces are encoded one by one: a beginning, then each step, read at its
    last token.
    """

    def __init__(self, begin: Callable[[str], list[int]], step: Callable[[str], list[int]]) -> None:
        self._begin, self._step = begin, step

    def readings_of_paths(self, paths: Sequence[Path]) -> Iterator[list[Reading]]:
        """Yield one reading a path."""
        for question, steps, first in paths:
            ids, ends = self._begin(question), []
            for step in steps:
                ids = ids + self._step(step)
                ends.append(len(ids) - 1)
            yield [Reading(ids, ends[first - 1 :], list(range(first, len(steps) + 1)))]


def bare(step: str) -> str:
    """Return a step without its separator."""
    return step.strip()


def continued(tokenizer: Any, begin: Callable[[str], str]) -> TextLayout:
    """What the policy would go on from: a beginning with the question, then the steps as they
    are, each with its separator.
    """

    def render(question: str, steps: Sequence[str]) -> tuple[str, list[int]]:
        text, ends = begin(question), []
        for step in steps:
            text += step if step.endswith(STEP_SEPARATOR) else step + STEP_SEPARATOR
            ends.append(len(text))
        return text, ends

    return TextLayout(TextEncoder(tokenizer, Template.PLAIN), render)


def prompted(tokenizer: Any) -> TextLayout:
    """The same by our own prompt template that suits the tokenizer."""
    prompts = PromptFormat(choose_template("auto", tokenizer), tokenizer)
    layout = continued(tokenizer, prompts.question_text)
    return TextLayout(TextEncoder(tokenizer, prompts.template), layout._render)


def token_ids(tokenizer: Any, text: str) -> list[int]:
    """Return a text's tokens, none added."""
    return list(tokenizer(text, add_special_tokens=False)["input_ids"])


def chat_text(tokenizer: Any, turns: list[dict[str, str]]) -> str:
    """Return a conversation in the model's own template.

    Raises:
        ModelError: if it has none.
    """
    if not tokenizer.chat_template:
        raise ModelError(
            "this PRM format needs the model's chat template, and its tokenizer has none; fetch the model again"
        )
    return str(tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=False))
