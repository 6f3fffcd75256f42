"""A tokenizer for number paths: one token per number, per move and per word, so that a move line is
five tokens.

The prompt's `*2` and a step's `* 2` are one token; decoding distinguishes them by the `=` that
follows only in a step. Knows the written form of the puzzle and nothing of any model.
"""

from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from restmcts.domain.requests import STEP_SEPARATOR
from restmcts.domain.tasks.number_paths import ANSWER_WORDS, LARGEST_NUMBER, MOVE_POOL

PAD_TOKEN = "<pad>"
END_TOKEN = "<eos>"
UNKNOWN_TOKEN = "<unk>"
MODEL_MAX_LENGTH = 128
_WORDS = ("Start:", "Target:", "Moves:", "=", ANSWER_WORDS, STEP_SEPARATOR)


def make_number_paths_tokenizer() -> PreTrainedTokenizerFast:
    """Return the tokenizer; it adds no token of its own, and the end of a solution is `<eos>`.

    A prompt (question and newline) is 9 tokens, a move line 5, the answer line 3. Encoding what it
    decoded gives the same tokens for any of them but `<unk>`, and decoding a step gives the step's
    exact text.
    """
    tokenizer = Tokenizer(models.WordLevel(_vocabulary(), unk_token=UNKNOWN_TOKEN))
    tokenizer.normalizer = normalizers.Replace(Regex(r"(?<=[-+*]) +(?=[0-9])"), "")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(STEP_SEPARATOR, behavior="isolated"),
            # The spaces inside the answer's words belong to their one token.
            pre_tokenizers.Split(Regex(r"(?<!\bThe)(?<!\bThe answer) +"), behavior="removed"),
        ]
    )
    tokenizer.decoder = _decoder()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=PAD_TOKEN,
        eos_token=END_TOKEN,
        unk_token=UNKNOWN_TOKEN,
        model_max_length=MODEL_MAX_LENGTH,
        clean_up_tokenization_spaces=False,
    )


def _vocabulary() -> dict[str, int]:
    numbers = [str(number) for number in range(LARGEST_NUMBER + 1)]
    moves = [str(move) for move in MOVE_POOL]
    tokens = [PAD_TOKEN, END_TOKEN, UNKNOWN_TOKEN, *_WORDS, *moves, *numbers]
    return {token: index for index, token in enumerate(tokens)}


def _decoder() -> decoders.Decoder:
    return decoders.Sequence(
        [
            # With a prefix that no token has, this one puts a space before every token but the
            # first.
            decoders.WordPiece(prefix="##", cleanup=False),
            decoders.Fuse(),
            decoders.Replace(Regex(" ?\n ?"), STEP_SEPARATOR),
            decoders.Replace(Regex(r"(?<=[-+*])(?=[0-9]+ =)"), " "),
            decoders.Replace(Regex(" (?=Target:|Moves:)"), "  "),
        ]
    )
