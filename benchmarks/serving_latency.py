"""Latency of exported models as TF Serving runs them, and their size on disk.

    python -m benchmarks.serving_latency [--models=xdeepint,ranktower] [--seconds=5]

Each model has its experiment's default hyper-parameters, 10 features of users and 10 of items of width 16 with 10,000
ids each, random weights, and is exported by `serving.export` (retrieval models, whose answer is the best 100 of 10,000
items, by `export_recommender`). `predict_raw` (`serving_default` of retrieval models) then runs on 1, 64 and 1,024 rows
of raw ids through TensorFlow's C API, in a process without Python's TensorFlow, one request at a time on all cores:
preprocessing included, network and request parsing not. Models of texts are left out: their batches are windows.
"""

import xdeepint_ext  # noqa: F401, I001  # before TensorFlow, as it chooses Keras 2

import argparse
import os
import pathlib
import tempfile
from typing import Any

import numpy as np
import tensorflow as tf

from benchmarks.report import machine
from tests.serving import c_api
from xdeepint_ext import data, serving
from xdeepint_ext.data.manifest import vocabulary_file
from xdeepint_ext.experiments.config import Config
from xdeepint_ext.experiments.model_options import MODELS
from xdeepint_ext.schema import Feature, Schema
from xdeepint_ext.serving.recommend import export_recommender

BATCHES = (1, 64, 1024)
FEATURES, VALUES, LENGTH = 10, 10_000, 50
RETRIEVAL = ("mf", "pooled", "sasrec")
OPTIONS: dict[str, dict[str, Any]] = {"dat": {"category": "item_0"}}
IDS: dict[str, Any] = {"dtype": "int", "lookup": "identity", "num_values": VALUES}


def rankers_schema() -> Schema:
    """Ids of users, then of items."""
    features = []
    for side, role in (("user", "group"), ("item", "item_id")):
        features += [Feature(f"{side}_{n}", role=(side, role) if n == 0 else side, **IDS) for n in range(FEATURES)]
    return Schema([*features, Feature("click", "numeric", "label")])


def retrieval_schema(model: str) -> Schema:
    """Users by their id (mf) or their last items, and items in a vocabulary."""
    item: dict[str, Any] = {"dtype": "int", "table": "item", "num_values": VALUES}
    users = [Feature("user", role="user", **IDS)]
    if model != "mf":
        users = [Feature("items", "sequence", "user", max_length=LENGTH, **item)]
    return Schema([*users, Feature("item", "multi", "item", max_length=1, source="targets", **item)])


def export(model: str, folder: pathlib.Path) -> str:
    """Writes a model with random weights; gives its folder."""
    schema = retrieval_schema(model) if model in RETRIEVAL else rankers_schema()
    made = Config(data_dir="-", model=model, model_options=OPTIONS.get(model, {})).options.make(schema)
    if model not in RETRIEVAL:
        return serving.export(made, data.Preprocessor(schema, None), folder / "base", prune=False)
    vocabulary = folder / "vocabulary"
    vocabulary.mkdir()
    pathlib.Path(vocabulary_file(vocabulary, "item")).write_text("".join(f"{n}\n" for n in range(VALUES)))
    return export_recommender(made, data.Preprocessor(schema, vocabulary), folder / "base")


def request(model: str, rows: int) -> tuple[str, dict[str, np.ndarray]]:
    """Signature and inputs."""
    random = np.random.default_rng(0)
    if model in RETRIEVAL:
        name, shape = ("user", (rows,)) if model == "mf" else ("items", (rows, LENGTH))
        return "serving_default", {name: random.integers(0, VALUES, shape)}
    names = [feature.raw_name for feature in rankers_schema().inputs]
    return "predict_raw", {name: random.integers(0, VALUES, rows) for name in names}


def size(folder: str) -> float:
    """MB on disk."""
    return sum(os.path.getsize(file) for file in pathlib.Path(folder).rglob("*") if file.is_file()) / 1e6


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", default=",".join(MODELS), help="names of models of experiments")
    parser.add_argument("--seconds", type=float, default=5.0, help="for each model and batch size")
    options = parser.parse_args()
    print(f"{machine()}, TensorFlow {tf.__version__}\n")
    titles = [f"{quantile} of {rows:,}, ms" for rows in BATCHES for quantile in ("p50", "p99")]
    print(f"| model | {' | '.join(titles)} | fewest calls | on disk, MB |")
    print(f"| --- |{' ---: |' * (len(titles) + 2)}")
    for model in options.models.split(","):
        with tempfile.TemporaryDirectory() as scratch:
            folder = export(model, pathlib.Path(scratch))
            requests = [(folder, *request(model, rows)) for rows in BATCHES]
            times = c_api.time_signatures(requests, options.seconds)
            cells = [f"{1e3 * np.quantile(found, q):.2f}" for found in times for q in (0.5, 0.99)]
            print(f"| {model} | {' | '.join(cells)} | {min(map(len, times))} | {size(folder):.1f} |", flush=True)


if __name__ == "__main__":
    main()
