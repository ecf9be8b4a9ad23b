"""The peak memory and the time of ranking a whole item cache for one user, at growing sizes of the cache.

    python -m benchmarks.prerank_memory

The cache holds representations of a RankTower with 4 heads of width 16, drawn at random; it takes 1.3 GB of disk at 1
million items in float32. Each size is measured in a process of its own, which a first ranking of a small cache warms.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time

import numpy as np
import tensorflow as tf

from benchmarks.memory import in_process_that_gives_back, peak_memory
from benchmarks.report import machine
from xdeepint_ext import data
from xdeepint_ext.models import RankTower
from xdeepint_ext.schema import Feature, Schema
from xdeepint_ext.serving import LoadedTowers, Preranker, export
from xdeepint_ext.serving.cache_shard import array_name, shard_name, write_shard
from xdeepint_ext.serving.item_cache import CacheManifest
from xdeepint_ext.serving.quantize import DTYPES, encode

SIZES = (1_000, 10_000, 100_000, 1_000_000)
SHARD_ITEMS, TOP_K = 65536, 100


def exported(folder: str) -> str:
    """A RankTower of one feature a side; only what is kept and `score` matter here."""
    options = {"dtype": "int", "lookup": "identity", "num_values": 100}
    schema = Schema(
        [
            Feature("user", role="user", **options),
            Feature("item", role=("item", "item_id"), **options),
            Feature("click", "numeric", "label"),
        ]
    )
    return export(RankTower(schema), data.Preprocessor(schema, None), folder, prune=False)


def write_cache(folder: str, towers: LoadedTowers, items: int, dtype: str) -> None:
    """A cache of random representations."""
    random = np.random.default_rng(0)
    task = towers.tasks[0]
    shape = towers.users([{"user": 1}])[task].shape[1:]
    shards = {}
    os.makedirs(folder)
    for begin in range(0, items, SHARD_ITEMS):
        ids = np.arange(begin, min(begin + SHARD_ITEMS, items))
        kept = encode(random.standard_normal((len(ids), *shape), np.float32), dtype)
        arrays = {"ids": ids, "fingerprints": ids.astype(np.uint64)}
        name = shard_name(towers.fingerprint, dtype, ids, arrays["fingerprints"])
        write_shard(folder, name, {**arrays, **{array_name(task, part): x for part, x in kept.items()}})
        shards[name] = len(ids)
    CacheManifest(towers.fingerprint, dtype, {task: list(shape)}, shards).save(folder)


def measured(items: int, dtype: str) -> dict[str, float]:
    """Peak MB above what was there before, seconds, and the cache's MB."""
    with tempfile.TemporaryDirectory() as scratch:
        towers = LoadedTowers(exported(os.path.join(scratch, "model")))
        for name, size in (("small", SIZES[0]), ("whole", items)):
            write_cache(os.path.join(scratch, name), towers, size, dtype)
        Preranker(towers, os.path.join(scratch, "small")).rank([{"user": 1}], TOP_K)
        preranker = Preranker(towers, os.path.join(scratch, "whole"))
        start = time.perf_counter()
        peak = peak_memory(lambda: preranker.rank([{"user": 1}], TOP_K))
        seconds = time.perf_counter() - start
        return {"peak": peak, "seconds": seconds, "cache": items * preranker.cache.bytes_per_item() / 1e6}


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=list(SIZES))
    parser.add_argument("--dtype", default="float32", choices=DTYPES)
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(measured(options.one, options.dtype)))
        return
    print(f"{machine()}, TensorFlow {tf.__version__}, {options.dtype}\n")
    print("| items | cache, MB | peak, MB | seconds |\n| ---: | ---: | ---: | ---: |")
    for items in options.sizes:
        arguments = (f"--one={items}", f"--dtype={options.dtype}")
        found = in_process_that_gives_back("benchmarks.prerank_memory", *arguments)
        row = f"{found['cache']:,.0f} | {found['peak']:,.0f} | {found['seconds']:.2f}"
        print(f"| {items:,} | {row} |", flush=True)


if __name__ == "__main__":
    main()
