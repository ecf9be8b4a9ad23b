"""Trains GroupCE, or an objective that it is compared with on the same network, on a prepared directory.

    python -m xdeepint_ext.experiments.groupce --data_dir=DATA --model_dir=MODEL --flagfile=kuairand_groupce
    python -m xdeepint_ext.experiments.groupce --data_dir=DATA --model_dir=LISTCE --objective=list_ce --grouping=user

`--objective` names the objective, `--backbone` the network, `--grouping` what the lists of a loss on lists are, and
`--order` which training records come together. `--warm_start=MODEL` goes on from a finished run with the next day's
records. `--flagfile` takes a file, or the name of one in `experiments/flagfiles/`; flags behind it on the command line
win.
"""

from xdeepint_ext.experiments.command_line import launch

# The specification's choice for all objectives.
DEFAULTS = {"optimizer": "adam"}

if __name__ == "__main__":
    launch("groupce", __doc__, defaults=DEFAULTS)
