"""An approximate index over a trained model's items: its share of the exact best, by effort, and its speed.

    python -m benchmarks.approximate_search --model=MODEL/saved_model/1 --data_dir=DATA

MODEL is a run of `experiments.croloss` with --export, DATA its data. The index is faiss's graph of neighbours (extra
`ann`), built over the vectors of `item_tower`; users are all that the model's data have, and nothing is removed.
"""

import xdeepint_ext  # noqa: F401, I001  # before TensorFlow, as it chooses Keras 2

import argparse
import os
from typing import Any

import numpy as np
import tensorflow as tf

from xdeepint_ext.serving.neighbours import approximate_recall

AT_ONCE = 4096
EFFORTS = (16, 64, 200, 500)


def vectors(tower: Any, data_dir: str) -> np.ndarray:
    """(rows, d) float32: what an endpoint of one input gives for all values of its column's vocabulary."""
    [(name, spec)] = tower.structured_input_signature[1].items()
    with open(os.path.join(data_dir, "vocabulary", f"{name}.txt"), "rb") as stream:
        values = np.array(stream.read().splitlines())
    values = values.astype(spec.dtype.as_numpy_dtype) if spec.dtype != tf.string else values
    parts = [tower(**{name: tf.constant(values[i : i + AT_ONCE])}) for i in range(0, len(values), AT_ONCE)]
    return np.concatenate([part["vector"].numpy() for part in parts])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="SavedModel of a retrieval model")
    parser.add_argument("--data_dir", required=True)
    parser.add_argument("--n", type=int, nargs="+", default=[20, 100])
    arguments = parser.parse_args()
    saved = tf.saved_model.load(arguments.model)
    users, items = (vectors(saved.signatures[name], arguments.data_dir) for name in ("user_tower", "item_tower"))
    print(f"{len(users):,} users, {len(items):,} items, {users.shape[1]} columns")
    print("| N | effort | share of the exact best | building, s | search, s | exact search, s |")
    print("| ---: | ---: | ---: | ---: | ---: | ---: |")
    for n in arguments.n:
        for effort in EFFORTS:
            found = approximate_recall(users, items, n, effort=effort)
            seconds = f"{found.build_seconds:.1f} | {found.search_seconds:.2f} | {found.exact_seconds:.1f}"
            print(f"| {n} | {effort} | {found.recall:.4f} | {seconds} |", flush=True)


if __name__ == "__main__":
    main()
