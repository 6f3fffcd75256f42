"""Texts to token ids and back, in batches. Knows no model and no prompt template.

A fast tokenizer's own Rust object is called directly: the library's wrapper spends more time a row
than a tiny model does.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from restmcts.modeling.prompt_rendering import Template, is_chat

if TYPE_CHECKING:
    import numpy as np

# Represents whatever may follow a prompt.
_WORD = "A"
_BLANKS = "A  B\n\n C.\n"


@dataclass(frozen=True, slots=True)
class EncodedText:
    """Token ids of one text, with the characters each covers: `starts[i]` up to `ends[i]`; an
    added special token covers none.
    """

    token_ids: list[int]
    starts: list[int]
    ends: list[int]


class TextEncoder:
    """A tokenizer with the special tokens that belong around a prompt: none for a chat
    template, which writes its own.
    """

    def __init__(self, tokenizer: Any, template: Template) -> None:
        self._tokenizer = tokenizer
        self._backend = tokenizer.backend_tokenizer if tokenizer.is_fast else None
        if self._backend is not None:
            # A saved tokenizer may carry limits from its training, and they would cut a question in
            # silence.
            self._backend.no_truncation()
            self._backend.no_padding()
        self.prefix, self.suffix = ([], []) if is_chat(template, tokenizer) else _special_tokens_around(tokenizer)
        self._start_token_id = next(
            (i for i in (tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id) if i is not None), 0
        )

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Return each text's ids, led by the tokenizer's own start token; never empty."""
        if self._backend is not None:
            encodings = self._backend.encode_batch_fast(list(texts), add_special_tokens=False)
            rows = [self.prefix + encoding.ids for encoding in encodings]
        else:
            encoded = self._tokenizer(list(texts), add_special_tokens=False, truncation=False)["input_ids"]
            rows = [self.prefix + list(ids) for ids in encoded]
        return [row or [self._start_token_id] for row in rows]

    def encode_prompts(self, texts: Sequence[str]) -> list[list[int]]:
        """Return each text's ids as they are where something is written behind it, which begin
        those of every longer text.
        """
        rows = self.encode(texts)
        open_ends = [place for place, text in enumerate(texts) if _ends_open(text)]
        found = self.encode_prompts_with_ends([texts[place] for place in open_ends]) if open_ends else None
        for place, encoded in zip(open_ends, found or (), strict=False):
            rows[place] = encoded.token_ids
        return rows

    def encode_prompts_with_ends(self, texts: Sequence[str]) -> list[EncodedText] | None:
        """Return the same with character offsets; None if this tokenizer cannot return them.

        A tokenizer may join the blank lines at a text's end that it keeps apart before a word.
        """
        encoded = self.encode_with_ends(texts)
        open_ends = [place for place, text in enumerate(texts) if _ends_open(text)]
        if encoded is None or not open_ends:
            return encoded
        followed = self.encode_with_ends([texts[place] + _WORD for place in open_ends])
        for place, longer in zip(open_ends, followed or (), strict=True):
            count = sum(end <= len(texts[place]) for end in longer.ends)
            if count and longer.ends[count - 1] == len(texts[place]):
                kept = (longer.token_ids, longer.starts, longer.ends)
                encoded[place] = EncodedText(*(values[:count] for values in kept))
        return encoded

    def encode_with_ends(self, texts: Sequence[str]) -> list[EncodedText] | None:
        """Return each text's ids as `encode` does, with character offsets; None if this
        tokenizer cannot return them.
        """
        if self._backend is None:
            return None
        return [self._with_ends(e) for e in self._backend.encode_batch(list(texts), add_special_tokens=False)]

    def _with_ends(self, encoding: Any) -> EncodedText:
        added = [0] * len(self.prefix)
        starts, ends = (list(side) for side in zip(*encoding.offsets, strict=True)) if encoding.ids else ([], [])
        return EncodedText(self.prefix + encoding.ids, added + starts, added + ends)


class TextDecoder:
    """Turns generated token ids into text, and says which tokens hold a given piece of text."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer

    def decode(self, rows: Sequence[Sequence[int]]) -> list[str]:
        """Return each row's text, special tokens left out."""
        decoded = self._tokenizer.batch_decode(rows, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        return list(decoded)

    def keeps_text(self) -> bool:
        """Return whether a text comes back from its token ids as it was, all blanks included."""
        ids = self._tokenizer(_BLANKS, add_special_tokens=False)["input_ids"]
        return self.decode([list(ids)]) == [_BLANKS]

    def tokens_with(self, piece: str, vocabulary_size: int) -> "np.ndarray[Any, np.dtype[np.bool_]]":
        """Return a `[vocabulary_size]` mask of the tokens whose own text contains `piece`."""
        import numpy as np

        num_known = min(len(self._tokenizer), vocabulary_size)
        mask = np.zeros(vocabulary_size, dtype=np.bool_)
        mask[:num_known] = [piece in text for text in self.decode([[token_id] for token_id in range(num_known)])]
        return mask


def _ends_open(text: str) -> bool:
    return len(text) > 1 and text[-2:].isspace()


def _special_tokens_around(tokenizer: Any) -> tuple[list[int], list[int]]:
    # Asked of the tokenizer by example: its class does not say what its post-processor adds.
    bare = list(tokenizer("a", add_special_tokens=False)["input_ids"])
    whole = list(tokenizer("a", add_special_tokens=True)["input_ids"])
    for place in range(len(whole) - len(bare) + 1):
        if whole[place : place + len(bare)] == bare:
            return whole[:place], whole[place + len(bare) :]
    return [], []
