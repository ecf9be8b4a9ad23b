"""Every model that can be served, small, exported as users export it, with what it answered in training.

    python -m tests.serving.zoo docs/signatures.md

writes the signatures of all of them; a test holds that file and the exports equal.
"""

import xdeepint_ext  # noqa: F401, I001  # before TensorFlow, as it chooses Keras 2

import dataclasses
import functools
import pathlib
import re
import sys
import tempfile
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow_serving.apis import prediction_log_pb2

from tests.data.raw_sequences import events, write_books, write_lightgcn
from tests.models.span_examples import CLASSES
from tests.serving import c_api, cases
from xdeepint_ext import layers, models, serving
from xdeepint_ext.data import Preprocessor
from xdeepint_ext.data.parsing import raw_signature
from xdeepint_ext.data.prepare import prepare
from xdeepint_ext.data.qa.tokenizer import BytePairTokenizer
from xdeepint_ext.models import baselines
from xdeepint_ext.schema import Feature, Schema
from xdeepint_ext.serving.recommend import export_recommender
from xdeepint_ext.serving.rows import examples, typed
from xdeepint_ext.serving.span_reader import export_spans
from xdeepint_ext.serving.tower_endpoints import has_towers

FEATURES = (
    Feature("user", "categorical", ("user", "group"), dtype="int"),
    Feature("history", "sequence", "user", table="video", max_length=4, min_count=3),
    Feature("age", "numeric", "user", required=False),
    Feature("hour", "categorical", "context", dtype="int", lookup="identity", num_values=24),
    Feature("video", "categorical", ("item", "item_id"), table="video", min_count=3),
    Feature("tags", "multi", "item", max_length=3, weights="tag_weights", combiner="mean"),
)
SHARED = ("user", "history", "age", "hour")
ASKING = 5
"""The row whose user asks `rank`."""

_DEEP = {"units": [6]}
_HEADS = {"num_heads": 2, "head_dim": 4, "units": [6]}


def _wrapped(cls: type, **options: Any) -> Callable[[Schema | str], Any]:
    def make(schema: Schema | str, width: int) -> Any:
        return cls(schema, backbone=functools.partial(baselines.DNN, width=width, units=[6]), **options)

    return make


RANKERS: dict[str, tuple[Any, dict[str, Any]]] = {
    "XDeepInt": (models.XDeepInt, {"num_layers": 2, "num_subspaces": 2}),
    "DynInt": (models.DynInt, {"mode": "weighted", "num_layers": 2, "num_subspaces": 2, "rank": 2}),
    "AdaEnsemble": (models.AdaEnsemble, {"num_layers": 2, "experts": ("pin", "cross"), "k": 1, "exit_k": 1}),
    "GroupRanker": (_wrapped(models.GroupRanker, num_levels=2, codebook_size=4), {}),
    "UserProjection": (_wrapped(models.UserProjection, units=3), {}),
    "TwoLogitRanker": (_wrapped(models.TwoLogitRanker), {}),
    "RankTower": (models.RankTower, _HEADS),
    "TwoTower": (models.TwoTower, {"units": [6, 4]}),
    "DAT": (baselines.DAT, {"units": [6, 4], "category": "video"}),
    "IntTower": (baselines.IntTower, {**_HEADS, "batch_norm": False}),
    "COLD": (baselines.COLD, _DEEP),
    "LR": (baselines.LR, {}),
    "FM": (baselines.FM, {}),
    "DNN": (baselines.DNN, _DEEP),
    "WideDeep": (baselines.WideDeep, _DEEP),
    "DeepFM": (baselines.DeepFM, _DEEP),
    "DCN": (baselines.DCN, {**_DEEP, "num_layers": 2}),
    "DCNV2": (baselines.DCNV2, {**_DEEP, "num_layers": 2}),
    "DeepCrossing": (baselines.DeepCrossing, _DEEP),
    "PNN": (baselines.PNN, _DEEP),
    "XDeepFM": (baselines.XDeepFM, {**_DEEP, "cin_units": (4,)}),
    "AutoInt": (baselines.AutoInt, {**_DEEP, "num_layers": 1, "head_dim": 4}),
    "FiBiNET": (baselines.FiBiNET, _DEEP),
}
RETRIEVERS: dict[str, type] = {
    "MatrixFactorization": models.MatrixFactorization,
    "PooledHistory": models.PooledHistory,
    "SelfAttentiveHistory": models.SelfAttentiveHistory,
}
READERS: dict[str, type] = {cls.__name__: cls for cls in CLASSES}
ZOO = (*RANKERS, *RETRIEVERS, *READERS)

