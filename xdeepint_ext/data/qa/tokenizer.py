"""`BytePairTokenizer`: RoBERTa's byte-level BPE, with the characters that each token covers."""

from __future__ import annotations

import dataclasses
import gzip
import json
import os
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

__all__ = ["BytePairTokenizer", "Tokens"]

START, PAD, END = 0, 1, 2
"""Ids of `<s>`, `<pad>` and `</s>`, RoBERTa's."""

SPECIAL = ("<s>", "<pad>", "</s>", "<unk>", "<mask>")
FILES = ("vocab.json", "merges.txt")
SMALLEST = 256 + len(SPECIAL)


@dataclasses.dataclass(frozen=True)
class Tokens:
    """A text's tokens.

    Args:
      ids: (n,) int32.
      offsets: (n, 2) int32: first character of each token, and one behind its last. The blank before a word belongs to
        no token; the tokens of a character of several bytes all cover that character.
      words: (n, 2) int32: the same of the word that the token is a piece of. A word is a run of letters, of digits or
        of other signs, as GPT-2's pattern cuts them.
    """

    ids: np.ndarray
    offsets: np.ndarray
    words: np.ndarray

    def __len__(self) -> int:
        return len(self.ids)


class BytePairTokenizer:
    """Byte-level BPE as RoBERTa has it: every text has tokens, and no text is changed. Needs the extra `qa`.

    Args:
      vocabulary: token -> id; with `<s>`, `<pad>`, `</s>` as 0, 1, 2.
      merges: pairs of tokens, the most frequent first.

    Raises:
      ImportError: the library `tokenizers` is not installed.
      ValueError: the special tokens have other ids.

    Example:
      >>> tokenizer = BytePairTokenizer.train(["Tom opened the door."], vocab_size=300)  # doctest: +SKIP
      >>> tokens = tokenizer.encode("the door")  # doctest: +SKIP
      >>> tokens.words.tolist()  # doctest: +SKIP
      [[0, 3], [4, 8]]
    """

    def __init__(self, vocabulary: dict[str, int], merges: Iterable[tuple[str, str]]) -> None:
        for id, token in enumerate(SPECIAL[:3]):
            if vocabulary.get(token) != id:
                raise ValueError(
                    f"vocabulary must give {token} the id {id}, as RoBERTa's does, got {vocabulary.get(token)}"
                )
        self._vocabulary, self._merges = dict(vocabulary), [tuple(pair) for pair in merges]
        tokenizers = _library()
        # The special tokens are no "added tokens": "</s>" in a report is four characters, not the end.
        self._tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE(vocab=self._vocabulary, merges=self._merges))
        self._tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
        self._tokenizer.post_processor = tokenizers.processors.ByteLevel(trim_offsets=True)

    @property
    def vocab_size(self) -> int:
        """Ids are below it."""
        return max(self._vocabulary.values()) + 1

    def encode(self, text: str) -> Tokens:
        """The tokens of a text, without special ones."""
        encoding = self._tokenizer.encode(text, add_special_tokens=False)
        offsets = np.array(encoding.offsets, np.int32).reshape(-1, 2)
        return Tokens(np.array(encoding.ids, np.int32), offsets, _words(offsets, encoding.word_ids))

    @classmethod
    def load(cls, directory: str | os.PathLike[str]) -> BytePairTokenizer:
        """Reads `vocab.json` and `merges.txt`, RoBERTa's files, each plain or as `.gz`.

        Raises:
          FileNotFoundError: one of them is missing.
          ValueError: they are no vocabulary and merges.
        """
        vocabulary_text, merges_text = (_read(os.path.join(directory, name)) for name in FILES)
        try:
            vocabulary = json.loads(vocabulary_text)
        except json.JSONDecodeError as error:
            raise ValueError(f"{os.path.join(directory, FILES[0])} is not JSON: {error}") from None
        # Pieces contain neither blanks nor line ends, but signs that str.splitlines takes for line ends.
        lines = [line for line in merges_text.split("\n") if line and not line.startswith("#version")]
        merges = [tuple(line.split(" ")) for line in lines]
        wrong = next((line for line, pair in zip(lines, merges, strict=True) if len(pair) != 2), None)
        if wrong is not None:
            raise ValueError(f"{os.path.join(directory, FILES[1])}: expected two tokens in a line, got {wrong!r}")
        return cls(vocabulary, merges)  # type: ignore[arg-type]

    def save(self, directory: str | os.PathLike[str]) -> None:
        """Writes `vocab.json` and `merges.txt`."""
        os.makedirs(directory, exist_ok=True)
        with open(os.path.join(directory, FILES[0]), "w", encoding="utf-8") as stream:
            json.dump(self._vocabulary, stream, ensure_ascii=False)
        with open(os.path.join(directory, FILES[1]), "w", encoding="utf-8") as stream:
            stream.write("\n".join(["#version: 0.2", *(" ".join(pair) for pair in self._merges), ""]))

    @classmethod
    def train(cls, texts: Iterable[str], vocab_size: int) -> BytePairTokenizer:
        """Learns merges from texts.

        Args:
          texts: to learn from.
          vocab_size: ids at most; at least 261: 256 bytes and 5 special tokens.

        Raises:
          ValueError: vocab_size is too small.
        """
        if vocab_size < SMALLEST:
            raise ValueError(f"vocab_size must be >= {SMALLEST}, got {vocab_size}")
        tokenizers = _library()
        learner = tokenizers.Tokenizer(tokenizers.models.BPE())
        learner.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
        trainer = tokenizers.trainers.BpeTrainer(
            vocab_size=vocab_size,
            special_tokens=list(SPECIAL),
            initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        )
        learner.train_from_iterator(texts, trainer)
        model = json.loads(learner.to_str())["model"]
        # Older versions of the library write a pair as one text.
        pairs = [pair.split(" ") if isinstance(pair, str) else pair for pair in model["merges"]]
        return cls(model["vocab"], [(first, second) for first, second in pairs])


def _words(offsets: np.ndarray, numbers: Sequence[int]) -> np.ndarray:
    """The characters of the word of each token, by the words' numbers, which ascend."""
    if not len(offsets):
        return offsets
    new = np.flatnonzero(np.diff(np.asarray(numbers), prepend=-1))
    lengths = np.diff(new, append=len(offsets))
    words = np.stack([np.minimum.reduceat(offsets[:, 0], new), np.maximum.reduceat(offsets[:, 1], new)], axis=1)
    return np.repeat(words, lengths, axis=0)


def _library() -> Any:
    try:
        import tokenizers
    except ImportError:
        raise ImportError("byte-level BPE needs the library tokenizers: pip install 'xdeepint-ext[qa]'") from None
    return tokenizers


def _read(path: str) -> str:
    if os.path.exists(path):
        with open(path, encoding="utf-8", newline="\n") as stream:
            return stream.read()
    if os.path.exists(f"{path}.gz"):
        with gzip.open(f"{path}.gz", "rt", encoding="utf-8", newline="\n") as stream:
            return stream.read()
    raise FileNotFoundError(f"no tokenizer there: neither {path} nor {path}.gz")
