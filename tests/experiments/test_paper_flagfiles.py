"""The papers' flagfiles for Avazu and iPinYou, from raw files to a trained step."""

import pathlib

import numpy as np
import pytest

from tests.data.raw_ads import write_avazu, write_ipinyou
from xdeepint_ext.data.prepare import prepare
from xdeepint_ext.experiments import execute
from xdeepint_ext.experiments.flags import FLAGFILES, parse

FIELDS = {"avazu": 21, "ipinyou": 16}
CODE = {"avazu": {"split": "repo"}, "ipinyou": {"valid_fraction": 0, "min_count": 101}}
# The specification's section 1.1: weights of the layers, L (F h)^2, with the settings of the code.
PIN_WEIGHTS = {"xdeepint_avazu_code": 14_112, "xdeepint_ipinyou_code": 512}
BUNDLED = sorted(path.stem for path in pathlib.Path(FLAGFILES).glob("*.cfg") if set(path.stem.split("_")) & set(FIELDS))


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, bool], str]:
    """(data set, as the authors' code splits it) -> prepared directory."""
    root = tmp_path_factory.mktemp("ads")
    raw = {
        "avazu": write_avazu(root / "raw_avazu", 1100, "train", zipped=True),
        "ipinyou": write_ipinyou(root / "raw_ipinyou" / "all", 756, 150).parent,
    }
    found = {}
    for name, directory in raw.items():
        for code in (False, True):
            found[name, code] = str(root / f"{name}_{code}")
            prepare(name, raw_dir=directory, output_dir=found[name, code], **(CODE[name] if code else {}))
    return found


def test_both_papers_have_flagfiles_for_both() -> None:
    assert {name.split("_")[0] + "_" + data for name in BUNDLED for data in FIELDS if data in name} == {
        f"{paper}_{data}" for paper in ("xdeepint", "dynint") for data in FIELDS
    }


def is_slow(name: str) -> bool:
    """Flagfiles of a paper differ little: one of each, and one of the code's, are enough of a first look."""
    return name not in ("xdeepint_avazu", "xdeepint_ipinyou_code", "dynint_generated_avazu")


@pytest.mark.parametrize("name", [pytest.param(x, marks=pytest.mark.slow if is_slow(x) else ()) for x in BUNDLED])
def test_a_step_with_a_flagfile(name: str, prepared: dict[tuple[str, bool], str]) -> None:
    """The data have the paper's fields and the splits that the flagfile asks for."""
    family, *words = name.split("_")
    data, code = next(word for word in words if word in FIELDS), "code" in words
    flags = [f"--data_dir={prepared[data, code]}", f"--flagfile={name}", "--max_steps=1", "--noprogress", "--noreport"]
    run = execute(parse(family, flags))
    assert run.state.now.step == 1
    assert np.isfinite(run.metrics["test.logloss"])
    assert run.model.schema.num_fields == FIELDS[data]
    if name in PIN_WEIGHTS:
        assert sum(np.prod(kernel.shape) for kernel in run.model.pin.kernels) == PIN_WEIGHTS[name]
