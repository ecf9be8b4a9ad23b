"""What TensorFlow Model Analysis does with a SavedModel and an `EvalConfig`, by its documentation, in a few lines.

For each batch of serialized raw tf.Examples: the signature `signature_name` is called with them; the signatures in
`preprocessing_function_names` are, too, and what they give joins the features; the label is the feature `label_key`,
the prediction the output `prediction_key`; slices are values of raw features, `feature_keys` of a `SlicingSpec`.
"""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from xdeepint_ext import metrics

OVERALL = ()


def analyse(
    folder: str, config: Mapping[str, Any], examples: Sequence[bytes], batch_size: int = 512
) -> dict[tuple[tuple[str, Any], ...], dict[str, float]]:
    """Slice key, as TFMA writes it (`()` or `(("sex", "Male"),)`), -> metrics."""
    (model,) = config["model_specs"]
    loaded = tf.saved_model.load(folder)
    predictions, labels, rows = [], [], []
    for start in range(0, len(examples), batch_size):
        batch = tf.constant(examples[start : start + batch_size])
        ((name, _),) = loaded.signatures[model["signature_name"]].structured_input_signature[1].items()
        outputs = loaded.signatures[model["signature_name"]](**{name: batch})
        predictions.append(outputs[model["prediction_key"]].numpy()[:, 0])
        features: dict[str, np.ndarray] = {}
        for function in model["preprocessing_function_names"]:
            features |= {key: x.numpy() for key, x in loaded.signatures[function](examples=batch).items()}
        labels.append(features[model["label_key"]].ravel())
        rows += [tf.train.Example.FromString(example).features.feature for example in batch.numpy()]
    y, p = np.concatenate(labels), np.concatenate(predictions)
    found = {}
    for spec in config["slicing_specs"]:
        keys = spec.get("feature_keys", [])
        of_rows = [tuple((key, _value(row[key])) for key in keys) for row in rows]
        for key in sorted(set(of_rows)):
            inside = np.array([other == key for other in of_rows])
            positives = y[inside].sum()
            found[key] = {
                "example_count": int(inside.sum()),
                "auc": metrics.auc(y[inside], p[inside]),
                "calibration": float(p[inside].sum() / positives) if positives else float("nan"),
            }
    return found


def _value(feature: Any) -> Any:
    values = list(itertools.chain(feature.bytes_list.value, feature.float_list.value, feature.int64_list.value))
    return values[0].decode() if values and isinstance(values[0], bytes) else values[0] if values else None
