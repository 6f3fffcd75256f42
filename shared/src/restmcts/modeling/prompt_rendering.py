"""How a question and a partial solution become text; the same function serves training and
querying.

Knows no torch and no token ids. A prompt is the rendered question followed by the steps written so
far, exactly as they were written, so a longer partial solution's text always extends a shorter
one's.
"""

from collections.abc import Sequence
from enum import StrEnum
from functools import lru_cache
from typing import Any, Protocol

from restmcts.domain.prompts import TEMPLATES, PromptTemplate
from restmcts.domain.requests import STEP_SEPARATOR, ProposeSteps
from restmcts.errors import InputError

# Rendering a chat template costs as much as a small model's forward pass, and a tree asks for one
# question many times.
_RENDERED_QUESTIONS_KEPT = 4096


class Template(StrEnum):
    """The ways to write a question: those of restmcts.domain.prompts, and the tokenizer's own
    chat template.
    """

    RAW = "raw"
    PLAIN = "plain"
    CHAT = "chat"
    FEW_SHOT = "few-shot"
    STEPS_EN = "steps-en"
    STEPS_ZH = "steps-zh"
    CODE_EN = "code-en"
    CODE_ZH = "code-zh"


class ChatTokenizer(Protocol):
    """The two parts of a tokenizer that a chat prompt needs."""

    chat_template: Any

    def apply_chat_template(self, conversation: list[dict[str, str]], **options: Any) -> Any:
        """Return the conversation as text."""
        ...


def choose_template(name: str, tokenizer: ChatTokenizer) -> Template:
    """Return the template called `name`; "auto" is the chat template where the tokenizer has one,
    else "plain".

    Raises:
        InputError: if there is no such template, or the chat template is wanted of a tokenizer
            without one.
    """
    has_chat = bool(getattr(tokenizer, "chat_template", None))
    if name == "auto":
        return Template.CHAT if has_chat else Template.PLAIN
    if name not in list(Template):
        raise InputError(f"no prompt template is called {name!r}; choose one of auto, {', '.join(Template)}")
    if name == Template.CHAT and not has_chat:
        raise InputError("the tokenizer has no chat template; choose the prompt template plain or raw")
    return Template(name)


def is_chat(template: Template, tokenizer: ChatTokenizer) -> bool:
    """Return whether a template is written by the tokenizer's chat template: those of code are,
    where it has one.
    """
    has_chat = bool(getattr(tokenizer, "chat_template", None))
    return template == Template.CHAT or (has_chat and TEMPLATES[template].is_code)


class PromptFormat:
    """One template with one tokenizer and one step separator; None: whatever the model is seen
    to write.
    """

    def __init__(
        self, template: Template, tokenizer: ChatTokenizer, step_separator: str | None = STEP_SEPARATOR
    ) -> None:
        self.template = template
        self.step_separator = step_separator
        self._tokenizer = tokenizer
        self._rendered = lru_cache(maxsize=_RENDERED_QUESTIONS_KEPT)(self._render)

    def question_text(self, question: str) -> str:
        """Return the text that comes before the first step."""
        return self._rendered(question)

    def text(self, question: str, steps: Sequence[str]) -> str:
        """Return the whole prompt for the next step after `steps`."""
        return self.question_text(question) + "".join(steps)

    def request_text(self, question: str, request: ProposeSteps) -> str:
        """Return the whole prompt of a request: for a step, or for a critic's line."""
        if request.critic is None:
            return self.text(self._pattern.wording.with_hint(question, request.analysis), request.steps) + request.begun
        if self._is_chat:
            return self._chat(
                self._pattern.chat_messages(question, "".join(request.steps), request.critic, request.analysis)
            )
        return (
            f"{self.text(question, request.steps)}\n{self._pattern.wording.asked(request.critic, request.analysis)}\n"
        )

    @property
    def is_code(self) -> bool:
        """Whether solutions are programs."""
        return self._pattern.is_code

    @property
    def _is_chat(self) -> bool:
        return is_chat(self.template, self._tokenizer)

    @property
    def _pattern(self) -> PromptTemplate:
        return TEMPLATES["plain" if self.template == Template.CHAT else self.template]

    def _render(self, question: str) -> str:
        if self._is_chat:
            return self._chat(self._pattern.chat_messages(question))
        return self._pattern.question_text(question)

    def _chat(self, messages: list[dict[str, str]]) -> str:
        return str(self._tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True))