Arrays = Mapping[str, np.ndarray]


@dataclasses.dataclass
class Exported:
    """A model on disk: requests to its signatures, and the model's own answers to them.

    Args:
      folder: of the version.
      requests: signature -> inputs.
      expected: signature -> outputs, of the model as it was trained, without the SavedModel.
    """

    folder: str
    requests: dict[str, Arrays]
    expected: dict[str, Arrays]


def export(name: str, folder: pathlib.Path) -> Exported:
    """One model of the zoo in a folder of its own."""
    return (_ranker if name in RANKERS else _retriever if name in RETRIEVERS else _reader)(name, folder)


def _ranker(name: str, folder: pathlib.Path) -> Exported:
    case = cases.case(features=FEATURES)
    cls, options = RANKERS[name]
    model = case.model(cls, **options)
    repeated = {
        n: tf.repeat(x[ASKING : ASKING + 1], cases.ROWS, axis=0) if n in SHARED else x for n, x in case.features.items()
    }
    columns = raw_signature(case.schema)
    raw = typed(case.rows, columns)
    of_user = {n: x for n, x in raw.items() if n in SHARED}
    of_items = {n: x for n, x in raw.items() if n not in SHARED}
    asking = {n: x[ASKING : ASKING + 1] for n, x in of_user.items()}
    requests: dict[str, Arrays] = {
        "predict_raw": raw,
        "serving_default": {"examples": examples(case.rows, columns)},
        "rank": {**asking, **of_items},
    }
    scores = case.scores(model)
    expected: dict[str, Arrays] = {
        "predict_raw": scores,
        "serving_default": scores,
        "rank": dataclasses.replace(case, features=repeated).scores(model),
    }
    if hasattr(model, "user_codes"):
        requests["user_codes"] = {n: raw[n] for n in ("user", "history", "age")}
        expected["user_codes"] = {"codes": model.user_codes(case.features).numpy()}
    if has_towers(model):
        requests |= {"user_tower": of_user, "item_tower": of_items}
        expected["user_tower"] = {"representation": model.user_tower(case.features).numpy()}
        expected["item_tower"] = {"representation": model.item_tower(case.features).numpy()}
        for side in ("user", "item"):
            half = {n: s for n, s in columns.items() if n in requests[f"{side}_tower"]}
            requests[f"{side}_tower_examples"] = {"examples": examples(case.rows, half)}
            expected[f"{side}_tower_examples"] = expected[f"{side}_tower"]
        kept = expected["user_tower"]["representation"][ASKING : ASKING + 1]
        requests["score"] = {"user": kept, "items": expected["item_tower"]["representation"]}
        expected["score"] = expected["rank"]
    return Exported(serving.export(model, case.preprocessor, folder / "base", prune=False), requests, expected)


def _retriever(name: str, folder: pathlib.Path) -> Exported:
    by_history = name != "MatrixFactorization"
    if by_history:
        prepare("amazon_books", raw_dir=write_books(folder / "raw", events()), output_dir=folder / "data")
    else:
        train = {user: list(range(user, user + 9)) for user in range(20)}
        raw = write_lightgcn(folder / "raw", train, {3: [1]})
        prepare("gowalla", raw_dir=raw, output_dir=folder / "data", valid_fraction=0.0)
    schema = Schema.load(folder / "data")
    preprocessor = Preprocessor(schema, folder / "data" / "vocabulary")
    model = RETRIEVERS[name](schema, width=8)
    path = export_recommender(model, preprocessor, folder / "base", top_k=5)
    names = (folder / "data" / "vocabulary" / "item.txt").read_text().split()
    users: dict[str, np.ndarray] = (
        {"items": np.array([[*names[:2], ""], [names[3], "", ""]])} if by_history else {"user": np.array([3, 99])}
    )
    items = {"item": np.array(names if by_history else [int(x) for x in names])}
    side = schema.select(["items"] if by_history else ["user"])
    ids = tf.range(2, 2 + len(names), dtype=tf.int64)[:, tf.newaxis]
    of_users = model.user_tower(preprocessor.part({n: tf.constant(x) for n, x in users.items()}, side)).numpy()
    of_items = model.item_tower({"item": ids}).numpy()
    return Exported(
        path,
        {"serving_default": users, "user_tower": users, "item_tower": items},
        {
            "serving_default": {"scores": _best(model.gamma * of_users @ of_items.T, users.get("items"), names)},
            "user_tower": {"vector": of_users},
            "item_tower": {"vector": of_items},
        },
    )


