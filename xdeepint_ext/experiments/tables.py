"""The tables that `sweep` can fill: rows of settings, stated as data."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

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
_SUBSPACES = _values("num_subspaces", (1, 2, 4, 8, 16), num_layers=3)
_OPTIMIZERS = _values("optimizer", ("paper", "group_ftrl_adam", "adam", "adagrad"))
_ACTIVATIONS = _values("activation", ("linear", "tanh", "sigmoid", "softplus", "swish", "relu", "elu", "selu"))
_DNN = {"xDeepInt": {}, "xDeepInt+ (DNN 400x3)": {"dnn_units": (400, 400, 400)}}
_SPARSITY = _values("lambda1", (0.0, 1.0, 3.0, 10.0, 30.0))
_SPARSE_METRICS = ("auc", "logloss", "zero_embedding_rows", "zero_interaction_weights")
_NUMERIC = {
    "values": {"features": (*ADULT_CATEGORICAL, "*_value")},
    "quantile": {"features": (*ADULT_CATEGORICAL, "*_bin")},
    "both": {"features": (*ADULT_CATEGORICAL, "*_value", "*_bin")},
}
_MODELS = {
    "LR": {"model": "lr"},
    "FM": {"model": "fm"},
    "xDeepInt": {"model": "xdeepint"},
}

TABLES: dict[str, Table] = {
    f"{dataset}_{name}": Table(rows, flagfile=f"xdeepint_{dataset}", **options)
    for dataset in ("adult", "kuairand")
    for name, rows, options in (
        ("models", _MODELS, {"reference": "xDeepInt"}),
        ("layers", _LAYERS, {}),
        ("subspaces", _SUBSPACES, {}),
        ("activation", _ACTIVATIONS, {}),
        ("optimizer", _OPTIMIZERS, {"metrics": _SPARSE_METRICS}),
        ("sparsity", _SPARSITY, {"metrics": _SPARSE_METRICS}),
        ("dnn", _DNN, {"reference": "xDeepInt"}),
    )
}
"""Name of a table -> table; Tables 1, 2, 3, 4, 5, 6 and 7 of the xDeepInt paper, in this order, on each data set."""

_FTRL = {"optimizer": "paper"}
_ADAM = {"optimizer": "adam"}
_SEARCH = {
    **{
        f"xDeepInt L={layers} h={subspaces} K={width} lambda={penalty}": {
            "num_layers": layers,
            "num_subspaces": subspaces,
            "width": width,
            "lambda1": penalty,
            "lambda2": penalty,
        }
        for layers, subspaces, width, penalty in (
            (1, 2, 8, 5.0),
            (2, 1, 8, 5.0),
            (2, 2, 8, 5.0),
            (2, 4, 16, 5.0),
            (3, 2, 8, 5.0),
            (2, 2, 8, 2.0),
            (2, 2, 8, 10.0),
            (2, 4, 16, 10.0),
        )
    },
    **{f"LR Adam {rate}": {"model": "lr", **_ADAM, "learning_rate": rate} for rate in (0.003, 0.01, 0.03, 0.1)},
    **{
        f"LR G-FTRL {rate} lambda={penalty}": {
            "model": "lr",
            **_FTRL,
            "learning_rate": rate,
            "lambda1": penalty,
            "lambda2": penalty,
        }
        for rate, penalty in ((0.05, 0.1), (0.05, 1.0), (0.2, 0.1), (0.2, 1.0))
    },
    **{
        f"FM Adam {rate} K={width}": {"model": "fm", **_ADAM, "learning_rate": rate, "width": width}
        for rate, width in ((0.001, 8), (0.003, 8), (0.003, 4), (0.01, 4))
    },
    **{
        f"FM G-FTRL {rate} K={width} lambda={penalty}": {
            "model": "fm",
            **_FTRL,
            "learning_rate": rate,
            "width": width,
            "lambda1": penalty,
            "lambda2": penalty,
        }
        for rate, width, penalty in ((0.05, 8, 2.0), (0.05, 8, 5.0), (0.05, 4, 2.0), (0.1, 8, 5.0))
    },
}
TABLES["adult_search"] = Table(_SEARCH, flagfile="xdeepint_adult")
"""Eight settings for each model; run with --select_on=valid."""

TABLES["adult_numeric"] = Table(_NUMERIC, flagfile="xdeepint_adult")
