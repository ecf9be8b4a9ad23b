"""What several workers must train alike: settings of four models, and a program that is one of the workers.

    python -m tests.experiments.equal_weights OUT SETTING=DATA_DIR ...

trains each setting with --strategy=multi_worker, and leaves the weights in OUT/SETTING.npz.
"""

import os
import sys

import numpy as np

from xdeepint_ext.experiments import Config, execute
from xdeepint_ext.experiments.cluster_config import is_chief

COMMON = {
    "max_steps": 50,
    "epochs": 10,
    "batch_size": 96,  # the last batch of an epoch of 1200 records is short
    "early_stopping": "none",
    "evaluate": (),
    "progress": False,
    "report": False,
    "mixed_precision": "float64",
    "learning_rate": 0.02,
}
SETTINGS = {
    "xdeepint": {"optimizer": "paper", "model_options": {"width": 4, "num_layers": 2, "num_subspaces": 2}},
    "adaensemble": {"optimizer": "adam", "model_options": {"width": 4, "jitter": 0.0}},
    "groupce": {
        "optimizer": "adam",
        "model_options": {"width": 4, "units": (8,), "num_levels": 2, "codebook_size": 3, "gather_groups": True},
    },
    "ranktower": {"optimizer": "adam", "batch_size": 8, "model_options": {}},
}


def config_of(setting, data_dir, **changes):
    """The config of a setting."""
    return Config(**{"data_dir": data_dir, "model": setting, **COMMON, **SETTINGS[setting], **changes})


def main(out, *settings):
    for name, data_dir in (setting.split("=", 1) for setting in settings):
        model = execute(config_of(name, data_dir, strategy="multi_worker")).model
        if is_chief("multi_worker"):
            np.savez(os.path.join(out, f"{name}.npz"), *[weight.numpy() for weight in model.weights])


if __name__ == "__main__":
    main(*sys.argv[1:])
