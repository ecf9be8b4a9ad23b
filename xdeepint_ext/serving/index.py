"""Indexes of the items of plain two-tower models, whose score is an inner product.

    python -m xdeepint_ext.serving.index --model=EXPORTED --cache=CACHE --output=INDEX --top_k=100 [--kind=approximate]

`exact` is a SavedModel, user tower and TFRS's `BruteForce` in one: raw columns of users in, item ids and scores out.
`approximate` is a graph of neighbours that faiss searches (`pip install 'xdeepint-ext[ann]'`).
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from xdeepint_ext.serving.item_cache import ItemCache
from xdeepint_ext.serving.loaded_towers import LoadedTowers, as_towers
from xdeepint_ext.serving.servable import check_servable, silent
from xdeepint_ext.serving.version_folder import written_beside

FACTS = "index.json"
TOP_K, VECTORS_AT_ONCE = 100, 65536


def export_index(
    model: LoadedTowers | str | os.PathLike[str],
    cache: str | os.PathLike[str],
    path: str | os.PathLike[str],
    *,
    top_k: int = TOP_K,
    task: str | None = None,
    version: int | None = None,
) -> str:
    """Writes user tower and all items' vectors as one SavedModel, `path/<version>/`, for TF Serving.

    Its signature `serving_default` takes the user's raw columns, (B,), and gives `items`, the ids of the best, (B, K),
    the best first, with `logit` and `probability`, float32 (B, K). Search is exact: every item is scored.

    Args:
      model: an export, loaded or its folder, whose logits are inner products, as `TwoTower`'s and `DAT`'s.
      cache: the item cache of this model, in any type.
      path: the index's base folder; made where it does not exist.
      top_k: K; all items, where there are fewer. Default: 100, our choice.
      task: whose vectors; None = the model's only one.
      version: a whole number; None = one more than the highest in `path`, 1 at first.

    Returns:
      The version's folder.

    Raises:
      ValueError: the model's score is no inner product, or an argument is out of range.
      CacheError: the cache is another model's.
      FileExistsError: the version exists.
      OSError: the folder cannot be written.

    Example:
      >>> export_index("models/clicks", "caches/clicks", "indexes/clicks", top_k=50)  # doctest: +SKIP
      'indexes/clicks/1'
    """
    from tensorflow_recommenders.layers.factorized_top_k import BruteForce

    towers, items, task = opened(model, cache, task)
    if top_k < 1:
        raise ValueError(f"top_k must be >= 1, got {top_k}")
    top_k = min(top_k, len(items))
    ids, vectors = _all(items, task)
    search = BruteForce(k=top_k)
    search.index(tf.constant(vectors), tf.constant(ids))
    search(tf.constant(vectors[:1]))  # Keras exports only what was called
    scale = towers.product_scale[task]

    def best(raw: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        products, found = search(towers.user_tower(raw)[task])
        logits = scale * products
        return {"items": found, "logit": logits, "probability": tf.sigmoid(logits)}

    archive = tf.keras.export.ExportArchive()
    for part in (search, towers.module):
        archive.track(part)
    archive.add_endpoint("serving_default", best, [towers.columns("user")])
    with written_beside(os.fspath(path), version) as (folder, final):
        with silent():
            archive.write_out(folder)
        check_servable(folder)
        write_facts(folder, towers, task, len(items), top_k=top_k)
    return final


def opened(
    model: LoadedTowers | str | os.PathLike[str], cache: str | os.PathLike[str], task: str | None
) -> tuple[LoadedTowers, ItemCache, str]:
    """The model, its cache, and the task.

    Raises:
      ValueError: the model's score of the task is no inner product.
    """
    towers = as_towers(model)
    task = towers.task(task)
    if towers.product_scale[task] is None:
        raise ValueError(
            f"model: an index finds the largest inner products, but the score of task {task!r} of the model at "
            f"{towers.folder} is none, as no calibrated one is; use serving.prerank"
        )
    return towers, ItemCache(cache, towers.fingerprint), task


def write_facts(folder: str, towers: LoadedTowers, task: str, items: int, **others: Any) -> None:
    """Writes index.json: of which model, task and how many items an index is."""
    facts = {"fingerprint": towers.fingerprint, "task": task, "items": items, **others}
    with open(os.path.join(folder, FACTS), "w", encoding="utf-8") as stream:
        json.dump(facts, stream, indent=1)
        stream.write("\n")


def _all(items: ItemCache, task: str) -> tuple[np.ndarray, np.ndarray]:
    ids = np.concatenate([shard.ids for shard in items.shards])
    vectors = np.concatenate([chunk[task] for _, chunk in items.chunks(VECTORS_AT_ONCE)])
    return ids, vectors


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line; 0, or 1 after an error that the message on standard error explains."""
    parser = argparse.ArgumentParser(
        prog="python -m xdeepint_ext.serving.index", description=(__doc__ or "").split("\n\n")[0]
    )
    parser.add_argument("--model", required=True, help="folder of the export: a version, or the base folder")
    parser.add_argument("--cache", required=True, help="folder of the item cache")
    parser.add_argument("--output", required=True, help="base folder of the index; a version is made in it")
    parser.add_argument("--kind", default="exact", choices=("exact", "approximate"))
    parser.add_argument("--top_k", type=int, default=TOP_K, help="items that an exact index finds")
    parser.add_argument("--task", help="whose vectors, where the model has several tasks")
    options = parser.parse_args(arguments)
    try:
        if options.kind == "exact":
            folder = export_index(options.model, options.cache, options.output, top_k=options.top_k, task=options.task)
        else:
            from xdeepint_ext.serving.approximate import build_index

            folder = build_index(options.model, options.cache, options.output, task=options.task)
    except (ImportError, OSError, ValueError, tf.errors.OpError) as error:
        print(f"index: {error}", file=sys.stderr)
        return 1
    print(folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