def _best(scores: np.ndarray, seen: np.ndarray | None, names: list[str]) -> np.ndarray:
    """The five highest scores a row, of items that the row has not seen."""
    if seen is not None:
        scores = np.where([[name in row for name in names] for row in seen.tolist()], -np.inf, scores)
    return -np.sort(-scores, axis=1)[:, :5]


def _reader(name: str, folder: pathlib.Path) -> Exported:
    tokenizer = BytePairTokenizer.train(["Tom left at nine. Ann came at ten."], 280)
    encoder = layers.RobertaEncoder.of_size("tiny", vocab_size=tokenizer.vocab_size, max_positions=30, deviation=0.3)
    model = READERS[name](encoder)
    model.build_weights()
    path = export_spans(model, tokenizer, folder / "base", max_length=24, overlap=4)
    ((_, inputs),) = [(name, x) for name, x in warm_up_requests(path)]
    found = model.answer(**{name: tf.constant(value) for name, value in inputs.items()})
    return Exported(path, {"serving_default": inputs}, {"serving_default": {n: x.numpy() for n, x in found.items()}})


def warm_up_requests(folder: str) -> list[tuple[str, dict[str, np.ndarray]]]:
    """(signature, inputs) of each request that TF Serving replays when it loads the model."""
    records = tf.data.TFRecordDataset(f"{folder}/assets.extra/tf_serving_warmup_requests")
    logs = [prediction_log_pb2.PredictionLog.FromString(record.numpy()).predict_log.request for record in records]
    return [
        (log.model_spec.signature_name, {name: tf.make_ndarray(x) for name, x in log.inputs.items()}) for log in logs
    ]


# -- the document -------------------------------------------------------------------------------------------------

HEAD = """# Signatures

What each export takes and gives, as its SavedModel says. `python -m tests.serving.zoo docs/signatures.md` makes this
page of small models of all kinds, and tests hold it and the exports equal; [serving.md](serving.md) says what the names
mean. n is any number.

The ranking models have these features: {features}.
The retrieval models are those of Amazon Books (histories of texts) and Gowalla (ids of users), with the best 5. An
export of yours has its own columns in their place: `python -m xdeepint_ext.serving.client --signatures` or
`saved_model_cli show --all --dir FOLDER` lists them.
"""


def tables(folder: str) -> dict[str, str]:
    """Signature -> its table in Markdown."""
    found = {}
    for name, definition in sorted(c_api.meta_graph(folder).signature_def.items()):
        if name.startswith("__"):
            continue
        lines = ["| | name | type | shape |", "|---|---|---|---|"]
        for direction, infos in (("in", definition.inputs), ("out", definition.outputs)):
            for key, info in sorted(infos.items()):
                sizes = ["n" if d.size < 0 else str(d.size) for d in info.tensor_shape.dim]
                shape = f"({', '.join(sizes)}{',' * (len(sizes) == 1)})"
                lines.append(f"| {direction} | `{key}` | {tf.as_dtype(info.dtype).name} | {shape} |")
        found[name] = "\n".join(lines)
    return found


def document(of_models: Mapping[str, Mapping[str, str]]) -> str:
    """The page: each table once, under the models that have it."""
    owners: dict[tuple[str, str], list[str]] = {}
    for model, by_signature in of_models.items():
        for signature, table in by_signature.items():
            owners.setdefault((signature, table), []).append(model)
    listed = ", ".join(f"{f.name} ({f.kind}, {f.roles[0]})" for f in FEATURES)
    parts = [HEAD.format(features=listed)]
    for (signature, table), found in owners.items():
        parts.append(f"## {signature}\n\nOf {', '.join(found)}.\n\n{table}\n")
    return "\n".join(parts)


def documented(page: str) -> dict[tuple[str, str], str]:
    """(model, signature) -> table, of a page that `document` made."""
    found = {}
    for signature, owners, table in re.findall(r"## (\w+)\n\nOf ([\w, ]+)\.\n\n((?:\|.*\n)+)", page):
        found |= {(model, signature): table.rstrip("\n") for model in owners.split(", ")}
    return found


def main(path: str) -> None:
    """Writes the page."""
    with tempfile.TemporaryDirectory() as scratch:
        folders = {name: pathlib.Path(scratch, name) for name in ZOO}
        for folder in folders.values():
            folder.mkdir()
        pathlib.Path(path).write_text(document({name: tables(export(name, f).folder) for name, f in folders.items()}))


if __name__ == "__main__":
    main(*sys.argv[1:])
