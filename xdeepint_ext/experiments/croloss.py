"""Trains a retrieval model with CROLoss, or with what it is compared with, and finds the best of all items for users.

    python -m xdeepint_ext.experiments.croloss --data_dir=GOWALLA --model_dir=MODEL --flagfile=gowalla
    python -m xdeepint_ext.experiments.croloss --data_dir=BOOKS --model_dir=MODEL --flagfile=croloss_books --alpha=0.8

`--model` is `mf`, `pooled` or `sasrec`; `--objective` is ce, bce, triplet, bpr, croloss or crolambda. The data are
users with their items, such as `data.prepare` makes of gowalla or amazon_books. `--flagfile` takes a file, or the name
of one in `experiments/flagfiles/`; flags behind it on the command line win.
"""

from xdeepint_ext.experiments.command_line import launch

OTHERS = ("pooled", "sasrec")
DEFAULTS = {"batch_size": 512, "early_stopping": "recall_at_20", "optimizer": "adam"}

if __name__ == "__main__":
    launch("mf", __doc__, OTHERS, DEFAULTS)
