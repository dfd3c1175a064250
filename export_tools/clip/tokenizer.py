"""Prompts to token ids, by the ``tokenizers`` library."""

from __future__ import annotations

import gzip
import html
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers

from edge_sdk.errors import InputError

START, END = "<|startoftext|>", "<|endoftext|>"
_WORDS = r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"
_END_OF_WORD = "</w>"


class PromptTokenizer:
    """Texts to padded rows of ids.

    Args:
        tokenizer: with CLIP's start and end marks as its two highest ids.
        context_length: tokens in a prompt, marks and padding included.
        vocab_size: rows of the tower's token table.
        source: where it comes from, for messages.

    Raises:
        InputError: the tokenizer is made for another tower.
    """

    def __init__(
        self, tokenizer: Tokenizer, *, context_length: int, vocab_size: int, source: str
    ) -> None:
        self._tokenizer = tokenizer
        self._context_length = context_length
        marks = tokenizer.token_to_id(START), tokenizer.token_to_id(END)
        size = tokenizer.get_vocab_size(with_added_tokens=True)
        if size != vocab_size or marks != (vocab_size - 2, vocab_size - 1):
            raise InputError(
                f"{source}: expected {vocab_size} tokens, {START} and {END} the last two, "
                f"got {size} tokens with {START} at {marks[0]} and {END} at {marks[1]}"
            )
        self._start, self._end = marks
        tokenizer.no_padding()
        tokenizer.no_truncation()

    def encode(self, texts: Sequence[str]) -> NDArray[np.int32]:
        """Encode prompts.

        Returns:
            (n, context) int32: start, text, end, zeros.

        Raises:
            InputError: a prompt is too long.
        """
        rows = np.zeros((len(texts), self._context_length), np.int32)
        for row, text in zip(rows, texts, strict=True):
            # HTML marks are resolved twice, as CLIP's own tokenizer does.
            clean = " ".join(html.unescape(html.unescape(text)).split())
            words = self._tokenizer.encode(clean, add_special_tokens=False).ids
            ids = [self._start, *words, self._end]
            if len(ids) > self._context_length:
                raise InputError(
                    f"prompt {text!r}: expected at most {self._context_length} tokens, "
                    f"got {len(ids)}"
                )
            row[: len(ids)] = ids
        return rows


def load_tokenizer(path: Path, *, context_length: int, vocab_size: int) -> PromptTokenizer:
    """Read a ``tokenizer.json``.

    Raises:
        InputError: it cannot be read, or is made for another tower.
    """
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises bare Exception for every defect of a file
        raise InputError(f"{path}: expected a tokenizer.json, cannot be read: {error}") from error
    return PromptTokenizer(
        tokenizer, context_length=context_length, vocab_size=vocab_size, source=str(path)
    )


def build_clip_tokenizer(*, context_length: int = 77, vocab_size: int = 49408) -> PromptTokenizer:
    """CLIP's own tokenizer, from the merges that come with this package.

    Raises:
        InputError: the tower has another vocabulary.
    """
    packed = (files("export_tools.clip") / "data" / "merges.txt.gz").read_bytes()
    lines = gzip.decompress(packed).decode().splitlines()
    merges = [(left, right) for left, _, right in (line.partition(" ") for line in lines)]
    letters = _byte_letters()
    words = [*letters, *(letter + _END_OF_WORD for letter in letters)]
    words += [left + right for left, right in merges] + [START, END]
    tokenizer = Tokenizer(
        models.BPE(
            vocab={word: index for index, word in enumerate(words)},
            merges=merges,
            end_of_word_suffix=_END_OF_WORD,
            continuing_subword_prefix="",
            unk_token=END,
        )
    )
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Lowercase()])
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_WORDS), behavior="removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    return PromptTokenizer(
        tokenizer,
        context_length=context_length,
        vocab_size=vocab_size,
        source="the tokenizer that comes along",
    )


def _byte_letters() -> list[str]:
    """A visible letter for each byte, in the order of CLIP's vocabulary.

    Bytes that are visible in Latin-1 stand for themselves, the other 68 for U+0100 and on.
    """
    visible = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    hidden = [byte for byte in range(256) if byte not in visible]
    return [chr(byte) for byte in visible] + [chr(256 + index) for index in range(len(hidden))]
