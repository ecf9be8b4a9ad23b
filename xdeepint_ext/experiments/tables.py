"""The tables that `compare` can fill: rows of settings, stated as data."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from xdeepint_ext.experiments.retrieval_tables import GOWALLA_LOSSES, RETRIEVAL_ROWS

__all__ = ["TABLES", "Table"]

ADULT_CATEGORICAL = [
    "workclass",
    "education",
    "marital_status",
    "occupation",
    "relationship",
    "race",
    "sex",
    "native_country",
]


@dataclasses.dataclass(frozen=True)
class Table:
    """Settings to compare.

    Args:
      rows: name of a row -> flags that it changes; `model` names another model.
      flagfile: the setting that all rows start from; "" = the defaults.
      base: flags that all rows change.
      metrics: columns besides AUC, GAUC, log loss and costs.
    """

    rows: Mapping[str, Mapping[str, Any]]
    flagfile: str = ""
    base: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    metrics: tuple[str, ...] = ()


def _values(flag: str, values: Any, **others: Any) -> dict[str, dict[str, Any]]:
    return {f"{flag}={value}": {flag: value, **others} for value in values}


_LAYERS = _values("num_layers", range(6), num_subspaces=1)
_SUBSPACES = _values("num_subspaces", (1, 2, 4, 8, 16), num_layers=3, width=16)
# Adam's rate is its usual one: at the rate of FTRL and Adagrad it would be handicapped.
_OPTIMIZERS: dict[str, dict[str, Any]] = {
    "G-FTRL and FTRL": {"optimizer": "paper"},
    "G-FTRL and Adam": {
        "optimizer": "group_ftrl_adam",
        "embedding_learning_rate": 0.05,
        "learning_rate": 0.001,
    },
    "Adam": {"optimizer": "adam", "learning_rate": 0.001},
    "Adagrad": {"optimizer": "adagrad"},
}
_ACTIVATIONS = _values("activation", ("linear", "tanh", "sigmoid", "softplus", "swish", "relu", "elu", "selu"))
_DNN: dict[str, dict[str, Any]] = {"xDeepInt": {}, "xDeepInt+ (DNN 400x3)": {"dnn_units": (400, 400, 400)}}
_SPARSITY = _values("lambda1", (0.0, 1.0, 3.0, 10.0, 30.0))
_NUMERIC: dict[str, dict[str, Any]] = {
    "values": {"features": (*ADULT_CATEGORICAL, "*_value")},
    "quantile": {"features": (*ADULT_CATEGORICAL, "*_bin")},
    "both": {"features": (*ADULT_CATEGORICAL, "*_value", "*_bin")},
    # fnlwgt has 18,000 values in 26,000 rows: as ids they say who the person is.
    "both, fnlwgt in bins only": {"features": (*ADULT_CATEGORICAL, "[!f]*_value", "*_bin")},
    "values, fnlwgt in bins": {"features": (*ADULT_CATEGORICAL, "[!f]*_value", "fnlwgt_bin")},
}
_SPARSE_METRICS = ("zero_embedding_rows", "zero_interaction_weights")

TABLES: dict[str, Table] = {
    f"{dataset}_{name}": Table(rows, flagfile=f"xdeepint_{dataset}", metrics=metrics)
    for dataset in ("adult", "kuairand")
    for name, rows, metrics in (
        ("layers", _LAYERS, ()),
        ("subspaces", _SUBSPACES, ()),
        ("activation", _ACTIVATIONS, ()),
        ("optimizer", _OPTIMIZERS, _SPARSE_METRICS),
        ("sparsity", _SPARSITY, _SPARSE_METRICS),
        ("dnn", _DNN, ()),
    )
}
"""Name of a table -> table; Tables 2, 3, 4, 5, 6 and 7 of the xDeepInt paper, in this order, on each data set."""

# What a row does not change.
_DYNINT: dict[str, Any] = {
    "model": "dynint",
    "mode": "weighted",
    "rank": 2,
    "num_layers": 2,
    "num_subspaces": 2,
    "width": 8,
    "optimizer": "paper",
    "learning_rate": 0.001,
    "embedding_learning_rate": 0.05,
    "interaction_learning_rate": 0.05,
}
_DYNINT_ROWS = {
    "layers": _values("num_layers", range(1, 6), num_subspaces=1),
    "subspaces": _values("num_subspaces", (1, 2, 4, 8, 16), width=16),
    "rank": _values("rank", (1, 2, 3, 4)),
    # At most F num_subspaces, which is 40 here.
    "kernel_size": _values("rank", (4, 8, 16, 32, 40), mode="generated"),
    "reduction_ratio": _values("reduction_ratio", (2, 4, 8, 16)),
    "orthogonal_rate": _values("orthogonal_rate", (0.0, 0.2, 0.4, 0.6, 0.8)),
}
TABLES |= {f"adult_dynint_{name}": Table(rows, flagfile="adult", base=_DYNINT) for name, rows in _DYNINT_ROWS.items()}
"""The sweeps of the DynInt paper: its Tables 3 and 4, and its figures on ranks, reduction ratio and penalty."""

_ADAENSEMBLE: dict[str, Any] = {
    "model": "adaensemble",
    "width": 8,
    "exit_steps": 100,
    "optimizer": "group_ftrl_adam",
    "learning_rate": 0.001,
    "embedding_learning_rate": 0.05,
}
_ADAENSEMBLE_ROWS: dict[str, dict[str, dict[str, Any]]] = {
    "experts": _values("k", ("1", "2", "3", "4", "5")),
    "exits": {
        **_values("num_layers", (1, 2, 3, 4)),
        **_values("exit_k", ("1", "2", "4")),
        **_values("exit_mode", ("hard",), exit_k="1"),
    },
    "combine": _values("combine", ("weighted", "sum")),
}
TABLES |= {
    f"adult_adaensemble_{name}": Table(
        rows, flagfile="adult", base=_ADAENSEMBLE, metrics=("expected_depth", "multiply_adds_dense")
    )
    for name, rows in _ADAENSEMBLE_ROWS.items()
}
"""AdaEnsemble's sweeps over what routes; the paper's own were not to be had."""

_RANKTOWER_ROWS: dict[str, dict[str, dict[str, Any]]] = {
    "sampling": {
        "full-stage": {},
        "without random": {"stages": ("impression", "candidate")},
        "without candidate": {"stages": ("impression", "random")},
        "without both": {"stages": ("impression",)},
    },
    "losses": {
        "hybrid": {},
        "hybrid, literal": {"loss": "hybrid_literal"},
        "sorting only": {"loss": "sorting"},
        "AM-Rankmax": {"loss": "am_rankmax"},
        "Rankmax": {"loss": "rankmax"},
        "Softmax": {"loss": "softmax"},
        "ApproxNDCG": {"loss": "approx_ndcg"},
        "RankNet": {"loss": "ranknet"},
    },
    "weight": {
        "weight 1": {},
        "weight 5": {"loss": "sorting_5"},
        "weight 25": {"loss": "sorting_25"},
        "SoftSort alone": {"loss": "sorting_of_shown"},
    },
    "distillation": {
        "softmax": {},
        "weighted log loss": {"loss": "weighted_logloss"},
        "pairwise log loss": {"loss": "pairwise_logloss"},
        "none": {"loss": "undistilled"},
    },
}
TABLES |= {
    f"ranktower_{name}": Table(rows, flagfile="kuairand_lists", base={"model": "ranktower", "units": (128, 64)})
    for name, rows in _RANKTOWER_ROWS.items()
}
"""The three ablations of RankTower, and one of SoftSort's weight; the test lists are the same for all rows."""

