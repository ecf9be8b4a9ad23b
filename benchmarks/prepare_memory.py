"""Peak memory and speed of `data.prepare` on generated text in Criteo's format.

    python benchmarks/prepare_memory.py --gigabytes 0.25 1

The text has 13 integers and 26 categories of 8 hex digits, a tenth of them empty; category columns draw from 10 to 10
million values by Zipf's law, so that most distinct values are rare. Text and output lie in a temporary directory (about
six times the text) and are removed. Memory is sampled twice a second over all processes of the command: the largest
resident size of one process, and the sum of proportional sizes (pages that processes share count once). Linux only.
"""

from __future__ import annotations

import argparse
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import time
from typing import BinaryIO

import numpy as np

ROOT = pathlib.Path(__file__).parents[1]
ROWS = 20_000


def generate(stream: BinaryIO, size: int) -> int:
    """Writes about `size` bytes; returns the number of rows."""
    rng = np.random.default_rng(0)
    values = np.logspace(1, 7, 26).astype(np.int64)
    rows = 0
    while stream.tell() < size:
        columns = [rng.integers(0, 2, ROWS).astype(str).tolist()]
        for _ in range(13):
            columns.append(blanked(rng, np.floor(rng.lognormal(3, 2, ROWS)).astype(np.int64).astype(str)))
        for i, count in enumerate(values):
            # The inverse of a continuous Zipf law with exponent 1: rank = count ** uniform.
            ids = np.floor(count ** rng.random(ROWS)).astype(np.int64) * 2_654_435_761 + i
            columns.append(blanked(rng, np.array(list(map("{:08x}".format, (ids % 2**32).tolist())))))
        stream.write("".join("\t".join(row) + "\n" for row in zip(*columns, strict=True)).encode())
        rows += ROWS
    return rows


def blanked(rng: np.random.Generator, texts: np.ndarray) -> list[str]:
    return np.where(rng.random(len(texts)) < 0.1, "", texts).tolist()


def family(pid: int) -> list[int]:
    """The process and all below it."""
    children: dict[int, list[int]] = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                stat = pathlib.Path("/proc", entry, "stat").read_text()
            except OSError:  # it ended
                continue
            children.setdefault(int(stat.rpartition(")")[2].split()[1]), []).append(int(entry))
    found = [pid]
    for parent in found:
        found += children.get(parent, [])
    return found


def megabytes(pid: int, file: str, key: str) -> float:
    try:
        text = pathlib.Path("/proc", str(pid), file).read_text()
    except OSError:
        return 0.0
    match = re.search(rf"^{key}:\s+(\d+) kB", text, re.MULTILINE)
    return int(match[1]) / 1024 if match else 0.0


def measure(command: list[str]) -> tuple[float, float, float, int]:
    """Seconds, the largest resident size of one process, the largest sum of proportional sizes, processes."""
    start = time.monotonic()
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL)
    largest = together = 0.0
    processes = 0
    while process.poll() is None:
        pids = family(process.pid)
        largest = max([largest, *(megabytes(pid, "status", "VmHWM") for pid in pids)])
        together = max(together, sum(megabytes(pid, "smaps_rollup", "Pss") for pid in pids))
        processes = max(processes, len(pids))
        time.sleep(0.5)
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {process.returncode}")
    return time.monotonic() - start, largest, together, processes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gigabytes", type=float, nargs="+", default=[0.25, 1.0], help="sizes of the generated text")
    parser.add_argument("--num_workers", type=int, help="worker processes; default: all cores")
    arguments = parser.parse_args()
    print(f"{os.cpu_count()} cores")
    columns = {"text, MB": 9, "rows": 10, "seconds": 8, "rows/s": 8, "largest process, MB": 20, "all, MB": 8}
    print(*(f"{name:>{width}}" for name, width in columns.items()), "processes")
    for gigabytes in arguments.gigabytes:
        with tempfile.TemporaryDirectory() as directory:
            path = pathlib.Path(directory, "train.txt")
            with open(path, "wb") as stream:
                rows = generate(stream, round(gigabytes * 1e9))
            flags = ["--dataset=criteo", f"--raw_dir={directory}", f"--output_dir={directory}/out"]
            flags += [f"--num_workers={arguments.num_workers}"] if arguments.num_workers else []
            command = [sys.executable, "-m", "xdeepint_ext.data.prepare", *flags]
            seconds, largest, together, processes = measure(command)
            print(
                f"{path.stat().st_size / 1e6:9.0f} {rows:10,} {seconds:8.1f} {rows / seconds:8,.0f} {largest:20,.0f} "
                f"{together:8,.0f} {processes:9}",
                flush=True,
            )


if __name__ == "__main__":
    main()
