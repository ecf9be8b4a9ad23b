"""A finished Trainer on Adult, which the tests of the extra tfx share."""

import dataclasses
from typing import Any

import pytest

LABEL = "above_50k"
ROLES = {LABEL: "label", "sex_id": "user"}
CONFIG = {"model": "xdeepint", "model_options": {"width": 8, "num_layers": 2}, "batch_size": 256, "roles": ROLES}
CONFIG |= {"optimizer": "adam", "learning_rate": 0.005, "calibration": "platt", "not_served": ["income"]}


@dataclasses.dataclass
class FnArgs:
    """The attributes of TFX's class of that name that a Trainer's user code reads."""

    train_files: list[str]
    eval_files: list[str]
    transform_graph_path: str | None
    serving_model_dir: str
    model_run_dir: str
    train_steps: int | None = 60
    eval_steps: int | None = 8
    custom_config: dict[str, Any] = dataclasses.field(default_factory=lambda: dict(CONFIG))


@pytest.fixture(scope="session")
def trained(shared_data, tmp_path_factory):
    """(FnArgs of a finished Trainer, raw evaluation examples)."""
    pytest.importorskip("tensorflow_transform", reason="needs the extra tfx")
    from tests.tfx import adult
    from xdeepint_ext.tfx import run_fn

    folder, source = tmp_path_factory.mktemp("tfx"), shared_data("adult_uci")
    evaluation = adult.examples(source / "adult.test.gz", 3000)
    adult.transform(adult.examples(source / "adult.data.gz", 8000), evaluation, folder)
    arguments = FnArgs(
        [str(folder / "train*")],
        [str(folder / "eval*")],
        str(folder / "graph"),
        str(folder / "Format-Serving"),
        str(folder / "model_run"),
    )
    run_fn(arguments)
    return arguments, evaluation
