"""Trains DynInt on a prepared directory.

    python -m xdeepint_ext.experiments.dynint --data_dir=DATA --model_dir=MODEL --flagfile=dynint_weighted_criteo

`--flagfile` takes a file, or the name of one in `experiments/flagfiles/`; flags behind it on the command line win.
"""

from xdeepint_ext.experiments.command_line import launch

if __name__ == "__main__":
    launch("dynint", __doc__)
