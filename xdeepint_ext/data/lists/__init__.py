"""Lists for pre-ranking: drawn from a log (`write_lists`), read as tensors (`read_lists`)."""

from xdeepint_ext.data.lists.catalogue import read_catalogue
from xdeepint_ext.data.lists.describe import describe_lists
from xdeepint_ext.data.lists.draw import Lists, ListSampler, ListSizes, Scorer
from xdeepint_ext.data.lists.interactions import Entities, EventLog, History, Interactions
from xdeepint_ext.data.lists.labels import SoftLabel, hard_labels, soft_labels
from xdeepint_ext.data.lists.read import read_lists
from xdeepint_ext.data.lists.write import write_lists

__all__ = [
    "Entities",
    "EventLog",
    "History",
    "Interactions",
    "ListSampler",
    "ListSizes",
    "Lists",
    "Scorer",
    "SoftLabel",
    "describe_lists",
    "hard_labels",
    "read_catalogue",
    "read_lists",
    "soft_labels",
    "write_lists",
]
