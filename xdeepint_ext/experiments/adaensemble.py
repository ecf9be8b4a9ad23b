"""Trains AdaEnsemble on a prepared directory.

    python -m xdeepint_ext.experiments.adaensemble --data_dir=DATA --model_dir=MODEL --flagfile=adaensemble_criteo

`--flagfile` takes a file, or the name of one in `experiments/flagfiles/`; flags behind it on the command line win.
"""

from xdeepint_ext.experiments.command_line import launch

if __name__ == "__main__":
    launch("adaensemble", __doc__)
