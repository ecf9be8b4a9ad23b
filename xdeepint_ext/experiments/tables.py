"""The tables that `sweep` can fill: rows of settings, stated as data."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import yaml

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
      metrics: the columns.
      reference: the row that others are compared with.
    """

    rows: Mapping[str, Mapping[str, Any]]
    flagfile: str = ""
    base: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    metrics: tuple[str, ...] = ("auc", "logloss")
    reference: str = ""


def _values(flag: str, values: Any, **others: Any) -> dict[str, dict[str, Any]]:
    return {f"{flag}={value}": {flag: value, **others} for value in values}


_LAYERS = _values("num_layers", range(6), num_subspaces=1)
_SUBSPACES = _values("num_subspaces", (1, 2, 4, 8, 16), num_layers=3, width=16)
_OPTIMIZERS = _values("optimizer", ("paper", "group_ftrl_adam", "adam", "adagrad"))
_ACTIVATIONS = _values("activation", ("linear", "tanh", "sigmoid", "softplus", "swish", "relu", "elu", "selu"))
_DNN: dict[str, dict[str, Any]] = {"xDeepInt": {}, "xDeepInt+ (DNN 400x3)": {"dnn_units": (400, 400, 400)}}
_SPARSITY = _values("lambda1", (0.0, 1.0, 3.0, 10.0, 30.0))
_SPARSE_METRICS = ("auc", "logloss", "zero_embedding_rows", "zero_interaction_weights")
_NUMERIC: dict[str, dict[str, Any]] = {
    "values": {"features": (*ADULT_CATEGORICAL, "*_value")},
    "quantile": {"features": (*ADULT_CATEGORICAL, "*_bin")},
    "both": {"features": (*ADULT_CATEGORICAL, "*_value", "*_bin")},
    # fnlwgt has 18,000 values in 26,000 rows: as ids they say who the person is.
    "both, fnlwgt in bins only": {"features": (*ADULT_CATEGORICAL, "[!f]*_value", "*_bin")},
    "values, fnlwgt in bins": {"features": (*ADULT_CATEGORICAL, "[!f]*_value", "fnlwgt_bin")},
}
# LR and FM with the best of their searches.
_MODELS: dict[str, dict[str, dict[str, Any]]] = {
    "adult": {
        "LR": {"model": "lr", "learning_rate": 0.2, "lambda1": 1.0, "lambda2": 1.0},
        "FM": {"model": "fm", "learning_rate": 0.1},
        "xDeepInt": {"model": "xdeepint"},
    },
    "kuairand": {
        "LR": {"model": "lr", "learning_rate": 0.2, "lambda1": 1.0, "lambda2": 1.0},
        "FM": {"model": "fm", "lambda1": 10.0, "lambda2": 10.0},
        "xDeepInt": {"model": "xdeepint"},
    },
}

TABLES: dict[str, Table] = {
    f"{dataset}_{name}": Table(rows, flagfile=f"xdeepint_{dataset}", **options)
    for dataset in ("adult", "kuairand")
    for name, rows, options in (
        ("models", _MODELS[dataset], {"reference": "xDeepInt"}),
        ("layers", _LAYERS, {}),
        ("subspaces", _SUBSPACES, {}),
        ("activation", _ACTIVATIONS, {}),
        ("optimizer", _OPTIMIZERS, {"metrics": _SPARSE_METRICS}),
        ("sparsity", _SPARSITY, {"metrics": _SPARSE_METRICS}),
        ("dnn", _DNN, {"reference": "xDeepInt"}),
    )
}
"""Name of a table -> table; Tables 1, 2, 3, 4, 5, 6 and 7 of the xDeepInt paper, in this order, on each data set."""


def _rows(*lines: str) -> dict[str, dict[str, Any]]:
    """Rows from lines `MODEL flag=value ...`, which are their names too; `lambda=x` sets both penalties of G-FTRL."""
    rows: dict[str, dict[str, Any]] = {}
    for line in lines:
        model, *settings = line.split()
        flags = dict(setting.split("=") for setting in settings)
        if "lambda" in flags:
            flags["lambda1"] = flags["lambda2"] = flags.pop("lambda")
        rows[line] = {"model": model, **{flag: yaml.safe_load(value) for flag, value in flags.items()}}
    return rows


