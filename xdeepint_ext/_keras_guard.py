"""Refuses to work with Keras 3, once and clearly, instead of failing later in a hundred different ways."""

import os
import pathlib
import sys

# The values for which TensorFlow itself hands out tf_keras as tf.keras.
_LEGACY = ("1", "true", "True")

_CURE = (
    "Import xdeepint_ext, or set the environment variable TF_USE_LEGACY_KERAS=1, before anything touches tf.keras "
    "(the first lines of the program are the right place), and start the process again."
)


def require_keras_2() -> None:
    """Checks that ``tf.keras`` is, or will be on its first use, the Keras 2 of the ``tf-keras`` package.

    Without TensorFlow in the process nothing is imported: the environment variable alone decides what ``tf.keras``
    will be. TensorFlow imported before the variable was set resolves ``tf.keras`` as it should, but would take
    ``from tensorflow.keras import ...`` from Keras 3, and switch ``tf.keras`` with it; so its search path gets what
    TensorFlow itself puts there when it finds the variable set.

    Raises:
      ImportError: If the environment asks for Keras 3 or if a Keras 3 ``tf.keras`` is already active.
    """
    setting = os.environ.get("TF_USE_LEGACY_KERAS")
    if setting not in _LEGACY:
        raise ImportError(
            f"xdeepint_ext needs Keras 2, but the environment asks for Keras 3: TF_USE_LEGACY_KERAS={setting!r} "
            f"(expected one of {', '.join(_LEGACY)}). {_CURE}"
        )
    tensorflow = sys.modules.get("tensorflow")
    if tensorflow is None:
        return
    import tf_keras

    if tensorflow.keras.layers.Layer is not tf_keras.layers.Layer:
        raise ImportError(
            f"xdeepint_ext needs Keras 2, but Keras {tensorflow.keras.__version__} is already active as tf.keras: "
            f"something used tf.keras in this process before xdeepint_ext was imported. {_CURE}"
        )
    keras_2 = str(pathlib.Path(tf_keras.__file__).parent / "api" / "_v2")
    if keras_2 not in tensorflow.__path__:
        tensorflow.__path__.insert(0, keras_2)
