"""What all tests share: Keras 2, two logical CPUs, seeds, the real data, and a budget of time."""

import xdeepint_ext  # noqa: F401, I001  # before TensorFlow, as it chooses Keras 2

import os
import pathlib
import time
from collections.abc import Callable

import pytest
import tensorflow as tf

from xdeepint_ext.experiments.strategies import mirrored_on

ROOT = pathlib.Path(__file__).parents[1]
SEED = 20230103
_START = pytest.StashKey[float]()

# MirroredStrategy needs two devices, and devices cannot be divided once TensorFlow has used one.
tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 2
)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--time-budget", type=float, metavar="SECONDS", help="skip the tests that would start after this")


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_START] = time.monotonic()


def pytest_runtest_setup(item: pytest.Item) -> None:
    budget = item.config.getoption("--time-budget")
    if budget is not None and time.monotonic() - item.config.stash[_START] > budget:
        pytest.skip(f"the time budget of {budget:g} s is used up")


@pytest.fixture(autouse=True)
def seed() -> int:
    """Seeds Python, NumPy and TensorFlow before each test; the value is the seed."""
    tf.keras.utils.set_random_seed(SEED)
    return SEED


@pytest.fixture(scope="session")
def two_replicas() -> tf.distribute.MirroredStrategy:
    """The one MirroredStrategy of the process, which experiments use too: a second would fail."""
    return mirrored_on("CPU")


@pytest.fixture(scope="session")
def shared_data() -> Callable[[str], pathlib.Path]:
    """A function: name of a real data set -> its folder; it skips the test where the folder is absent."""
    root = pathlib.Path(os.environ.get("XDEEPINT_DATA", ROOT.parent / "shared" / "data")).resolve()

    def folder(name: str) -> pathlib.Path:
        path = root / name
        if not path.is_dir():
            pytest.skip(f"real data set {name} is not at {path} (XDEEPINT_DATA names the folder of all data sets)")
        return path

    return folder
