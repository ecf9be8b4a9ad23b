"""Small prepared data that the experiments' tests share."""

import numpy as np
import pandas as pd
import pytest

from xdeepint_ext.data.prepare import prepare
from xdeepint_ext.experiments import Config
from xdeepint_ext.schema import Feature, Schema

ROWS = {"train": 1200, "valid": 300, "test": 300}


def clicks(seed, rows):
    """Users click items of their own parity, more so at home, and always in the rare tab; age says nothing."""
    random = np.random.default_rng(seed)
    frame = pd.DataFrame({"user": random.integers(0, 12, rows), "item": random.integers(0, 9, rows)})
    frame["tab"] = random.choice(["home", "search", "rare"], rows, p=[0.6, 0.38, 0.02])
    frame["tags"] = ["|".join(f"t{i % 4}" for i in range(item, item + 1 + item % 3)) for item in frame["item"]]
    frame["age"] = random.integers(18, 80, rows)
    odds = 3.0 * ((frame["user"] + frame["item"]) % 2) - 1.5 + (frame["tab"] == "home")
    frame["click"] = (random.uniform(size=rows) < 1 / (1 + np.exp(-odds))).astype(int)
    frame.loc[frame["tab"] == "rare", "click"] = 1
    frame["like"] = np.where(frame["click"] == 1, (random.uniform(size=rows) < 0.3).astype(int).astype(str), "")
    return frame


def schema(*labels):
    return Schema(
        [
            Feature("user", role=("user", "group"), dtype="int"),
            Feature("item", role="item", dtype="int"),
            Feature("tab", role="context"),
            Feature("tags", "multi", max_length=3),
            Feature("age", "numeric", dtype="int", binning="quantile", num_bins=4),
            *(Feature(label, "numeric", "label", required=label != "like") for label in labels),
        ]
    )


@pytest.fixture(scope="session")
def data_dirs(tmp_path_factory):
    """Prepared data: `one` task, `two` tasks, and data `without_valid`."""
    made = {}
    for name, labels in (("one", ("click",)), ("two", ("click", "like")), ("without_valid", ("click",))):
        raw = tmp_path_factory.mktemp(f"raw_{name}")
        for number, (split, rows) in enumerate(ROWS.items()):
            frame = clicks(number, rows)
            if name != "without_valid" or split != "valid":
                frame.to_csv(raw / f"{split}.csv", index=False)
        schema(*labels).save(raw)
        made[name] = str(tmp_path_factory.mktemp("data") / name)
        ignored = {"ignore_columns": "like"} if len(labels) == 1 else {}
        prepare("csv", raw_dir=raw, output_dir=made[name], num_shards=2, **ignored)
    return made


@pytest.fixture(scope="session")
def config_of(data_dirs):
    """A function that makes the config of a run of a second or two, in memory."""

    def make(**changes):
        return Config(
            **{
                "data_dir": data_dirs["one"],
                "batch_size": 100,
                "epochs": 3,
                "optimizer": "adam",
                "learning_rate": 0.02,
                "cache": True,
                "progress": False,
                "report": False,
                "model_options": {"width": 4, "num_layers": 1, "num_subspaces": 2},
                **changes,
            }
        )

    return make


@pytest.fixture(scope="session")
def small_config(config_of):
    """Such a config."""
    return config_of()
