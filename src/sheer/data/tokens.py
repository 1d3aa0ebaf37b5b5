"""Texts to token ids: one column of text becomes a row of whole numbers an item, padded to one length."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np


def tokenizer_of(text: str) -> Any:
    """The tokenizer that a tokenizer.json describes, cutting and padding nothing; names of special tokens in a text are plain words."""
    import tokenizers

    tokenizer = tokenizers.Tokenizer.from_str(text)
    tokenizer.no_truncation()
    tokenizer.no_padding()
    tokenizer.encode_special_tokens = True
    return tokenizer


def tokenizer_beside(name: str) -> str:
    """The tokenizer.json in the file of this name beside this script."""
    with open(os.path.join(os.path.dirname(os.path.abspath(__file__)), name), encoding="utf-8") as file:
        return file.read()


@dataclass(frozen=True, kw_only=True)
class Text:
    """Token ids of a column of texts; `tokenizer` is the text of its tokenizer.json.

    A text of more than `length` tokens (its special ones counted) loses the last words before the closing special token; a shorter
    one is filled up with `pad` on the right.
    """

    column: str
    tokenizer: str = field(repr=False)
    length: int
    pad: int

    def encode(self, cells: Sequence[str]) -> np.ndarray:
        """int32 (rows, length)."""
        tokenizer = tokenizer_of(self.tokenizer)
        tokenizer.enable_truncation(self.length)
        ids = np.full((len(cells), self.length), self.pad, dtype=np.int32)
        for row, encoding in enumerate(tokenizer.encode_batch(list(cells))):
            ids[row, : len(encoding.ids)] = encoding.ids
        return ids


def token_counts(tokenizer: str, cells: Sequence[str]) -> np.ndarray:
    """How many tokens each text has, special ones counted, int64 (rows,)."""
    return np.array([len(encoding.ids) for encoding in tokenizer_of(tokenizer).encode_batch(list(cells))], dtype=np.int64)
