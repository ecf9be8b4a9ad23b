"""`python -m benchmarks`: the measurements of speed, one after another, each in a process of its own."""

import subprocess
import sys

MODULES = ("training_speed", "profile_step", "optimizer_step", "loss_step")

for module in MODULES:
    print(f"\n## {module}\n", flush=True)
    subprocess.run([sys.executable, "-m", f"benchmarks.{module}"], check=True)
