"""The one door to TF-Ranking, whose import needs the ``tf.estimator`` that TensorFlow dropped in 2.16."""

import importlib
import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import tensorflow as tf

__all__ = ["import_tensorflow_ranking"]


class _EstimatorStub(ModuleType):
    """What TF-Ranking reads of ``tf.estimator`` while it is imported: the mode keys, as default arguments."""

    ModeKeys = SimpleNamespace(TRAIN="train", EVAL="eval", PREDICT="infer")

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(
            f"tf.estimator.{name}: TensorFlow {tf.__version__} has no estimators. Use the Keras side of TF-Ranking "
            "(tfr.keras, tfr.data); its estimator, feature, head, model and ext modules cannot work."
        )


def import_tensorflow_ranking() -> ModuleType:
    """Imports ``tensorflow_ranking`` with a stand-in for ``tf.estimator``, and returns it.

    The stand-in is in ``sys.modules`` only while the import runs, and TensorFlow itself stays as it was:
    ``hasattr(tf, "estimator")`` is False afterwards. The Keras losses and metrics and the parsing of
    ExampleListWithContext (ELWC) and SequenceExample work; what needs an estimator raises an AttributeError that says
    so. The failing plain import is https://github.com/tensorflow/ranking/issues/362.

    Returns:
      The module ``tensorflow_ranking``; a second call returns the same one.

    Raises:
      ImportError: If ``tensorflow-ranking`` is not installed.

    >>> tfr = import_tensorflow_ranking()
    >>> loss = tfr.keras.losses.ApproxNDCGLoss()
    """
    # "from package import name" falls back to sys.modules["<package.__name__>.name"].
    names = [f"{package.__name__}.estimator" for package in (tf, tf.compat.v1)]
    stubs = {name: _EstimatorStub(name) for name in names if name not in sys.modules}
    sys.modules.update(stubs)
    try:
        return importlib.import_module("tensorflow_ranking")
    finally:
        for name in stubs:
            del sys.modules[name]
