"""CROLoss's tables and searches, stated as data: which losses, kernels and alphas, on which sets."""

from __future__ import annotations

from typing import Any

__all__ = ["RETRIEVAL_ROWS", "RETRIEVAL_SEARCHES", "RETRIEVAL_VARIANTS", "WEIGHTINGS"]

MODELS = {"gowalla": "mf", "amazon_beauty": "sasrec", "amazon_sports": "sasrec"}
"""Data set -> the model whose losses are compared on it."""

RETRIEVAL_VARIANTS: dict[str, dict[str, Any]] = {
    f"{model}_{objective}": {"model": model, "objective": objective}
    for model in ("mf", "pooled", "sasrec")
    for objective in ("ce", "bce", "triplet", "bpr", "croloss", "crolambda")
}
"""Row of Table 2, `MODEL_OBJECTIVE` -> flags."""

# As many trials for each loss, but for what only it has: kernels and alphas take the place of margins and of further
# rates. Gamma scales the gap, to which the losses react differently, so every loss has more than one.
_RATES = {"gowalla": ("0.005", "0.01"), "amazon_beauty": ("0.001", "0.004"), "amazon_sports": ("0.001", "0.004")}
_OWN: dict[str, tuple[str, ...]] = {
    "ce": ("gamma=10", "gamma=5", "gamma=15", "gamma=10 in_batch=true"),
    "bce": ("gamma=10", "gamma=5", "gamma=15", "gamma=10 item_bias=true"),
    "triplet": ("gamma=10 margin=5", "gamma=10 margin=2", "gamma=15 margin=5", "gamma=10 margin=8"),
    "bpr": ("gamma=10", "gamma=5", "gamma=15", "gamma=20"),
    "croloss": (
        "gamma=10 kernel=softplus alpha=1.0",
        "gamma=15 kernel=softplus alpha=1.0",
        "gamma=10 kernel=softplus alpha=1.4",
        "gamma=15 kernel=exp alpha=1.2",
    ),
    "crolambda": (
        "gamma=10 weight_kernel=sigmoid kernel=softplus alpha=1.0",
        "gamma=15 weight_kernel=sigmoid kernel=softplus alpha=1.0",
        "gamma=10 weight_kernel=sigmoid kernel=exp alpha=1.2",
        "gamma=15 weight_kernel=sigmoid kernel=exp alpha=1.2",
    ),
}
RETRIEVAL_SEARCHES: dict[str, dict[str, list[str]]] = {
    dataset: {
        f"{model}_{objective}": [f"learning_rate={rate} {own}" for own in settings for rate in _RATES[dataset]]
        for objective, settings in _OWN.items()
    }
    for dataset, model in MODELS.items()
}
# Windows have no candidates inside of the batch.
for _dataset in ("amazon_beauty", "amazon_sports"):
    _trials = RETRIEVAL_SEARCHES[_dataset]["sasrec_ce"]
    RETRIEVAL_SEARCHES[_dataset]["sasrec_ce"] = [text.replace(" in_batch=true", " item_bias=true") for text in _trials]

_ALPHAS = (0.6, 0.8, 1.0, 1.2)


def _weighted(kernels: tuple[str, ...], alphas: tuple[float, ...]) -> dict[str, dict[str, Any]]:
    flags = {"objective": "croloss"}
    return {
        f"{kernel} alpha={alpha}": {**flags, "kernel": kernel, "alpha": alpha} for kernel in kernels for alpha in alphas
    }


def _lambda(weight_kernel: str, kernel: str, alpha: float) -> dict[str, dict[str, Any]]:
    flags = {"objective": "crolambda", "weight_kernel": weight_kernel, "kernel": kernel, "alpha": alpha}
    return {f"{weight_kernel}/{kernel} alpha={alpha}": flags}


_LAMBDA_BY_ALPHA = {name: flags for alpha in _ALPHAS for name, flags in _lambda("sigmoid", "softplus", alpha).items()}
WEIGHTINGS = {**_weighted(("hinge", "sigmoid", "exp", "softplus"), _ALPHAS), **_LAMBDA_BY_ALPHA}
"""Rows of Table 3: kernels by alpha, and lambda by alpha."""

RETRIEVAL_ROWS: dict[str, dict[str, dict[str, Any]]] = {
    "kernels": {"cross-entropy": {"objective": "ce"}, **WEIGHTINGS},
    "lambda": {
        name: flags
        for weight in ("step", "sigmoid")
        for kernel in ("hinge", "exp", "softplus")
        for name, flags in _lambda(weight, kernel, 1.0).items()
    },
    "alpha": _weighted(("sigmoid",), (0.0, 0.4, 0.8, 1.2, 1.6, 2.0, 3.0)),
    "mining": {
        "triplet": {"objective": "triplet"},
        "bpr": {"objective": "bpr"},
        **_weighted(("hinge", "softplus"), (0.0, 0.25, 0.5, 0.75, 1.0)),
    },
}
"""Tables 3 and 4, and the runs of Figures 4 (a wide range of alpha) and 5 (alpha from 0 to 1 as hard mining)."""
