"""How each PRM format writes a question and its steps, and at which token a step's score is read.

Knows texts and tokens; no weights. A step's own separator is left out where the format has a marker
in its place. Sources: the models' cards and their authors' inference code, as told in each
function.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

from restmcts.domain.requests import STEP_SEPARATOR
from restmcts.errors import ModelError
from restmcts.modeling.prompt_rendering import PromptFormat, Template, choose_template
from restmcts.modeling.tokenization import EncodedText, TextEncoder
from restmcts.modeling.value.value_reading import Path, Reading, token_places

_QWEN_SYSTEM = "Please reason step by step, and put your final answer within \\boxed{}."
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
            ModelError: if a step's end cannot be told in tokens at all.
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


def tagged(tokenizer: Any, marker: str, between: str) -> TextLayout:
    """Question, blank, steps with the marker behind each (Math-Shepherd: " ки" and a newline;
    Math-psa: " " and five newlines).
    """

    def render(question: str, steps: Sequence[str]) -> tuple[str, list[int]]:
        text, ends = f"{question} ", []
        for place, step in enumerate(steps):
            text += (between if place else "") + bare(step) + marker
            ends.append(len(text))
        return text, ends

    return TextLayout(TextEncoder(tokenizer, Template.PLAIN), render)


def math_shepherd(tokenizer: Any) -> TextLayout:
    """Tagged with " ки", a step a line."""
    return tagged(tokenizer, " ки", between="\n")


def math_psa(tokenizer: Any) -> TextLayout:
    """Tagged with a blank and five newlines."""
    return tagged(tokenizer, " \n\n\n\n\n", between=" ")


def rlhflow(tokenizer: Any) -> TextLayout:
    """A conversation: the user writes a step (the first one behind the question), the assistant
    "+"; read before each "+".
    """

    def render(question: str, steps: Sequence[str]) -> tuple[str, list[int]]:
        turns: list[dict[str, str]] = []
        ends = []
        for place, step in enumerate(steps):
            content = f"{question} {bare(step)}" if place == 0 else bare(step)
            turns += [{"role": "user", "content": content}, {"role": "assistant", "content": "+"}]
            ends.append(_chat(tokenizer, turns).rindex("+") + 1)
        return _chat(tokenizer, turns), ends

    return TextLayout(TextEncoder(tokenizer, Template.CHAT), render, shift=-1)


def qwen_math_prm(tokenizer: Any) -> TextLayout:
    """A conversation: the system's instruction, the question, and the steps with <extra_0>
    behind each.
    """

    def render(question: str, steps: Sequence[str]) -> tuple[str, list[int]]:
        marker = "<extra_0>"
        answer = "".join(bare(step) + marker for step in steps)
        turns = [
            {"role": "system", "content": _QWEN_SYSTEM},
            {"role": "user", "content": question},
            {"role": "assistant", "content": answer},
        ]
        text = _chat(tokenizer, turns)
        end, ends = text.rindex(answer), []
        for step in steps:
            end += len(bare(step)) + len(marker)
            ends.append(end)
        return text, ends

    return TextLayout(TextEncoder(tokenizer, Template.CHAT), render)


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


def trl(tokenizer: Any, separator: str) -> TokenLayout:
    """Start token, prompt, then steps with the separator behind each, all encoded on their own
    (trl's PRMTrainer.tokenize_row).
    """
    start = [] if tokenizer.bos_token_id is None else [tokenizer.bos_token_id]
    ends = _ids(tokenizer, separator)
    return TokenLayout(
        lambda question: start + _ids(tokenizer, question), lambda step: _ids(tokenizer, bare(step)) + ends
    )


def skywork(tokenizer: Any) -> TokenLayout:
    """Start token and problem and newline, then each step encoded on its own with a newline's
    token behind it.
    """
    newline = _ids(tokenizer, "\n")[-1:]
    begin = tokenizer.bos_token or ""
    return TokenLayout(
        lambda question: _ids(tokenizer, f"{begin}{question}\n"), lambda step: _ids(tokenizer, bare(step)) + newline
    )


def _ids(tokenizer: Any, text: str) -> list[int]:
    return list(tokenizer(text, add_special_tokens=False)["input_ids"])


def _chat(tokenizer: Any, turns: list[dict[str, str]]) -> str:
    if not tokenizer.chat_template:
        raise ModelError(
            "this PRM format needs the model's chat template, and its tokenizer has none; fetch the model again"
        )
    return str(tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=False))
