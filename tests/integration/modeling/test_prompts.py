"""Prompts as text, and the special tokens around them."""

import pytest
from restmcts.domain.prompts import CODE_CHINESE, CODE_ENGLISH, ENGLISH
from restmcts.domain.requests import ProposeSteps
from restmcts.errors import InputError
from restmcts.modeling.prompt_rendering import PromptFormat, Template, choose_template
from restmcts.modeling.tokenization import TextEncoder
from tokenizers import processors
from transformers import PreTrainedTokenizerFast

CHAT = "{% for m in messages %}[{{ m.role }}]{{ m.content }}{% endfor %}{% if add_generation_prompt %}[assistant]{% endif %}"


def test_the_templates(tokenizer: PreTrainedTokenizerFast) -> None:
    tokenizer.chat_template = CHAT
    steps = ("one\n", "two\n")
    texts = {template: PromptFormat(template, tokenizer).text("why?", steps) for template in Template}
    assert texts[Template.RAW] == "why?\none\ntwo\n"
    assert texts[Template.PLAIN] == "Problem: why?\nSolution:\none\ntwo\n"
    assert texts[Template.CHAT] == f"[user]why?\n\n{ENGLISH.instruction}[assistant]one\ntwo\n"
    assert texts[Template.CODE_EN] == f"[user]why?\n\n{CODE_ENGLISH.instruction}[assistant]one\ntwo\n"
    assert CODE_CHINESE.instruction in texts[Template.CODE_ZH]
    assert all(text.endswith("one\ntwo\n") and "why?" in text for text in texts.values())


def test_a_critic_is_asked_after_the_solution_and_an_analysis_stands_by_the_question(
    tokenizer: PreTrainedTokenizerFast,
) -> None:
    tokenizer.chat_template = CHAT
    critic = ProposeSteps(0, ("one\n",), 1, 1, seed=0, critic="simple")
    step = ProposeSteps(1, ("one\n",), 1, 1, seed=0, begun="tw", analysis="count again")
    plain, chat = (PromptFormat(template, tokenizer) for template in (Template.PLAIN, Template.CHAT))
    assert plain.request_text("why?", critic) == f"Problem: why?\nSolution:\none\n\n{ENGLISH.critics['simple']}\n"
    assert plain.request_text("why?", step) == "Problem: why?\nHint for the next step: count again\nSolution:\none\ntw"
    asked = f"[user]why?\n\nA solution so far:\none\n\n{ENGLISH.critics['simple']}[assistant]"
    assert chat.request_text("why?", critic) == asked
    assert chat.request_text("why?", step).endswith("[assistant]one\ntw")


def test_code_is_asked_for_without_a_chat_too(tokenizer: PreTrainedTokenizerFast) -> None:
    tokenizer.chat_template = None
    text = PromptFormat(Template.CODE_EN, tokenizer).text("Add.", ("```python\n",))
    assert text == "Problem: Add.\nProgram:\n```python\n"


def test_a_longer_partial_solution_extends_the_shorter_ones_text(tokenizer: PreTrainedTokenizerFast) -> None:
    prompts = PromptFormat(Template.PLAIN, tokenizer)
    assert prompts.text("q", ("a\n", "b\n")).startswith(prompts.text("q", ("a\n",)))


def test_steps_stand_in_a_prompt_exactly_as_they_were_written(tokenizer: PreTrainedTokenizerFast) -> None:
    prompts = PromptFormat(Template.RAW, tokenizer, step_separator="\n\n")
    assert prompts.text("q", ("\na \n\n", " b, cut here", " and there\n\n")) == "q\n\na \n\n b, cut here and there\n\n"


def test_auto_takes_the_chat_template_where_there_is_one(tokenizer: PreTrainedTokenizerFast) -> None:
    assert choose_template("auto", tokenizer) == Template.PLAIN
    tokenizer.chat_template = CHAT
    assert choose_template("auto", tokenizer) == Template.CHAT


def test_templates_that_cannot_be_are_bad_input(tokenizer: PreTrainedTokenizerFast) -> None:
    with pytest.raises(InputError, match="choose one of auto, raw, plain, chat, few-shot, steps-en, steps-zh"):
        choose_template("fancy", tokenizer)
    with pytest.raises(InputError, match="has no chat template"):
        choose_template("chat", tokenizer)


def test_a_start_token_leads_and_an_end_token_never_follows_a_prompt(tokenizer: PreTrainedTokenizerFast) -> None:
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="<eos> $A <eos>", special_tokens=[("<eos>", tokenizer.eos_token_id)]
    )
    letters = tokenizer.convert_tokens_to_ids(["a", "b"])
    encoder = TextEncoder(tokenizer, Template.RAW)
    assert encoder.encode(["ab", ""]) == [[tokenizer.eos_token_id, *letters], [tokenizer.eos_token_id]]
    encoded = encoder.encode_with_ends(["ab"])
    assert encoded is not None and encoded[0].ends == [0, 1, 2] and encoded[0].starts == [0, 0, 1]
    assert TextEncoder(tokenizer, Template.CHAT).encode(["ab"]) == [letters]


def test_a_tokenizers_own_limits_do_not_cut_a_question(tokenizer: PreTrainedTokenizerFast) -> None:
    tokenizer.backend_tokenizer.enable_truncation(3)
    tokenizer.backend_tokenizer.enable_padding(length=9)
    assert [len(ids) for ids in TextEncoder(tokenizer, Template.RAW).encode(["abcdef", "ab"])] == [6, 2]