TABLES["adult_search"] = Table(
    _rows(
        "xdeepint num_layers=1 num_subspaces=2 width=8 lambda=5",
        "xdeepint num_layers=2 num_subspaces=1 width=8 lambda=5",
        "xdeepint num_layers=2 num_subspaces=2 width=8 lambda=5",
        "xdeepint num_layers=2 num_subspaces=4 width=16 lambda=5",
        "xdeepint num_layers=3 num_subspaces=2 width=8 lambda=5",
        "xdeepint num_layers=2 num_subspaces=2 width=8 lambda=2",
        "xdeepint num_layers=2 num_subspaces=2 width=8 lambda=10",
        "xdeepint num_layers=2 num_subspaces=4 width=16 lambda=10",
        "lr optimizer=adam learning_rate=0.003",
        "lr optimizer=adam learning_rate=0.01",
        "lr optimizer=adam learning_rate=0.03",
        "lr optimizer=adam learning_rate=0.1",
        "lr optimizer=paper learning_rate=0.05 lambda=0.1",
        "lr optimizer=paper learning_rate=0.05 lambda=1",
        "lr optimizer=paper learning_rate=0.2 lambda=0.1",
        "lr optimizer=paper learning_rate=0.2 lambda=1",
        "fm optimizer=adam learning_rate=0.001 width=8",
        "fm optimizer=adam learning_rate=0.003 width=8",
        "fm optimizer=adam learning_rate=0.003 width=4",
        "fm optimizer=adam learning_rate=0.01 width=4",
        "fm optimizer=paper learning_rate=0.05 width=8 lambda=2",
        "fm optimizer=paper learning_rate=0.05 width=8 lambda=5",
        "fm optimizer=paper learning_rate=0.05 width=4 lambda=2",
        "fm optimizer=paper learning_rate=0.1 width=8 lambda=5",
    ),
    flagfile="xdeepint_adult",
)
TABLES["kuairand_search"] = Table(
    _rows(
        "xdeepint num_layers=2 num_subspaces=1 width=8 lambda=5",
        "xdeepint num_layers=2 num_subspaces=2 width=8 lambda=5",
        "xdeepint num_layers=3 num_subspaces=2 width=16 lambda=5",
        "xdeepint num_layers=2 num_subspaces=2 width=16 lambda=10",
        "xdeepint num_layers=2 num_subspaces=2 width=8 lambda=2",
        "xdeepint num_layers=2 num_subspaces=2 width=8 lambda=10",
        "xdeepint num_layers=1 num_subspaces=2 width=8 lambda=5",
        "xdeepint num_layers=2 num_subspaces=2 width=8 optimizer=adam learning_rate=0.0003",
        "lr optimizer=adam learning_rate=0.001",
        "lr optimizer=adam learning_rate=0.003",
        "lr optimizer=adam learning_rate=0.01",
        "lr optimizer=adam learning_rate=0.03",
        "lr optimizer=paper learning_rate=0.05 lambda=0.1",
        "lr optimizer=paper learning_rate=0.05 lambda=1",
        "lr optimizer=paper learning_rate=0.05 lambda=3",
        "lr optimizer=paper learning_rate=0.2 lambda=1",
        "fm optimizer=adam learning_rate=0.0003 width=8",
        "fm optimizer=adam learning_rate=0.001 width=8",
        "fm optimizer=adam learning_rate=0.001 width=4",
        "fm optimizer=adam learning_rate=0.003 width=4",
        "fm optimizer=paper learning_rate=0.05 width=8 lambda=2",
        "fm optimizer=paper learning_rate=0.05 width=8 lambda=5",
        "fm optimizer=paper learning_rate=0.05 width=8 lambda=10",
        "fm optimizer=paper learning_rate=0.05 width=16 lambda=5",
    ),
    flagfile="xdeepint_kuairand",
)
"""The searches: eight settings for each model, run with --select_on=valid and one seed."""

TABLES["adult_numeric"] = Table(_NUMERIC, flagfile="xdeepint_adult")
