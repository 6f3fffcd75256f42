"""A tokenizer for small programs: one token per number, per line of code and per mark, so that a
line with its comment is twelve tokens. Knows nothing of any model.
"""

import re

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from restmcts.domain.requests import STEP_SEPARATOR
from restmcts.domain.tasks.small_programs import LARGEST_NUMBER, LAST_LINE, LINES
from restmcts.domain.tasks.small_python import HEAD
from restmcts.modeling.policy.number_paths_tokenizer import END_TOKEN, PAD_TOKEN, UNKNOWN_TOKEN

MODEL_MAX_LENGTH = 128
_MARKS = (HEAD, "f([", "]) ==", "# [", "] ->", "[", "]")


def make_small_programs_tokenizer() -> PreTrainedTokenizerFast:
    """Return the tokenizer; it adds no token of its own, a solution ends with `<eos>`, and
    decoding gives a step's exact text.
    """
    lines = (*LINES, LAST_LINE)
    numbers = [str(number) for number in range(LARGEST_NUMBER + 1)]
    tokens = [PAD_TOKEN, END_TOKEN, UNKNOWN_TOKEN, STEP_SEPARATOR, *_MARKS, *lines, *numbers]
    tokenizer = Tokenizer(
        models.WordLevel({token: index for index, token in enumerate(tokens)}, unk_token=UNKNOWN_TOKEN)
    )
    known = "|".join(map(re.escape, sorted((*lines, *_MARKS, STEP_SEPARATOR), key=len, reverse=True)))
    # What is between two tokens is dropped; what is none is unknown.
    tokenizer.pre_tokenizer = pre_tokenizers.Split(
        Regex(rf"{known}|[0-9]+|[^\s,\[\]]+"), behavior="removed", invert=True
    )
    tokenizer.decoder = decoders.Sequence(
        [
            # With a prefix that no token has, this one puts a space before every token but the
            # first.
            decoders.WordPiece(prefix="##", cleanup=False),
            decoders.Fuse(),
            decoders.Replace(Regex(" ?\n ?"), STEP_SEPARATOR),
            decoders.Replace(Regex(r"(?<=[0-9]) (?=[0-9])"), ", "),
            decoders.Replace(Regex(r"(?<=\[) "), ""),
            decoders.Replace(Regex(r" (?=\])"), ""),
        ]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=PAD_TOKEN,
        eos_token=END_TOKEN,
        unk_token=UNKNOWN_TOKEN,
        model_max_length=MODEL_MAX_LENGTH,
        clean_up_tokenization_spaces=False,
    )
