"""Users with their items, for retrieval: records of users, batches of targets among negatives, the catalogue."""

from xdeepint_ext.data.sequences.read import Sequences, read_sequences
from xdeepint_ext.data.sequences.sample import Sampling, training_batches
from xdeepint_ext.utils.catalogue import Catalogue

__all__ = ["Catalogue", "Sampling", "Sequences", "read_sequences", "training_batches"]
