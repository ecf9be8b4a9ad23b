"""How many users change their codes between two evaluations."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from xdeepint_ext.experiments.config import Config
from xdeepint_ext.experiments.inputs import Inputs
from xdeepint_ext.experiments.progress_state import Position
from xdeepint_ext.models import GroupRanker, RankingModel

__all__ = ["CodeWatch", "changed_shares", "different_users", "first_rows", "quantize_users"]

USERS = 1000


class CodeWatch:
    """Compares the codes of the valid split's first users with those of the evaluation before.

    Args:
      model: a built model.
      batches: (features, ...) of a split.
    """

    def __init__(self, model: GroupRanker, batches: Iterable[Any]) -> None:
        self._quantize = quantize_users(model)
        self._features = different_users(batches, model.fields.names, USERS)

    @classmethod
    def of(cls, model: RankingModel, inputs: Inputs, config: Config) -> CodeWatch | None:
        """The watch of a run; None where its model has no codes, or nothing is evaluated while it trains."""
        if not isinstance(model, GroupRanker) or config.early_stopping == "none":
            return None
        return cls(model, inputs.batches("valid"))

    def __call__(self, now: Position) -> dict[str, float]:
        """`codes_changed_l`: share of the users of whom the codes up to level l are others; none the first time.

        Args:
          now: holds the codes from one evaluation to the next.
        """
        codes = self._quantize(self._features)[1].numpy()
        before, now.codes = now.codes, codes.tolist()
        return changed_shares(np.array(before), codes) if before else {}


def changed_shares(before: np.ndarray, after: np.ndarray) -> dict[str, float]:
    """Of users' codes (n, L), the share of those whose codes up to level l differ, by `codes_changed_l`."""
    differ = np.logical_or.accumulate(before != after, axis=1)
    return {f"codes_changed_{level}": float(share) for level, share in enumerate(differ.mean(axis=0), 1)}


def quantize_users(model: GroupRanker) -> Callable[[Any], tuple[tf.Tensor, tf.Tensor, tf.Tensor]]:
    """A function from features to users' vectors (B, d), codes (B, L) and squared lengths of the residuals (B, L + 1).

    Args:
      model: a built model.
    """

    @tf.function(reduce_retracing=True)
    def quantize(features: Any) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        user, _ = model.fields.split(model.embed(features))
        found = model.quantizer(user, training=False)
        return user, found["codes"], tf.reduce_sum(tf.square(found["residuals"]), axis=2)

    def of_batch(features: Any) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        found: tuple[tf.Tensor, tf.Tensor, tf.Tensor] = quantize({n: features[n] for n in model.input_signature()})
        return found

    return of_batch


def first_rows(features: Mapping[str, Any], names: Iterable[str]) -> np.ndarray:
    """The place of the first row of each different user of a batch: of equal values of all these features."""
    columns = np.column_stack([np.asarray(features[name]) for name in names])
    return np.sort(np.unique(columns, axis=0, return_index=True)[1])


def different_users(batches: Iterable[Any], names: Sequence[str], most: int | None = None) -> dict[str, tf.Tensor]:
    """The features of the first record of each different user.

    Args:
      batches: (features, ...), one at least.
      names: the features that a user is made of.
      most: users; None: all.
    """
    taken: list[dict[str, tf.Tensor]] = []
    found = 0
    for features, *_ in batches:
        rows = first_rows(features, names)
        taken.append({name: tf.gather(x, rows) for name, x in features.items()})
        found += len(rows)
        if most is not None and found >= most:
            joined = _joined(taken, names)
            taken, found = [joined], len(next(iter(joined.values())))
            if found >= most:
                break
    return {name: x[:most] for name, x in _joined(taken, names).items()}


def _joined(parts: Sequence[Mapping[str, tf.Tensor]], names: Sequence[str]) -> dict[str, tf.Tensor]:
    """The parts one after another, each user once."""
    joined = {name: tf.concat([part[name] for part in parts], axis=0) for name in parts[0]}
    rows = first_rows(joined, names)
    return {name: tf.gather(x, rows) for name, x in joined.items()}
