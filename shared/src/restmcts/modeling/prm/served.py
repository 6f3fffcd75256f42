"""How texts are written for the formats that inference servers score: a tokenizer, no weights."""

from pathlib import Path

from transformers import AutoTokenizer

from restmcts.domain.requests import STEP_SEPARATOR
from restmcts.modeling import checkpoints
from restmcts.modeling.prm.format import PRM_FORMATS
from restmcts.modeling.prm.layouts import Layout
from restmcts.modeling.prm.reference import ModelReference


def served_layout(reference: ModelReference, tokenizer: str, *, trust_remote_code: bool = False) -> Layout:
    """Return how texts are written for a served model, and where its scores are read.

    Args:
        reference: to a scoring server.
        tokenizer: folder or hub id.
        trust_remote_code: run code that comes with the tokenizer.

    Raises:
        ModelError: if the tokenizer is not there, or cannot write the format.
    """
    located = tokenizer if Path(tokenizer).is_dir() else checkpoints.locate(tokenizer)
    with checkpoints.broken_is_model_error(tokenizer), checkpoints.quiet_library():
        loaded = AutoTokenizer.from_pretrained(located, trust_remote_code=trust_remote_code)
    return PRM_FORMATS.get(str(reference.format)).layout(loaded, reference.separator or STEP_SEPARATOR)
