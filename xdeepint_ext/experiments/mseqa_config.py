"""`MseqaConfig`: everything that decides a run of `experiments.mseqa`."""

from __future__ import annotations

import dataclasses
from typing import Any

from xdeepint_ext.experiments.config import PRECISIONS, STRATEGIES, STRATEGY_HELP, settings_of
from xdeepint_ext.experiments.options import check_choices, option, options_of
from xdeepint_ext.layers.roberta import SIZES
from xdeepint_ext.layers.tagging import SCHEMES
from xdeepint_ext.losses.spans import OVER_TAGGINGS

__all__ = ["HEADS", "MseqaConfig"]

HEADS = ("tagger", "two_heads", "single")
"""`MultiSpanTagger`, `MultiHeadSpanQA`, and the baseline `SingleSpanQA`."""

LONGEST = 512
"""RoBERTa's most tokens."""

STOPPING = ("exact_f1", "partial_f1", "drop_f1", "none")


@dataclasses.dataclass(frozen=True)
class MseqaConfig:
    """A run: its data, model, training and what is made of the result. Each field is also a flag.

    Raises:
      ValueError: a value is out of range, or none of its choices; the message names it.

    Example:
      >>> MseqaConfig(heads="single").heads
      'single'
    """

    data_dir: str = option("", "directory that data.qa.prepare wrote; none = reports are generated", changes="nothing")
    model_dir: str = option("", "directory for the run's results and checkpoints", changes="nothing")
    reports: int = option(12000, "generated reports to train on")
    test_reports: int = option(1000, "generated reports to test on, in held-out wordings; as many as valid ones")
    data_seed: int = option(1, "of the generated reports")
    heads: str = option("tagger", "tagger = tags alone, two_heads = one span or tags, single = one span", HEADS)
    scheme: str = option("bio", "how tags spell spans", tuple(SCHEMES))
    likelihood: str = option("marginal", "over the gold taggings, where there are several", OVER_TAGGINGS)
    head_units: int | None = option(None, "of the tags' head; TASE: min(width, 1024), the default; MultiSpanQA: 0")
    allow_empty: bool = option(True, "whether no answer is an answer; TASE: false")
    size: str = option("small", "of the encoder; base and large are RoBERTa's", tuple(SIZES))
    checkpoint: str = option("", "model.safetensors of RoBERTa to start from; none = from scratch", changes="training")
    tokenizer_dir: str = option("", "vocab.json and merges.txt of RoBERTa; none = learned from the training texts")
    vocab_size: int = option(1000, "of a tokeniser that is learned")
    max_length: int = option(512, "tokens of a window at most")
    overlap: int = option(128, "tokens that neighbouring windows share")
    max_taggings: int = option(8, "gold taggings of a window at most")
    batch_size: int = option(32, "windows of a step over all replicas")
    epochs: int = option(6, "passes over the training windows at most")
    max_steps: int | None = option(None, "training steps at most")
    learning_rate: float = option(1.5e-3, "highest; from scratch 1.5e-3, ours; from a checkpoint 3e-5, MultiSpanQA's")
    warmup: float = option(0.06, "share of the steps in which the rate rises; then it falls to 0; RoBERTa's")
    dropout: float = option(0.0, "in the encoder and before the heads; RoBERTa and TASE: 0.1; for reports 0, ours")
    seed: int = option(0, "of initial weights, order and dropout")
    early_stopping: str = option("exact_f1", "metric of the valid split whose best weights are kept", STOPPING)
    patience: int | None = option(None, "steps without a better value before training ends; default: 3 evaluations")
    eval_every: int | None = option(None, "steps between evaluations; default: an epoch, at most 2000")
    checkpoint_every: int = option(1000, "steps between checkpoints; each evaluation makes one too", changes="nothing")
    strategy: str = option("auto", STRATEGY_HELP, STRATEGIES)
    cluster_timeout: int = option(
        300, "seconds that a process of a cluster waits for the others to come", changes="nothing"
    )
    mixed_precision: str = option("float32", "Keras's dtype policy", PRECISIONS)
    jit_compile: bool = option(False, "compile the encoder with XLA")
    deterministic: bool = option(False, "only deterministic kernels: a run repeats bit for bit")
    report: bool = option(True, "write report.html", changes="report")
    export: bool = option(False, "write saved_model/ for serving", changes="report")
    progress: bool = option(True, "show a progress line", changes="nothing")

    def __post_init__(self) -> None:
        check_choices(self)
        counts = ("reports", "test_reports", "batch_size", "epochs", "max_steps", "patience", "eval_every")
        for name in (*counts, "checkpoint_every"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} must be >= 1, got {value}")
        if not self.learning_rate > 0 or not 0 <= self.warmup <= 1 or not 0 <= self.dropout < 1:
            raise ValueError(
                "expected learning_rate > 0, warmup in [0, 1] and dropout in [0, 1), got "
                f"{self.learning_rate}, {self.warmup}, {self.dropout}"
            )
        if self.checkpoint and not self.tokenizer_dir:
            raise ValueError("checkpoint needs tokenizer_dir: the vocab.json and merges.txt that its ids come from")
        if self.checkpoint and self.max_length > LONGEST:
            raise ValueError(f"max_length must be at most RoBERTa's {LONGEST} with a checkpoint, got {self.max_length}")

    @property
    def model(self) -> str:
        """The experiment's name."""
        return "mseqa"

    def settings(self) -> str:
        """All that changes training, data and seed apart, as `flag=value ...` without defaults."""
        default = type(self)().flags("training")
        changed = {n: v for n, v in self.flags("training").items() if n != "seed" and v != default[n]}
        return settings_of(self.model, changed)

    def flags(self, changes: str | None = None) -> dict[str, Any]:
        """Every option by name; only those whose other values change `changes`, where that is given."""
        fields = options_of(type(self)).items()
        return {name: getattr(self, name) for name, field in fields if changes in (None, field.metadata["changes"])}
