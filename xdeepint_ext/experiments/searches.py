"""What `compare` tries for each model before it trains it: settings stated as data.

Every model of a data set has the same number of trials, at most eight. They start from the flagfile of the
data set (`flagfiles/DATASET.cfg`): its inputs, its budget, and G-FTRL's constants. `lambda` is both penalties of
G-FTRL.
"""

from __future__ import annotations

from typing import Any

from xdeepint_ext.experiments.retrieval_tables import RETRIEVAL_SEARCHES, RETRIEVAL_VARIANTS

__all__ = ["SEARCHES", "VARIANTS"]

VARIANTS: dict[str, dict[str, Any]] = {
    "arf": {"model": "twotower", "loss": "arf_50"},
    **{
        objective: {"model": "groupce", "objective": objective}
        for objective in ("logloss", "pairwise_logistic", "softmax_ce", "list_ce", "jrc")
    },
    **RETRIEVAL_VARIANTS,
}
"""Rows of comparisons that are a model under another name -> flags that make it so."""

# An FM's pairs are F^2 / 2 products: from embeddings of the usual deviation it starts as noise.
# Small data overfit: the sizes are small, and G-FTRL on the tables (Adam on the rest) drops what does not help.
_GROUP_FTRL = "optimizer=group_ftrl_adam embedding_learning_rate=0.05 learning_rate=0.001"
# Where a linear part decides, its table wants the rate that LR chooses.
_GROUP_FTRL_FAST = "optimizer=group_ftrl_adam embedding_learning_rate=0.2 learning_rate=0.001"
_DEEP = {
    "adult": [
        "optimizer=adam learning_rate=0.0003 width=8 units=128,64 dropout=0.2",
        "optimizer=adam learning_rate=0.001 width=8 units=128,64 dropout=0.5",
        f"{_GROUP_FTRL} lambda=2 width=8 units=128,64 dropout=0.2",
        f"{_GROUP_FTRL} lambda=5 width=8 units=128,64 dropout=0.2",
        f"{_GROUP_FTRL} lambda=5 width=8 units=128,64 dropout=0.5",
        f"{_GROUP_FTRL} lambda=5 width=8 units=400,400,400 dropout=0.5",
        f"{_GROUP_FTRL} lambda=10 width=8 units=128,64 dropout=0.2",
        f"{_GROUP_FTRL} lambda=10 width=16 units=128,64 dropout=0.2",
    ],
    "kuairand": [
        "optimizer=adam learning_rate=0.0003 width=8 units=128,64 dropout=0.2",
        f"{_GROUP_FTRL} lambda=5 width=8 units=128,64 dropout=0.2",
        f"{_GROUP_FTRL} lambda=10 width=8 units=128,64 dropout=0.2",
        f"{_GROUP_FTRL} lambda=10 width=8 units=400,400,400 dropout=0.5",
        f"{_GROUP_FTRL} lambda=2 width=8 units=128,64 dropout=0.2",
        f"{_GROUP_FTRL} lambda=2 width=8 units=128,64 dropout=0.5",
        f"{_GROUP_FTRL} lambda=0.5 width=8 units=128,64 dropout=0.2",
        f"{_GROUP_FTRL_FAST} lambda=2 width=8 units=128,64 dropout=0.2",
    ],
}


def _varied(**choices: tuple[str, ...]) -> dict[str, list[str]]:
    """The deep models' settings with a further flag, whose choices take turns."""
    return {
        dataset: [
            " ".join([setting, *(f"{flag}={values[number % len(values)]}" for flag, values in choices.items())])
            for number, setting in enumerate(settings)
        ]
        for dataset, settings in _DEEP.items()
    }


_BASELINES = {
    "dnn": _DEEP,
    "widedeep": _DEEP,
    "deepfm": _DEEP,
    "deepcrossing": _DEEP,
    "dcn": _varied(num_layers=("2", "3")),
    "dcnv2": _varied(num_layers=("2", "3")),
    "pnn": _varied(outer_product=("superposition", "none")),
    "xdeepfm": _varied(cin_units=("32,32", "16")),
    "autoint": _varied(num_layers=("2", "1"), head_dim=("8",)),
    "fibinet": _varied(bilinear_kind=("field_all", "field_each")),
}

