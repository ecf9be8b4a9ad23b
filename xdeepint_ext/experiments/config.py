"""`Config`: everything that decides a run."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping
from typing import Any

from xdeepint_ext.data.lists.read import STAGES
from xdeepint_ext.experiments.model_options import make_options
from xdeepint_ext.experiments.named_losses import DEFAULT, LOSSES
from xdeepint_ext.experiments.optimizer_options import OPTIMIZERS, SCHEDULES
from xdeepint_ext.experiments.options import check_choices, option, options_of
from xdeepint_ext.experiments.retrieval_predictions import AT
from xdeepint_ext.serving.calibration_fits import METHODS

__all__ = ["Config", "canonical", "check_several_runs"]

ONE_MACHINE = ("auto", "one_device", "mirrored")
SEVERAL_PROCESSES = ("multi_worker", "parameter_server")
STRATEGIES = (*ONE_MACHINE, *SEVERAL_PROCESSES, "tpu")
STRATEGY_HELP = (
    "auto = mirrored where there are several GPUs, else one_device; multi_worker and parameter_server read TF_CONFIG; "
    "tpu is untested, and has no G-FTRL; see docs/scaling.md"
)
STOPPING_METRICS = (
    *("auc", "logloss", "gauc", "ndcg", "recall"),
    *(f"{metric}_at_{n}" for n in AT for metric in ("recall", "ndcg")),
    "none",
)
GROUPINGS, ORDERS = ("batch", "user", "session"), ("shuffled", "user", "session")
TABLE_DTYPES = ("float32", "float16", "int8")
PRECISIONS = ("float32", "mixed_float16", "mixed_bfloat16", "float64")
SHARDINGS = ("batches", "files")
DEVICES = ("auto", "cpu", "sharded")


@dataclasses.dataclass(frozen=True)
class Config:
    """A run: its data, model, training and what is made of the result. Each field but the last two is also a flag.

    Raises:
      ValueError: a value is out of range, or none of its choices; the message names it.

    Example:
      >>> config = Config(data_dir="data", model="xdeepint", model_options={"num_layers": 2})
      >>> config.options.num_layers
      2
    """

    data_dir: str = option("", "directory that data.prepare wrote", changes="nothing")
    model_dir: str = option("", "directory for the run's results and checkpoints", changes="nothing")
    features: tuple[str, ...] = option((), "model inputs: names or patterns (age*); default: all of schema.pbtxt")
    loss: str = option(DEFAULT, "of lists, as in experiments/named_losses.py; default: hybrid", (DEFAULT, *LOSSES))
    stages: tuple[str, ...] = option(STAGES, "stages of the items of training lists; others are left out")
    grouping: str = option(
        "batch", "lists of a loss on lists: the batch, or in it a user's records, a session's", GROUPINGS
    )
    order: str = option("shuffled", "training records one by one, or a user's, a session's together", ORDERS)
    batch_size: int = option(4096, "examples, or lists, of a step over all replicas; paper: 4096")
    epochs: int = option(10, "passes over the training records at most")
    max_steps: int | None = option(None, "training steps at most")
    optimizer: str = option("paper", "paper = G-FTRL for embeddings and FTRL for interactions; others", OPTIMIZERS)
    learning_rate: float | None = option(None, "default: the optimizer's own (FTRL 0.02, Adam 0.001, Adagrad 0.01)")
    embedding_learning_rate: float | None = option(None, "of the embedding tables; default: learning_rate")
    interaction_learning_rate: float | None = option(None, "of the interaction layers; default: learning_rate")
    schedule: str = option("constant", "learning rate over the steps: constant, or cosine down to 0", SCHEDULES)
    beta: float = option(1.0, "G-FTRL's beta for the loss summed over the batch; authors: 1")
    lambda1: float = option(10.0, "G-FTRL's group penalty for the summed loss; authors: 10")
    lambda2: float = option(10.0, "G-FTRL's squared penalty for the summed loss; authors: 10")
    l1: float = option(0.1, "FTRL's L1 penalty for the summed loss; authors: 0.1")
    l2: float = option(0.1, "FTRL's L2 penalty for the summed loss; authors: 0.1")
    seed: int = option(0, "of initial weights, record order and dropout")
    early_stopping: str = option(
        "auc",
        "metric of the valid split whose best weights are kept; of lists: ndcg, recall; of users: recall_at_20 ...",
        STOPPING_METRICS,
    )
    patience: int | None = option(None, "steps without a better value before training ends; default: 3 evaluations")
    eval_every: int | None = option(None, "steps between evaluations; default: an epoch, at most 2000 (paper's)")
    checkpoint_every: int = option(1000, "steps between checkpoints; each evaluation makes one too", changes="nothing")
    warm_start: str = option("", "model_dir of a finished run that this one goes on from, with another day's data")
    strategy: str = option("auto", STRATEGY_HELP, STRATEGIES)
    embedding_device: str = option(
        "auto",
        "cpu = weights and slots of one_device and mirrored lie once in host memory, not on each GPU; sharded = "
        "mirrored divides tables and their slots among its devices",
        DEVICES,
    )
    cluster_timeout: int = option(
        300, "seconds that a process of a cluster waits for the others to come", changes="nothing"
    )
    sharding: str = option(
        "batches", "of records among multi_worker's workers: parts of the batches of one worker, or files", SHARDINGS
    )
    mixed_precision: str = option("float32", "Keras's dtype policy", PRECISIONS)
    jit_compile: bool = option(False, "compile the dense part with XLA")
    deterministic: bool = option(False, "only deterministic kernels: a run repeats bit for bit")
    cache: bool = option(False, "keep the preprocessed records in memory; they are then shuffled as a whole")
    max_bad_records: int = option(0, "damaged records of a split that may be skipped (and are counted)")
    evaluate: tuple[str, ...] = option(("valid", "test"), "splits to evaluate at the end", changes="report")
    slices: tuple[str, ...] = option((), "features whose values are evaluated one by one", changes="report")
    cold_start: tuple[int, ...] = option(
        (),
        "bounds of users' training records whose users are evaluated apart: 0,10 = none, 1-10, 11+",
        changes="report",
    )
    save_predictions: bool = option(False, "write predictions-SPLIT.npz", changes="report")
    report: bool = option(True, "write report.html (needs matplotlib)", changes="report")
    export: bool = option(False, "write saved_model/ for serving", changes="report")
    export_tables: str = option(
        "float32", "type of the tables in saved_model/; float16 and int8 round", TABLE_DTYPES, changes="report"
    )
    calibration: str = option(
        "none", "of the exported scores, fitted on the valid split; see docs/calibration.md", METHODS, changes="report"
    )
    negative_sampling_rate: float = option(
        1.0, "share of the negatives that the data kept; exported scores are corrected for it", changes="report"
    )
    progress: bool = option(True, "show a progress line", changes="nothing")
    model: str = "xdeepint"
    model_options: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("features", "stages", "evaluate", "slices", "cold_start"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        check_choices(self)
        for name in ("batch_size", "epochs", "max_steps", "patience", "eval_every", "checkpoint_every"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} must be >= 1, got {value}")
        for name in ("learning_rate", "embedding_learning_rate", "interaction_learning_rate"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ValueError(f"{name} must be > 0, got {value}")
        if self.embedding_device != "auto" and (self.strategy not in ONE_MACHINE or self.jit_compile):
            raise ValueError(
                f"embedding_device={self.embedding_device} is for the strategies {ONE_MACHINE}, without jit_compile, "
                "as XLA's code and its weights must be on one device; got "
                f"strategy={self.strategy}, jit_compile={self.jit_compile}"
            )
        if not 0 < self.negative_sampling_rate <= 1:
            raise ValueError(f"negative_sampling_rate must be in (0, 1], got {self.negative_sampling_rate}")
        if list(self.cold_start) != sorted({bound for bound in self.cold_start if bound >= 0}):
            raise ValueError(f"cold_start must be numbers >= 0, ascending, got {self.cold_start}")
        if not self.data_dir:
            raise ValueError("data_dir must name a directory that data.prepare wrote, got ''")
        self.options  # noqa: B018 - raises where the model's options are wrong

    @property
    def options(self) -> Any:
        """The model's options, with defaults."""
        return make_options(self.model, dict(self.model_options))

    def replace(self, **changes: Any) -> Config:
        """A copy with other values; `model_options` are merged into this one's."""
        options = {**self.model_options, **changes.pop("model_options", {})}
        return dataclasses.replace(self, model_options=options, **changes)

    def flags(self, changes: str | None = None) -> dict[str, Any]:
        """Every option, the model's own included, by name.

        Args:
          changes: only those whose other values change this; see `option`.
        """
        return {
            name: getattr(source, name)
            for source in (self, self.options)
            for name, field in options_of(type(source)).items()
            if changes in (None, field.metadata["changes"])
        }

    def changed(self) -> dict[str, Any]:
        """The options that change training and are not at their defaults, the seed apart."""
        default = Config(data_dir="-", model=self.model).flags("training")
        return {n: v for n, v in self.flags("training").items() if n != "seed" and v != default[n]}

    def settings(self) -> str:
        """The model and all that changes its training, data and seed apart, as `flag=value ...` without defaults."""
        return settings_of(self.model, self.changed())

    def fingerprint(self) -> str:
        """SHA-256 (first 12 hex digits) of `settings`."""
        return fingerprint_of(self.settings())


