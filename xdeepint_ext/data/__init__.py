"""Raw files -> TFRecord (`data.prepare`), TFRecord -> `tf.data` (`read`), and frames in memory (`from_pandas`)."""

from xdeepint_ext.data.epochs import steps_per_epoch
from xdeepint_ext.data.frames import from_pandas
from xdeepint_ext.data.lists import ListSizes, read_catalogue, read_lists, write_lists
from xdeepint_ext.data.manifest import DataError, Manifest
from xdeepint_ext.data.preprocessor import Preprocessor
from xdeepint_ext.data.read import read

__all__ = [
    "DataError",
    "ListSizes",
    "Manifest",
    "Preprocessor",
    "from_pandas",
    "read",
    "read_catalogue",
    "read_lists",
    "steps_per_epoch",
    "write_lists",
]
