"""A policy's prompts without its weights: for whoever has them elsewhere."""

from pathlib import Path
from typing import Any

from transformers import AutoTokenizer

from restmcts.errors import ModelError
from restmcts.modeling.checkpoints import (
    broken_is_model_error,
    checkpoint_kind,
    locate,
    prompt_format,
    quiet_library,
    read_info,
)
from restmcts.modeling.policy.puzzle_policies import fresh_policy
from restmcts.modeling.prompt_rendering import PromptFormat


def load_prompts(
    path_or_id: str | Path, *, template: str = "auto", trust_remote_code: bool = False
) -> tuple[Any, PromptFormat]:
    """Return a policy's tokenizer and how its prompts are written, without its weights; arguments
    as for `load_policy`.

    Raises:
        ModelError: if it is not there, is broken, is not a policy, or is made where it is used (a
            puzzle's).
        InputError: if there is no such template.
    """
    if fresh_policy(str(path_or_id)) is not None:
        raise ModelError(f"{path_or_id}: a puzzle's own small model, which the engine transformers alone runs")
    name = locate(path_or_id)
    if checkpoint_kind(name, trust_remote_code=trust_remote_code) != "policy":
        raise ModelError(f"{name}: a value model where a policy is wanted; give the other checkpoint")
    with broken_is_model_error(path_or_id), quiet_library():
        tokenizer = AutoTokenizer.from_pretrained(name, trust_remote_code=trust_remote_code)
    return tokenizer, prompt_format(read_info(name), template, tokenizer)
