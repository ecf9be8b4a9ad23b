"""The questions of a run of `experiments.mseqa`, as windows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import tensorflow as tf

from xdeepint_ext.data.epochs import steps_per_epoch
from xdeepint_ext.data.manifest import Manifest, Shard
from xdeepint_ext.data.memory import batches
from xdeepint_ext.data.qa.questions import Question
from xdeepint_ext.data.qa.records import SCHEMA, load_questions
from xdeepint_ext.data.qa.reports import generate_reports
from xdeepint_ext.data.qa.tokenizer import PAD, BytePairTokenizer
from xdeepint_ext.data.qa.windows import Windows, make_windows
from xdeepint_ext.data.shares import BatchShare
from xdeepint_ext.experiments.mseqa_config import MseqaConfig
from xdeepint_ext.layers.tagging import find_scheme

__all__ = ["MseqaData", "manifest_of"]


class MseqaData:
    """Questions of all splits, the tokeniser, and the training windows.

    Args:
      config: of the run.

    Attributes:
      manifest: what the data are.
      questions: split -> questions.
      tokenizer: of the model.
      steps_per_epoch: batches of the training windows.

    Raises:
      DataError: data_dir holds no questions, or a question is wrong.
    """

    def __init__(self, config: MseqaConfig) -> None:
        self._config = config
        self.manifest, self.questions = _load(config)
        self.tokenizer = _tokenizer(config, self.questions["train"])
        self._windows: dict[str, Windows] = {}
        self.steps_per_epoch = steps_per_epoch(len(self.windows("train")), config.batch_size)

    def windows(self, split: str) -> Windows:
        """The windows of a split."""
        if split not in self._windows:
            config = self._config
            self._windows[split] = make_windows(
                self.questions[split],
                self.tokenizer,
                find_scheme(config.scheme),
                max_length=config.max_length,
                overlap=config.overlap,
                max_taggings=config.max_taggings,
            )
        return self._windows[split]

    def train(self, start_step: int, worker: tf.distribute.InputContext | None = None) -> tf.data.Dataset:
        """Batches of training windows without end, from a step on; their order depends on the seed only.

        They are as long as the longest window of the batch; with XLA, which compiles each length anew, of all.
        """
        windows, config = self.windows("train"), self._config
        order = {"shuffle": True, "epochs": None, "seed": config.seed, "start_step": start_step}
        share = BatchShare.of_worker(worker)
        found = batches((windows.features, windows.labels), config.batch_size, share=share, **order)  # type: ignore[arg-type]
        return found if config.jit_compile else found.map(_shortened)

    @property
    def trained_on(self) -> dict[str, int]:
        """Source -> its training questions."""
        found: dict[str, int] = {}
        for question in self.questions["train"]:
            found[question.source] = found.get(question.source, 0) + 1
        return found


def _shortened(features: dict[str, tf.Tensor], labels: dict[str, tf.Tensor]) -> tuple[Any, Any]:
    """A batch without the columns that are padding in all its windows."""
    ids = features["token_ids"]
    lengths = tf.reduce_sum(tf.cast(ids != PAD, tf.int32), axis=1)
    length = tf.reduce_max(tf.concat([lengths, [1]], axis=0))  # a replica's part of a batch may hold no window
    return {"token_ids": ids[:, :length]}, {**labels, "taggings": labels["taggings"][..., :length]}


def manifest_of(config: MseqaConfig) -> Manifest:
    """What the data of a run are."""
    if config.data_dir:
        return Manifest.load(config.data_dir)
    sizes = {"train": config.reports, "valid": config.test_reports, "test": config.test_reports}
    shards = {split: [Shard("generated", size, 0)] for split, size in sizes.items()}
    return Manifest("generated reports", shards, {}, SCHEMA)


def _load(config: MseqaConfig) -> tuple[Manifest, Mapping[str, Sequence[Question]]]:
    manifest = manifest_of(config)
    if config.data_dir:
        return manifest, {split: load_questions(config.data_dir, split) for split in manifest.splits}
    return manifest, {
        "train": generate_reports(config.reports, config.data_seed),
        "valid": generate_reports(config.test_reports, config.data_seed + 1),
        "test": generate_reports(config.test_reports, config.data_seed + 2, held_out=True),
    }


def _tokenizer(config: MseqaConfig, questions: Sequence[Question]) -> BytePairTokenizer:
    if config.tokenizer_dir:
        return BytePairTokenizer.load(config.tokenizer_dir)
    texts = dict.fromkeys(text for question in questions for text in (question.question, question.context))
    return BytePairTokenizer.train(texts, config.vocab_size)