def check_several_runs(strategy: str) -> None:
    """Checks the strategy of runs that one process makes one after the other.

    Raises:
      ValueError: it is one of several processes, which meet for one run, or of a TPU, which is set up for one.
    """
    if strategy not in ONE_MACHINE:
        raise ValueError(
            f"strategy={strategy} is for a single run, whose processes or TPU are set up once, and here are several "
            f"runs; use one of {ONE_MACHINE}, or start each run by itself"
        )


def settings_of(model: str, changed: Mapping[str, Any]) -> str:
    """A model and its options' values as `flag=value ...`, in order."""
    return canonical(" ".join([f"model={model}", *(f"{name}={_text(value)}" for name, value in changed.items())]))


def fingerprint_of(settings: str) -> str:
    """SHA-256 (first 12 hex digits)."""
    return hashlib.sha256(settings.encode()).hexdigest()[:12]


def canonical(settings: str) -> str:
    """Settings with the flags in order and each number in one form: `b=0.50 a=x` -> `a=x b=0.5`."""
    parts = dict(part.split("=", 1) for part in settings.split())
    return " ".join(f"{name}={_number(parts[name])}" for name in sorted(parts))


def _text(value: Any) -> str:
    return "+".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _number(text: str) -> str:
    try:
        return f"{float(text):.10g}"
    except ValueError:
        return text
