"""How texts are written for the formats that inference servers score
(restmcts.modeling.prm.formats): a tokenizer, no weights.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from transformers import AutoTokenizer

from restmcts.domain.requests import STEP_SEPARATOR
from restmcts.modeling import checkpoints
from restmcts.modeling.prm import layouts
from restmcts.modeling.prm.formats import ModelReference

_Make = Callable[[Any, str], layouts.Layout]
_LAYOUTS: dict[str, _Make] = {
    "qwen-math-prm": lambda tokenizer, _: layouts.qwen_math_prm(tokenizer),
    "trl": layouts.trl,
    "math-shepherd": lambda tokenizer, _: layouts.math_shepherd(tokenizer),
    "math-psa": lambda tokenizer, _: layouts.math_psa(tokenizer),
    "rlhflow": lambda tokenizer, _: layouts.rlhflow(tokenizer),
    "orm": lambda tokenizer, _: layouts.prompted(tokenizer),
}


def served_layout(reference: ModelReference, tokenizer: str, *, trust_remote_code: bool = False) -> layouts.Layout:
    """Return how texts are written for a served model, and where its scores are read.

    Args:
        reference: to a scoring server.
        tokenizer: folder or hub id.
        trust_remote_code: run code that comes with the tokenizer.

    Raises:
        ModelError: if the tokenizer is not there.
    """
    located = tokenizer if Path(tokenizer).is_dir() else checkpoints.locate(tokenizer)
    with checkpoints.broken_is_model_error(tokenizer), checkpoints.quiet_library():
        loaded = AutoTokenizer.from_pretrained(located, trust_remote_code=trust_remote_code)
    return _LAYOUTS[str(reference.format)](loaded, reference.separator or STEP_SEPARATOR)
