"""An approximate index of inner products: faiss's graph of neighbours, beside the ids of its items."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from xdeepint_ext.serving.cache_shard import CacheError
from xdeepint_ext.serving.index import FACTS, VECTORS_AT_ONCE, opened, write_facts
from xdeepint_ext.serving.item_cache import plain_ids
from xdeepint_ext.serving.loaded_towers import LoadedTowers, as_towers
from xdeepint_ext.serving.prerank import Ranked
from xdeepint_ext.serving.version_folder import versions, written_beside

GRAPH, IDS = "index.faiss", "ids.npy"
NEIGHBOURS, EFFORT = 32, 200


def build_index(
    model: LoadedTowers | str | os.PathLike[str],
    cache: str | os.PathLike[str],
    path: str | os.PathLike[str],
    *,
    task: str | None = None,
    neighbours: int = NEIGHBOURS,
    effort: int = EFFORT,
    version: int | None = None,
) -> str:
    """Writes an index of all items of a cache, `path/<version>/`, for `ApproximateIndex`.

    Args:
      model: an export, loaded or its folder, whose logits are inner products, as `TwoTower`'s and `DAT`'s. Unit
        vectors, which both give for cosines, are what such a graph is good at.
      cache: the item cache of this model.
      path: the index's base folder; made where it does not exist.
      task: whose vectors; None = the model's only one.
      neighbours: of an item in the graph; some 8 bytes each. Default: 32, faiss's usual choice.
      effort: candidates that are looked at for a neighbour's place while the graph grows. Our choice: 200.
      version: a whole number; None = the next one.

    Returns:
      The version's folder.

    Raises:
      ImportError: faiss is not installed.
      ValueError: the model's score is no inner product.
      CacheError: the cache is another model's.
      FileExistsError: the version exists.
      OSError: the folder cannot be written.

    Example:
      >>> build_index("models/clicks", "caches/clicks", "indexes/near")  # doctest: +SKIP
      'indexes/near/1'

    Source: Malkov and Yashunin, hierarchical navigable small world graphs (arXiv 1603.09320); faiss.
    """
    faiss = require_faiss()
    towers, items, task = opened(model, cache, task)
    graph = faiss.IndexHNSWFlat(items.manifest.shapes[task][0], neighbours, faiss.METRIC_INNER_PRODUCT)
    graph.hnsw.efConstruction = effort
    for _, chunk in items.chunks(VECTORS_AT_ONCE):
        graph.add(chunk[task])
    with written_beside(os.fspath(path), version) as (folder, final):
        faiss.write_index(graph, os.path.join(folder, GRAPH))
        np.save(os.path.join(folder, IDS), np.concatenate([shard.ids for shard in items.shards]))
        write_facts(folder, towers, task, len(items))
    return final


class ApproximateIndex:
    """Finds most of the best items of a user without scoring all.

    Args:
      towers: an exported model, or its folder.
      folder: what `build_index` wrote: a version, or the base folder (highest version).
      effort: candidates that a search looks at; more find more of the best, and take longer. Our choice: 200.

    Raises:
      ImportError: faiss is not installed.
      FileNotFoundError: there is no index.
      CacheError: the index is another model's.

    Example:
      >>> index = ApproximateIndex("models/clicks", "indexes/near")  # doctest: +SKIP
      >>> index.rank([{"user": 3, "age": None}], top_k=2)[0].items  # doctest: +SKIP
      [17, 4]
    """

    def __init__(
        self, towers: LoadedTowers | str | os.PathLike[str], folder: str | os.PathLike[str], *, effort: int = EFFORT
    ) -> None:
        faiss = require_faiss()
        self.towers = as_towers(towers)
        self.folder = _version(os.fspath(folder))
        with open(os.path.join(self.folder, FACTS), encoding="utf-8") as stream:
            facts = json.load(stream)
        if facts["fingerprint"] != self.towers.fingerprint:
            raise CacheError(
                f"the index {self.folder} is of model {facts['fingerprint']}, but this model is "
                f"{self.towers.fingerprint}; make an index of this one"
            )
        self.task: str = facts["task"]
        self._ids = np.load(os.path.join(self.folder, IDS), mmap_mode="r")
        self._graph = faiss.read_index(os.path.join(self.folder, GRAPH))
        self._graph.hnsw.efSearch = effort

    def rank(self, rows: Sequence[Mapping[str, Any]], top_k: int, **options: Any) -> list[Ranked]:
        """Some of the best items of each user, the best first; as `Preranker.rank`.

        Args:
          rows: the users' columns.
          top_k: most items of each.
          **options: see `xdeepint_ext.serving.rows.typed`.

        Raises:
          RowError: a row does not fit.
          ValueError: top_k is below 1.
        """
        if top_k < 1:
            raise ValueError(f"top_k must be >= 1, got {top_k}")
        vectors = self.towers.users(rows, **options)[self.task]
        products, places = self._graph.search(vectors, min(top_k, len(self._ids)))
        scale = self.towers.product_scale[self.task]
        return [
            Ranked(plain_ids(self._ids[found[found >= 0]]), scale * logits[found >= 0])
            for logits, found in zip(products, places, strict=True)
        ]


def require_faiss() -> Any:
    """The module faiss.

    Raises:
      ImportError: it is not installed; says how.
    """
    try:
        import faiss
    except ImportError as error:
        raise ImportError(f"an approximate index needs faiss: pip install 'xdeepint-ext[ann]' ({error})") from error
    return faiss


def _version(path: str) -> str:
    """The folder of an index: the path itself, or the highest version below it."""
    for folder in (path, *(os.path.join(path, str(version)) for version in reversed(versions(path)))):
        if os.path.exists(os.path.join(folder, GRAPH)):
            return folder
    raise FileNotFoundError(f"no index at {path}: neither {GRAPH} nor a version folder with one")