# What a row does not change; the rest is in the flagfile.
_GROUPCE: dict[str, Any] = {"model": "groupce", "width": 8, "units": (128, 64), "dropout": 0.2, "cold_start": (0, 10)}
_OBJECTIVES = {
    "LogLoss": "logloss",
    "+ PairwiseLogistic": "pairwise_logistic",
    "+ SoftmaxCE": "softmax_ce",
    "+ ListCE": "list_ce",
    "JRC": "jrc",
    "GroupCE": "groupce",
}
_SHUFFLED = {"shuffled": "shuffled", "user by user": "user", "session by session": "session"}
_GROUPCE_ROWS: dict[str, dict[str, dict[str, Any]]] = {
    "objectives": {name: {"objective": objective} for name, objective in _OBJECTIVES.items()},
    # At most as many steps for all, 0.8 epochs of the smallest batch and 24 of the largest, with the same evaluations.
    "batch_size": {
        f"{name}, {size}": {"objective": _OBJECTIVES[name], "batch_size": size, "max_steps": 276, "epochs": 25}
        for size in (512, 1024, 2048, 4096, 8192, 16384)
        for name in ("LogLoss", "GroupCE")
    },
    "levels": _values("num_levels", (1, 2, 3, 4)),
    "codes": _values("codebook_size", (4, 8, 16, 32, 64)),
    "changes": {
        "paper": {},
        "reconstruction": {"auxiliary": "reconstruction"},
        "without auxiliary term": {"auxiliary_weight": 0.0},
        "codebook loss": {"codebook_update": "gradient"},
        "commitment 0.25": {"commitment_weight": 0.25},
        "VQ-VAE: all three": {
            "auxiliary": "reconstruction",
            "codebook_update": "gradient",
            "commitment_weight": 0.25,
        },
    },
    # For long views: from the setting that the search chose for them, one step at a time, to that of clicks.
    "long_view": {
        "two levels of 16, warm-up": {"num_levels": 2, "codebook_size": 16, "warmup_steps": 92},
        "without warm-up": {"num_levels": 2, "codebook_size": 16},
        "and three levels of 8": {},
        "and penalties of 2": {"lambda1": 2.0, "lambda2": 2.0},
        "LogLoss": {"objective": "logloss", "lambda1": 5.0, "lambda2": 5.0},
        "LogLoss, penalties of 2": {"objective": "logloss", "lambda1": 2.0, "lambda2": 2.0},
    },
    "grouping": {
        **{f"LogLoss, {name}": {"objective": "logloss", "order": order} for name, order in _SHUFFLED.items()},
        **{
            f"{loss} by {grouping}, {name}": {
                "objective": _OBJECTIVES[loss],
                "alpha": alpha,
                "grouping": grouping,
                "order": order,
            }
            for loss, alpha in (("+ ListCE", 0.5), ("JRC", 0.4))  # what the search chose for clicks
            for grouping in ("batch", "user", "session")
            for name, order in _SHUFFLED.items()
            if order in ("shuffled", grouping)
        },
        **{f"GroupCE, {name}": {"order": order} for name, order in _SHUFFLED.items()},
    },
}
TABLES |= {
    f"groupce_{name}": Table(
        rows,
        flagfile="kuairand_groupce",
        base=_GROUPCE,
        metrics=tuple(f"slice.training_records={users}.gauc" for users in ("0", "1-10", "11+")),
    )
    for name, rows in _GROUPCE_ROWS.items()
}
"""GroupCE's competitors, its sweeps over batches, levels and codes, its changes to VQ-VAE, and what lists are of."""
TABLES |= {
    f"amazon_beauty_croloss_{name}": Table(
        rows, flagfile="amazon_beauty", base={"model": "pooled", "pooling": "recency"}
    )
    for name, rows in RETRIEVAL_ROWS.items()
}
"""Tables 3 and 4 of CROLoss, and the runs of its Figures 4 and 5. Table 2 is `--models` after equal searches."""
TABLES["gowalla_losses"] = Table(
    GOWALLA_LOSSES, flagfile="gowalla", base={"model": "mf", "early_stopping": "none", "epochs": 32}
)
"""Table 2 on all of the training part, as the published figures are: data of `--valid_fraction=0`; for twice the
epochs of the search, as recall on the validation part still rose at its end (CROLoss: 0.2027, after 32 epochs 0.2066).
"""

TABLES["adult_numeric"] = Table(_NUMERIC, flagfile="xdeepint_adult")
