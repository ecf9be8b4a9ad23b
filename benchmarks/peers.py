"""DeepCTR in an environment and a process of its own, asked for one run at a time."""

from __future__ import annotations

import json
import os
import pathlib
import subprocess
import sys
import venv

import numpy as np

from benchmarks.settings import Setting
from benchmarks.timing import Timing

_ROOT = pathlib.Path(__file__).resolve().parent.parent
ENVIRONMENT = _ROOT / ".venv-deepctr"
# TensorFlow 2.15 is the last with Keras 2, for which DeepCTR was written. Python 3.12 needs a newer one, where DeepCTR
# runs on tf-keras. A step takes the same time on both.
_TF_KERAS = sys.version_info >= (3, 12)
_REQUIREMENTS = [
    *(["tensorflow==2.21.*", "tf-keras==2.21.*"] if _TF_KERAS else ["tensorflow==2.15.1"]),
    "deepctr==0.9.4",
]


def make_environment() -> pathlib.Path:
    """Installs DeepCTR into `ENVIRONMENT`, once, and returns its Python."""
    python = ENVIRONMENT / "bin" / "python"
    ready = ENVIRONMENT / "ready"
    if not ready.exists() or ready.read_text(encoding="utf-8").split("\n") != _REQUIREMENTS:
        venv.create(ENVIRONMENT, clear=True, with_pip=True)
        install = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *_REQUIREMENTS]
        subprocess.run(install, check=True)
        ready.write_text("\n".join(_REQUIREMENTS), encoding="utf-8")
    return python


def save(setting: Setting, ranks: np.ndarray, labels: np.ndarray, directory: str) -> None:
    """Writes a setting's data for the worker."""
    np.save(os.path.join(directory, f"{setting.name}.ids.npy"), ranks)
    np.save(os.path.join(directory, f"{setting.name}.labels.npy"), labels)


class Peers:
    """The worker process; a context manager.

    Args:
      directory: where `save` wrote.
    """

    def __init__(self, directory: str) -> None:
        python = make_environment()
        answers, theirs = os.pipe()  # not standard output, where DeepCTR prints
        self._process = subprocess.Popen(
            [python, "-m", "benchmarks.deepctr_worker", directory, str(theirs)],
            cwd=_ROOT,
            env={**os.environ, "TF_USE_LEGACY_KERAS": str(int(_TF_KERAS)), "TF_CPP_MIN_LOG_LEVEL": "2"},
            stdin=subprocess.PIPE,
            stdout=sys.stderr,
            pass_fds=[theirs],
        )
        os.close(theirs)
        self._answers = os.fdopen(answers)
        self.versions = self._answer()

    def run(self, setting: Setting, model: str) -> Timing:
        """One run."""
        os.write(self._process.stdin.fileno(), f"{json.dumps([setting.name, model])}\n".encode())
        return Timing(*json.loads(self._answer()))

    def _answer(self) -> str:
        line = self._answers.readline()
        if not line:
            raise RuntimeError(f"benchmarks.deepctr_worker ended with exit status {self._process.wait()}")
        return line.strip()

    def __enter__(self) -> Peers:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.stdin.close()
        self._process.wait()
        self._answers.close()
