"""Trains RankTower, or a competitor, on users' lists that experiments.ranktower_lists wrote.

    python -m xdeepint_ext.experiments.ranktower --data_dir=LISTS --model_dir=MODEL --flagfile=kuairand_lists
    python -m xdeepint_ext.experiments.ranktower --data_dir=LISTS --model_dir=ARF --model=twotower --loss=arf_50

`--loss` names a dict of losses (experiments/named_losses.py), `--stages` the items of training lists. `--flagfile`
takes a file, or the name of one in `experiments/flagfiles/`; flags behind it on the command line win.
"""

from xdeepint_ext.experiments.command_line import launch

COMPETITORS = ("cold", "dat", "inttower", "lr", "twotower")
# Our choice, of the specification's ranges.
DEFAULTS = {"batch_size": 64, "early_stopping": "ndcg", "optimizer": "adam"}

if __name__ == "__main__":
    launch("ranktower", __doc__, COMPETITORS, DEFAULTS)