# As an FM, it starts as noise from embeddings of the usual deviation.
_QUIET = "width=8 units=128,64 dropout=0.2 embedding_stddev=0.01"
_BASELINES["deepfm"] = {
    **_DEEP,
    "kuairand": [
        *(_DEEP["kuairand"][number] for number in (0, 1, 3, 4)),
        f"{_GROUP_FTRL} lambda=2 {_QUIET}",
        f"{_GROUP_FTRL} lambda=5 {_QUIET}",
        f"{_GROUP_FTRL} lambda=10 {_QUIET}",
        f"{_GROUP_FTRL_FAST} lambda=5 {_QUIET}",
    ],
}
# Its products of the fields' embeddings want rows that larger penalties make zero.
_BASELINES["fibinet"] = {
    **_BASELINES["fibinet"],
    "kuairand": [
        *(_BASELINES["fibinet"]["kuairand"][number] for number in (0, 1, 4, 6)),
        f"{_GROUP_FTRL} lambda=0.5 width=8 units=128,64 dropout=0.5 bilinear_kind=field_all",
        f"{_GROUP_FTRL} lambda=0.5 width=8 units=128,64 dropout=0.2 bilinear_kind=field_each",
        f"{_GROUP_FTRL} lambda=0.2 width=8 units=128,64 dropout=0.2 bilinear_kind=field_all",
        f"{_GROUP_FTRL} lambda=0.2 width=8 units=128,64 dropout=0.5 bilinear_kind=field_each",
    ],
}

# FTRL on the interaction layers as on the tables; Adam on the generators, which it would pull to zero.
_DYNINT = "optimizer=paper embedding_learning_rate=0.05 interaction_learning_rate=0.05 learning_rate=0.001 width=8"

_ADAENSEMBLE = f"{_GROUP_FTRL} width=8 exit_steps=60"

# On lists each model may choose its loss: clicks, as its own paper has it, or RankTower's hybrid. RankTower has the
# latter, and ARF is a loss.
_ON_LISTS = [
    "loss=logloss learning_rate=0.001 units=128,64",
    "loss=logloss learning_rate=0.003 units=128,64",
    "loss=hybrid learning_rate=0.001 units=128,64",
    "loss=hybrid learning_rate=0.003 units=128,64",
]

# GroupCE and its competitors, all on DCN-V2: two penalties of the tables, and two weights of what each adds. Log loss,
# which adds nothing, has two more settings of the network.
_ON_DCNV2 = f"{_GROUP_FTRL} width=8 units=128,64"


def _with_weights(*weights: str) -> list[str]:
    return [f"{_ON_DCNV2} dropout=0.2 lambda={penalty} {weight}" for penalty in (2, 5) for weight in weights]


_OBJECTIVES = {
    "logloss": [
        f"{_ON_DCNV2} dropout=0.2 lambda=2",
        f"{_ON_DCNV2} dropout=0.2 lambda=5",
        f"{_ON_DCNV2} dropout=0.2 lambda=10",
        f"{_ON_DCNV2} dropout=0.5 lambda=5",
    ],
    **dict.fromkeys(("pairwise_logistic", "softmax_ce", "list_ce"), _with_weights("alpha=0.9", "alpha=0.5")),
    "jrc": _with_weights("alpha=0.8", "alpha=0.4"),
    "groupce": [
        f"{_ON_DCNV2} dropout=0.2 lambda=2 group_weight=0.2",
        f"{_ON_DCNV2} dropout=0.2 lambda=5 group_weight=0.2",
        f"{_ON_DCNV2} dropout=0.2 lambda=5 group_weight=1",
        f"{_ON_DCNV2} dropout=0.2 lambda=5 group_weight=0.2 num_levels=2 codebook_size=16 warmup_steps=92",
    ],
}

