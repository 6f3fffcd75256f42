"""A tokenizer for arithmetic word problems: one token per number, word and mark. Knows nothing
of any model.
"""

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from restmcts.domain.requests import STEP_SEPARATOR
from restmcts.domain.tasks.word_problems import LARGEST_NUMBER, all_words
from restmcts.modeling.policy.number_paths_tokenizer import END_TOKEN, PAD_TOKEN, UNKNOWN_TOKEN

MODEL_MAX_LENGTH = 256


def make_word_problems_tokenizer() -> PreTrainedTokenizerFast:
    """Return the tokenizer; it adds no token of its own, a solution ends with `<eos>`, and
    decoding gives a step's exact text.
    """
    numbers = [str(number) for number in range(LARGEST_NUMBER + 1)]
    tokens = [PAD_TOKEN, END_TOKEN, UNKNOWN_TOKEN, STEP_SEPARATOR, *all_words(), *numbers]
    tokenizer = Tokenizer(
        models.WordLevel({token: index for index, token in enumerate(tokens)}, unk_token=UNKNOWN_TOKEN)
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex("[\n.?]"), behavior="isolated"),
            pre_tokenizers.Split(Regex(" +"), behavior="removed"),
        ]
    )
    tokenizer.decoder = decoders.Sequence(
        [
            # With a prefix that no token has, this one puts a space before every token but the
            # first.
            decoders.WordPiece(prefix="##", cleanup=False),
            decoders.Fuse(),
            decoders.Replace(Regex(" ?\n ?"), STEP_SEPARATOR),
            decoders.Replace(Regex(r" (?=[.?])"), ""),
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
