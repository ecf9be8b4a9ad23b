"""Tags for spans: `IO` and `BIO`, spans -> tags, and the best allowed tags by Viterbi's algorithm in graph code."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from xdeepint_ext.utils.dtypes import at_least_float32

__all__ = ["SCHEMES", "TagScheme", "best_tags", "span_edges", "tags_of_spans"]


@dataclasses.dataclass(frozen=True)
class TagScheme:
    """How tags spell spans. Tag 0 is O, outside.

    Args:
      name: of the scheme.
      tags: their letters. Without B, a span is a run of I, and spans that touch become one.

    Example:
      >>> SCHEMES["bio"].follows
      ((True, True, False), (True, True, True), (True, True, True))
    """

    name: str
    tags: tuple[str, ...]

    @property
    def first(self) -> int:
        """The tag of a span's first token."""
        return self.tags.index("B") if "B" in self.tags else self.inside

    @property
    def inside(self) -> int:
        """The tag of a span's other tokens."""
        return self.tags.index("I")

    @property
    def follows(self) -> tuple[tuple[bool, ...], ...]:
        """`follows[i][j]`: whether tag j may stand behind tag i. Only I behind O is wrong, where there is a B."""
        tags = range(len(self.tags))
        return tuple(tuple(i != 0 or j in (0, self.first) for j in tags) for i in tags)


SCHEMES = {scheme.name: scheme for scheme in (TagScheme("io", ("O", "I")), TagScheme("bio", ("O", "B", "I")))}


def find_scheme(name: str) -> TagScheme:
    """The scheme of that name.

    Raises:
      ValueError: there is none.
    """
    if name not in SCHEMES:
        raise ValueError(f"scheme must be one of {tuple(SCHEMES)}, got {name!r}")
    return SCHEMES[name]


def tags_of_spans(spans: Sequence[tuple[int, int]], length: int, scheme: TagScheme) -> np.ndarray:
    """Tags, (length,) int8, that spell the spans.

    Args:
      spans: (first token, one behind the last).
      length: number of tokens.
      scheme: of the tags.

    Raises:
      ValueError: a span is empty, out of range, or lies over another.

    Example:
      >>> tags_of_spans([(1, 3), (3, 4)], 5, SCHEMES["bio"]).tolist()
      [0, 1, 2, 1, 0]
    """
    tags = np.zeros(length, np.int8)
    for start, end in spans:
        if not 0 <= start < end <= length:
            raise ValueError(f"spans must lie in [0, {length}] and hold a token, got {(start, end)}")
        if tags[start:end].any():
            raise ValueError(f"spans must not overlap, got {sorted(spans)}")
        tags[start:end] = scheme.inside
        tags[start] = scheme.first
    return tags


def span_edges(tags: tf.Tensor, scheme: TagScheme) -> tuple[tf.Tensor, tf.Tensor]:
    """Whether a span starts, and whether one ends, at each token.

    Args:
      tags: (B, n) integers.
      scheme: of the tags.

    Returns:
      Two (B, n) booleans; the i-th True of a row of the first and that of the second belong together.
    """
    inside = tags > 0
    before = tf.pad(inside[:, :-1], [[0, 0], [1, 0]])
    starts = inside & ~before
    if scheme.first != scheme.inside:
        starts |= tags == scheme.first
    goes_on = tf.pad(inside[:, 1:] & ~starts[:, 1:], [[0, 0], [0, 1]])
    return starts, inside & ~goes_on


def best_tags(
    log_probs: tf.Tensor, mask: tf.Tensor, scheme: TagScheme, allow_empty: bool | tf.Tensor = True
) -> tf.Tensor:
    """The allowed tags of the highest total log-probability: `argmax_T Σ_t log p_t[T_t]`, T allowed by the scheme.

    Where the best is no span at all and `allow_empty` is False, it is the best of those with at least one span.
    Exact, by dynamic programming over (tag, whether a span came before); ties go to the lower tag.

    Args:
      log_probs: (B, n, tags).
      mask: (B, n) booleans: tokens that may be tagged; the others are O.
      scheme: of the tags.
      allow_empty: whether no span is an answer, one for all or (B,).

    Returns:
      (B, n) int32. A row whose mask is False everywhere is O.

    Example:
      >>> log_probs = tf.math.log([[[0.1, 0.2, 0.7], [0.3, 0.3, 0.4]]])
      >>> best_tags(log_probs, tf.ones((1, 2), tf.bool), SCHEMES["bio"]).numpy().tolist()
      [[1, 2]]

    Source: constrained Viterbi decoding as in Segal et al., EMNLP 2020 (TASE).
    """
    tag_of_state, start, transitions = _states(scheme)
    # One more token, outside, as tf.scan needs a step to make.
    log_probs = tf.pad(at_least_float32(log_probs), [[0, 0], [0, 1], [0, 0]])
    mask = tf.pad(mask, [[0, 0], [0, 1]])
    emissions = tf.gather(log_probs, tag_of_state, axis=2)
    only_outside = tf.constant(np.where(tag_of_state == 0, 0.0, -np.inf), log_probs.dtype)
    emissions = tf.transpose(tf.where(mask[..., tf.newaxis], emissions, only_outside), (1, 0, 2))
    start, transitions = (tf.constant(x, log_probs.dtype) for x in (start, transitions))

    def forward(carry: tuple[tf.Tensor, tf.Tensor], emission: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        ways = carry[0][:, :, tf.newaxis] + transitions
        return tf.reduce_max(ways, axis=1) + emission, tf.argmax(ways, axis=1, output_type=tf.int32)

    first = emissions[0] + start
    no_way = tf.zeros_like(first, tf.int32)
    scores, origins = tf.scan(forward, emissions[1:], (first, no_way))
    ends = tf.concat([first[tf.newaxis], scores], axis=0)[-1]
    possible = tf.reduce_max(ends[:, 1:], axis=1) > -np.inf
    forced = possible & ~tf.convert_to_tensor(allow_empty)
    nothing = tf.where(forced, tf.constant(-np.inf, ends.dtype), ends[:, 0])
    last = tf.argmax(tf.concat([nothing[:, tf.newaxis], ends[:, 1:]], axis=1), axis=1, output_type=tf.int32)

    def backward(state: tf.Tensor, origin: tf.Tensor) -> tf.Tensor:
        return tf.gather(origin, state, axis=1, batch_dims=1)

    states = tf.scan(backward, origins, last, reverse=True)
    states = tf.transpose(tf.concat([states, last[tf.newaxis]], axis=0))
    return tf.gather(tf.constant(tag_of_state, tf.int32), states[:, :-1])


def _states(scheme: TagScheme) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """State 0 is "O, and no span so far", state 1 + i is tag i with a span so far (or beginning here).

    Returns:
      (S,) the tags of the states; (S,) and (S, S): 0 where a sequence may start, or go from row to column, else -inf.
    """
    count = len(scheme.tags)
    allowed = np.zeros((count + 1, count + 1), bool)
    allowed[0, [0, 1 + scheme.first]] = True
    allowed[1:, 1:] = scheme.follows
    tag_of_state = np.array([0, *range(count)])
    return tag_of_state, np.where(allowed[0], 0.0, -np.inf), np.where(allowed, 0.0, -np.inf)