SEARCHES: dict[str, dict[str, list[str]]] = {
    "adult": {
        "lr": [
            "optimizer=adam learning_rate=0.003",
            "optimizer=adam learning_rate=0.01",
            "optimizer=adam learning_rate=0.03",
            "optimizer=paper learning_rate=0.05 lambda=0.1",
            "optimizer=paper learning_rate=0.05 lambda=1",
            "optimizer=paper learning_rate=0.2 lambda=0.1",
            "optimizer=paper learning_rate=0.2 lambda=1",
            "optimizer=paper learning_rate=0.2 lambda1=3 lambda2=1",
        ],
        "fm": [
            "optimizer=adam learning_rate=0.003 width=8 embedding_stddev=0.01",
            "optimizer=adam learning_rate=0.01 width=4 embedding_stddev=0.01",
            "optimizer=paper learning_rate=0.1 width=8 lambda=5",
            "optimizer=paper learning_rate=0.1 width=8 lambda=5 embedding_stddev=0.01",
            "optimizer=paper learning_rate=0.2 width=4 lambda=10 embedding_stddev=0.01",
            "optimizer=paper learning_rate=0.2 width=8 lambda=10 embedding_stddev=0.01",
            "optimizer=paper learning_rate=0.2 width=8 lambda=20 embedding_stddev=0.01",
            "optimizer=paper learning_rate=0.5 width=8 lambda=10 embedding_stddev=0.01",
        ],
        "xdeepint": [
            "num_layers=1 num_subspaces=2 width=8 lambda=5",
            "num_layers=2 num_subspaces=1 width=8 lambda=5",
            "num_layers=2 num_subspaces=2 width=8 lambda=5",
            "num_layers=2 num_subspaces=4 width=16 lambda=5",
            "num_layers=3 num_subspaces=2 width=8 lambda=5",
            "num_layers=2 num_subspaces=2 width=8 lambda=2",
            "num_layers=2 num_subspaces=2 width=8 lambda=10",
            "num_layers=2 num_subspaces=4 width=16 lambda=10",
        ],
        "dynint": [
            f"{_DYNINT} lambda=5 mode=activation num_layers=1 num_subspaces=2",
            f"{_DYNINT} lambda=10 mode=activation num_layers=1 num_subspaces=2",
            f"{_DYNINT} lambda=10 mode=generated rank=16 num_layers=1 num_subspaces=2",
            f"{_DYNINT} lambda=5 mode=weighted rank=2 num_layers=1 num_subspaces=2",
            f"{_DYNINT} lambda=10 mode=weighted rank=2 num_layers=1 num_subspaces=2",
            f"{_DYNINT} lambda=10 mode=weighted rank=1 num_layers=1 num_subspaces=2",
            f"{_DYNINT} lambda=10 mode=weighted rank=2 num_layers=2 num_subspaces=2",
            f"{_DYNINT} lambda=10 mode=weighted rank=2 num_layers=1 num_subspaces=2 reduction_ratio=4",
        ],
        "adaensemble": [
            f"{_ADAENSEMBLE} lambda=5 num_layers=4",
            f"{_ADAENSEMBLE} lambda=10 num_layers=4",
            f"{_ADAENSEMBLE} lambda=5 num_layers=2",
            f"{_ADAENSEMBLE} lambda=10 num_layers=2",
            f"{_ADAENSEMBLE} lambda=10 num_layers=2 k=2",
            f"{_ADAENSEMBLE} lambda=10 num_layers=1",
            f"{_ADAENSEMBLE} lambda=10 num_layers=2 k=2 experts=gated_dense,cross,pin",
            f"{_ADAENSEMBLE} lambda=10 num_layers=2 balance_weight=0.01",
        ],
        **{model: settings["adult"] for model, settings in _BASELINES.items()},
    },
    "kuairand": {
        "lr": [
            "optimizer=adam learning_rate=0.003",
            "optimizer=adam learning_rate=0.01",
            "optimizer=paper learning_rate=0.05 lambda=0.1",
            "optimizer=paper learning_rate=0.2 lambda=1",
            "optimizer=adam learning_rate=0.005",
            "optimizer=paper learning_rate=0.2 lambda=0.3",
            "optimizer=paper learning_rate=0.2 lambda=3",
            "optimizer=paper learning_rate=0.5 lambda=1",
        ],
        "fm": [
            "optimizer=adam learning_rate=0.003 width=4 embedding_stddev=0.01",
            "optimizer=paper learning_rate=0.05 width=8 lambda=10",
            "optimizer=paper learning_rate=0.1 width=8 lambda=20 embedding_stddev=0.01",
            "optimizer=paper learning_rate=0.2 width=8 lambda=10 embedding_stddev=0.01",
            "optimizer=paper learning_rate=0.2 width=8 lambda=5 embedding_stddev=0.01",
            "optimizer=paper learning_rate=0.2 width=8 lambda=20 embedding_stddev=0.01",
            "optimizer=paper learning_rate=0.5 width=8 lambda=10 embedding_stddev=0.01",
            "optimizer=paper learning_rate=0.2 width=4 lambda=10 embedding_stddev=0.01",
        ],
        "xdeepint": [
            "num_layers=2 num_subspaces=1 width=8 lambda=5",
            "num_layers=2 num_subspaces=2 width=8 lambda=2",
            "num_layers=1 num_subspaces=2 width=8 lambda=5",
            "num_layers=3 num_subspaces=2 width=16 lambda=5",
            "num_layers=1 num_subspaces=2 width=8 lambda=2",
            "num_layers=1 num_subspaces=2 width=8 lambda=0.5",
            "num_layers=2 num_subspaces=2 width=8 lambda=0.5",
            "num_layers=1 num_subspaces=2 width=8 lambda=2 learning_rate=0.2",
        ],
        "dynint": [
            f"{_DYNINT} lambda=5 mode=activation num_layers=1 num_subspaces=2",
            f"{_DYNINT} lambda=10 mode=generated rank=16 num_layers=1 num_subspaces=2",
            f"{_DYNINT} lambda=5 mode=weighted rank=2 num_layers=1 num_subspaces=2",
            f"{_DYNINT} lambda=10 mode=weighted rank=2 num_layers=1 num_subspaces=2",
            f"{_DYNINT} lambda=2 mode=activation num_layers=1 num_subspaces=2",
            f"{_DYNINT} lambda=0.5 mode=activation num_layers=1 num_subspaces=2",
            f"{_DYNINT} lambda=2 mode=generated rank=16 num_layers=1 num_subspaces=2",
            f"{_DYNINT} lambda=2 mode=weighted rank=1 num_layers=1 num_subspaces=2",
        ],
        "adaensemble": [
            f"{_ADAENSEMBLE} lambda=5 num_layers=2",
            f"{_ADAENSEMBLE} lambda=10 num_layers=2",
            f"{_ADAENSEMBLE} lambda=5 num_layers=4",
            f"{_ADAENSEMBLE} lambda=5 num_layers=1",
            f"{_ADAENSEMBLE} lambda=2 num_layers=1",
            f"{_ADAENSEMBLE} lambda=2 num_layers=2",
            f"{_ADAENSEMBLE} lambda=0.5 num_layers=1",
            f"{_ADAENSEMBLE} lambda=5 num_layers=1 k=2",
        ],
        **{model: settings["kuairand"] for model, settings in _BASELINES.items()},
    },
    "kuairand_groupce": _OBJECTIVES,
    "kuairand_lists": {
        "lr": [
            "loss=logloss learning_rate=0.003",
            "loss=logloss learning_rate=0.01",
            "loss=hybrid learning_rate=0.003",
            "loss=hybrid learning_rate=0.01",
        ],
        **dict.fromkeys(("twotower", "dat", "cold", "inttower"), _ON_LISTS),
        "arf": [
            "loss=arf_10 learning_rate=0.003 units=128,64",
            "loss=arf_50 learning_rate=0.001 units=128,64",
            "loss=arf_50 learning_rate=0.003 units=128,64",
            "loss=arf_200 learning_rate=0.003 units=128,64",
        ],
        "ranktower": [
            "learning_rate=0.001 units=128,64",
            "learning_rate=0.003 units=128,64",
            "learning_rate=0.001 units=128,64 temperature=0.5",
            "learning_rate=0.003 units=128,64 temperature=0.5",
        ],
    },
    **RETRIEVAL_SEARCHES,
}
"""Data set, or a comparison's flagfile -> model, or variant -> settings, `flag=value ...`."""
