"""Models in GGUF files, made into folders like any other. Knows where no file comes from."""

from contextlib import redirect_stderr
from io import StringIO
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from restmcts.modeling.checkpoints import broken_is_model_error, quiet_library


def convert_gguf(file: Path, folder: Path) -> None:
    """Write what a GGUF file represents as a folder of the library's own files, in bfloat16.

    Raises:
        ModelError: if the file contains no causal language model.
    """
    with broken_is_model_error(file), quiet_library(), redirect_stderr(StringIO()):
        # Only a bar on the error stream, which the library cannot be asked to leave out.
        options = {"gguf_file": file.name}
        model = AutoModelForCausalLM.from_pretrained(file.parent, dtype=torch.bfloat16, **options)
        tokenizer = AutoTokenizer.from_pretrained(file.parent, **options)
        # A fresh model of the same shape: the one that was read calls itself quantised.
        config = model.config
        if hasattr(config, "quantization_config"):
            del config.quantization_config
        plain = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
        plain.load_state_dict(model.state_dict())
        plain.tie_weights()
        plain.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
