"""How much of the exact best items an approximate index finds: faiss, the extra `ann`."""

from __future__ import annotations

import time
from typing import NamedTuple

import numpy as np

from xdeepint_ext.metrics import best_items, hits_of
from xdeepint_ext.serving.approximate import require_faiss

__all__ = ["IndexReport", "approximate_recall"]


class IndexReport(NamedTuple):
    """What an index finds, and what it costs.

    Attributes:
      recall: share of the exact best n that the index finds, mean over users.
      build_seconds: to make it.
      search_seconds: for all users.
      exact_seconds: of exact search, for all users.
    """

    recall: float
    build_seconds: float
    search_seconds: float
    exact_seconds: float


def approximate_recall(
    users: np.ndarray, items: np.ndarray, n: int, neighbours: int = 32, effort: int = 200
) -> IndexReport:
    """Builds faiss's graph of neighbours (HNSW) over items, and compares what it finds with exact search.

    Args:
      users: (U, d) float32, vectors of `user_tower`.
      items: (N, d) float32, vectors of `item_tower`: logits are their inner products times gamma.
      n: items a user.
      neighbours: of an item in the graph. Default: 32, faiss's usual choice.
      effort: candidates looked at for a place in the graph, and by a search. Our choice: 200.

    Raises:
      ImportError: faiss is not installed; `pip install 'xdeepint-ext[ann]'`.
      ValueError: n is no number of the catalogue's items.

    Source: Malkov and Yashunin (arXiv 1603.09320); faiss.
    """
    faiss = require_faiss()
    started = time.perf_counter()
    exact = best_items(users, items, n).items
    exact_seconds = time.perf_counter() - started
    started = time.perf_counter()
    index = faiss.IndexHNSWFlat(items.shape[1], neighbours, faiss.METRIC_INNER_PRODUCT)
    index.hnsw.efConstruction = index.hnsw.efSearch = effort
    index.add(np.ascontiguousarray(items, np.float32))
    built = time.perf_counter()
    found = index.search(np.ascontiguousarray(users, np.float32), n)[1]
    searched = time.perf_counter()
    hits = hits_of(found, exact.ravel(), np.arange(len(users) + 1) * n)
    return IndexReport(float(hits.mean()), built - started, searched - built, exact_seconds)
