"""Raw files -> TFRecord (`data.prepare`), TFRecord -> `tf.data` (`read`), and frames in memory (`from_pandas`)."""

from xdeepint_ext.data.epochs import steps_per_epoch
from xdeepint_ext.data.frames import from_pandas
from xdeepint_ext.data.manifest import DataError, Manifest
from xdeepint_ext.data.preprocessor import Preprocessor
from xdeepint_ext.data.read import read

__all__ = ["DataError", "Manifest", "Preprocessor", "from_pandas", "read", "steps_per_epoch"]
