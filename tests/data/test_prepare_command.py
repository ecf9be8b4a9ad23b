"""`python -m xdeepint_ext.data.prepare`: flags, what it prints, and how it ends."""

import os
import pathlib
import signal
import subprocess
import sys
import time

import xdeepint_ext
from xdeepint_ext.data import Manifest
from xdeepint_ext.data.loaders import LOADERS, loader_options
from xdeepint_ext.data.prepare import _FLAGS

ROOT = pathlib.Path(xdeepint_ext.__file__).parents[1]


def start(*flags: str) -> subprocess.Popen:
    command = [sys.executable, "-m", "xdeepint_ext.data.prepare", *flags]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    pipe = subprocess.PIPE
    return subprocess.Popen(command, env=environment, cwd=ROOT, text=True, stdout=pipe, stderr=pipe)


def test_commands(tmp_path: pathlib.Path) -> None:
    """Three processes side by side, as each needs seconds to import TensorFlow."""
    out, bad, killed = (tmp_path / name for name in ("out", "bad", "killed"))
    good = start("--dataset=synthetic", f"--output_dir={out}", "--rows=2000", "--seed=3", "--compression=GZIP")
    wrong = start("--dataset=synthetic", f"--output_dir={bad}", "--history")
    endless = start("--dataset=synthetic", f"--output_dir={killed}", "--rows=1000000000", "--num_workers=1")
    try:
        while not list(tmp_path.glob(".killed.*.partial/*.partial")) and endless.poll() is None:
            time.sleep(0.05)
        assert not killed.exists()
        endless.send_signal(signal.SIGTERM)
        endless.communicate(timeout=60)
        assert endless.returncode == 143
    finally:
        endless.kill()
    printed, progress = good.communicate(timeout=60)
    assert good.returncode == 0, progress
    manifest = Manifest.load(out)
    assert manifest.compression == "GZIP"
    assert manifest.notes["options"] == {"rows": 2000}
    assert f"train: {manifest.records('train'):,} records in 4 shards" in printed
    assert f"best reachable on test: AUC {manifest.notes['best_auc']:.4f}" in printed
    assert "prepare synthetic:  2,000 rows" in progress
    _, message = wrong.communicate(timeout=60)
    assert wrong.returncode == 1
    assert "error: 'history' is no option of dataset 'synthetic'; it has" in message
    assert "Traceback" not in message
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


def test_every_option_of_a_loader_is_a_flag_and_no_flag_has_two_meanings() -> None:
    common = {name for name, _, _ in _FLAGS} | {"dataset"}
    options = loader_options()
    assert not common & set(options)
    for loader in LOADERS.values():
        for name in loader.__dataclass_fields__:
            assert name in options
    assert all(kind in (str, int, float, bool) for kind, _ in options.values())
