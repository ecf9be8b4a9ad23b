"""The memory that a piece of work takes. No TensorFlow here."""

from __future__ import annotations

import ctypes
import json
import os
import pathlib
import subprocess
import sys
from collections.abc import Callable
from typing import Any

GIVES_BACK = {"MALLOC_MMAP_THRESHOLD_": "65536", "TF_ENABLE_ONEDNN_OPTS": "0"}
"""Environment in which what is freed goes back to the system at once: blocks from 64 KiB on are mapped (glibc), and
oneDNN, whose allocator keeps everything, is off."""


def in_process_that_gives_back(module: str, *arguments: str) -> Any:
    """Runs a module in a process of its own that gives back what it frees; its last line is JSON."""
    command = [sys.executable, "-m", module, *arguments]
    done = subprocess.run(command, env={**os.environ, **GIVES_BACK}, stdout=subprocess.PIPE, check=True, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def status(field: str) -> float:
    """A line of /proc/self/status in MB, or NaN where there is none."""
    path = pathlib.Path("/proc/self/status")
    lines = path.read_text().splitlines() if path.exists() else []
    return next((int(line.split()[1]) / 1e3 for line in lines if line.startswith(f"{field}:")), float("nan"))


def peak_memory(work: Callable[[], None]) -> float:
    """The peak resident size in MB during `work` above that before it."""
    if not sys.platform.startswith("linux"):
        work()
        return float("nan")
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    pathlib.Path("/proc/self/clear_refs").write_text("5")  # resets VmHWM
    before = status("VmRSS")
    work()
    return status("VmHWM") - before
