"""`SpanModel`: the base of the models that answer a question with spans of a text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import tensorflow as tf

from xdeepint_ext.layers.roberta import RobertaEncoder
from xdeepint_ext.layers.tagging import find_scheme, span_edges
from xdeepint_ext.utils.replicas import sum_over_replicas

__all__ = ["SpanModel"]

END_ID = 2
"""RoBERTa's `</s>`."""

Scores = dict[str, tf.Tensor]


class SpanModel(tf.keras.Model):
    """An encoder and heads; subclasses say what the heads give, what it costs, and which tags answer best.

    Inputs: {"token_ids": (B, n)}, windows `<s> question </s></s> part of the context </s>`, padded. Labels (see
    `data.qa.windows.Windows`): {"taggings": (B, K, n), "spans": (B, M, 2), "num_answers": (B,)}. Without a loss in
    `compile` the model's own is minimised, a negative log-likelihood, summed over a window's tokens and averaged over
    the windows of the global batch.

    Args:
      encoder: token ids -> vectors.
      scheme: `bio` or `io`; how tags spell spans.
      dropout: before the heads; TASE's 0.1.
      allow_empty: whether "no answer" is an answer; else there is always at least one. TASE: False.

    Raises:
      ValueError: an unknown scheme.
    """

    def __init__(
        self,
        encoder: RobertaEncoder | Mapping[str, Any],
        scheme: str = "bio",
        dropout: float = 0.1,
        allow_empty: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if isinstance(encoder, Mapping):
            encoder = tf.keras.saving.deserialize_keras_object(encoder)
        if not isinstance(encoder, RobertaEncoder):
            raise ValueError(f"encoder must be a RobertaEncoder, such as RobertaEncoder.of_size('base'), got {encoder}")
        self.encoder = encoder
        self.scheme = find_scheme(scheme)
        self.dropout = dropout
        self.allow_empty = allow_empty
        self.jit_trunk = False
        self._jitted_encoder: Any = None
        self._loss_mean = tf.keras.metrics.Mean("loss")
        self._drop = tf.keras.layers.Dropout(dropout)

    def encode(self, inputs: Mapping[str, tf.Tensor], training: bool | None = None) -> tf.Tensor:
        """The tokens' vectors, (B, n, width), after dropout."""
        if not self.jit_trunk:
            encoder = self.encoder
        else:
            if self._jitted_encoder is None:
                self.encoder(inputs["token_ids"][:, :1])  # variables cannot be made inside
                self._jitted_encoder = tf.function(self.encoder, jit_compile=True)
            encoder = self._jitted_encoder
        return self._drop(encoder(inputs["token_ids"], training=training), training=training)

    def compile(self, optimizer: Any = "adam", loss: Any = None, *, jit_compile: bool = False, **options: Any) -> None:
        """Keras's `compile`.

        Args:
          optimizer: one for all.
          loss: None = the model's own likelihood.
          jit_compile: compile the encoder with XLA; windows then need one length, as `make_windows` gives them.
          **options: Keras's.
        """
        super().compile(optimizer, loss, **options)
        self.jit_trunk = bool(jit_compile)

    def build_weights(self) -> None:
        """Makes all weights, by a call on padding."""
        self({"token_ids": tf.ones((1, 4), tf.int32)})

    def build_from_config(self, config: Mapping[str, Any]) -> None:
        """Makes the weights of a saved model anew: Keras's own way would call it on floats."""
        self.build_weights()

    def window_losses(self, outputs: Any, labels: Mapping[str, tf.Tensor], token_ids: tf.Tensor) -> tf.Tensor:
        """(B,): the negative log-likelihood of each window's labels."""
        raise NotImplementedError

    def scores(self, outputs: Any, token_ids: tf.Tensor) -> tuple[Scores, Scores]:
        """What the answers are decided by: values of the tokens, (W, n, ...), and of the windows, (W, ...)."""
        raise NotImplementedError

    def decide(
        self, tokens: Scores, windows: Scores, mask: tf.Tensor, allow_empty: bool
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """The best tags.

        Args:
          tokens: as of `scores`, (R, L, ...): of whole reports.
          windows: as of `scores`, (R, ...): of each report the least of its windows' values.
          mask: (R, L) booleans: where a report has tokens.
          allow_empty: whether no answer is an answer.

        Returns:
          Tags, (R, L) integers, and log-probabilities of them, (R, L), whose mean over a span is its score's log.
        """
        raise NotImplementedError

    @property
    def metrics(self) -> list[tf.keras.metrics.Metric]:
        """The mean loss first, unless `compile` was given a loss, which then has its own."""
        others = [metric for metric in super().metrics if metric is not self._loss_mean]
        return others if getattr(self, "loss", None) else [self._loss_mean, *others]

    def compute_loss(
        self, x: Any = None, y: Any = None, y_pred: Any = None, sample_weight: tf.Tensor | None = None, **kwargs: Any
    ) -> tf.Tensor:
        """The mean of `window_losses` over the global batch, or the loss that `compile` was given."""
        if self.loss:
            return super().compute_loss(x, y, y_pred, sample_weight, **kwargs)
        missing = {"taggings", "spans", "num_answers"} - set(y if isinstance(y, Mapping) else ())
        if missing:
            raise ValueError(f"labels must be a dict with taggings, spans and num_answers; it lacks {sorted(missing)}")
        losses = self.window_losses(y_pred, y, x["token_ids"])
        weights = tf.ones_like(losses) if sample_weight is None else tf.cast(sample_weight, losses.dtype)
        total, count = tf.reduce_sum(weights * losses), tf.reduce_sum(weights)
        self._loss_mean.update_state(tf.math.divide_no_nan(total, count), count)
        added = tf.add_n(self.losses) / tf.distribute.get_strategy().num_replicas_in_sync if self.losses else 0.0
        return tf.math.divide_no_nan(total, sum_over_replicas([count])[0]) + added

    def compute_metrics(self, x: Any, y: Any, y_pred: Any, sample_weight: Any) -> dict[str, tf.Tensor]:
        """The mean loss; Keras's own metrics where `compile` was given a loss."""
        if self.loss:
            return super().compute_metrics(x, y, y_pred, sample_weight)
        return {metric.name: metric.result() for metric in self.metrics}

    def answer(
        self,
        token_ids: tf.Tensor,
        reports: tf.Tensor,
        positions: tf.Tensor,
        offsets: tf.Tensor,
        allow_empty: bool | None = None,
    ) -> dict[str, tf.Tensor]:
        """The answers in reports that come as windows: merged first, then decided once for each report.

        Args:
          token_ids: (W, n) int32, windows.
          reports: (W,) int32: number of each window's report, from 0 on.
          positions: (W, n) int32: number of each token in its report, -1 where another window answers for it, or none.
          offsets: (W, n, 2) int32: first character of each token (or its word), and one behind its last.
          allow_empty: default the model's.

        Returns:
          report (N,), start (N,), end (N,), int32, and score (N,) in (0, 1], one row an answer, in the reports' order.
          The score is the geometric mean of the probabilities of the span's tags, our reading.
        """
        outputs = self({"token_ids": token_ids}, training=False)
        tokens, windows = self.scores(outputs, token_ids)
        count = tf.reduce_max(tf.concat([reports, [-1]], axis=0)) + 1
        length = tf.maximum(tf.reduce_max(tf.concat([tf.reshape(positions, [-1]), [-1]], axis=0)) + 1, 1)
        owned = tf.where(positions >= 0)
        places = tf.stack([tf.gather(reports, owned[:, 0]), tf.gather_nd(positions, owned)], axis=1)

        def merge(values: tf.Tensor) -> tf.Tensor:
            shape = tf.concat([[count, length], tf.shape(values)[2:]], axis=0)
            return tf.scatter_nd(places, tf.gather_nd(values, owned), shape)

        least = {name: tf.math.unsorted_segment_min(values, reports, count) for name, values in windows.items()}
        mask = merge(tf.ones_like(positions)) > 0
        empty = self.allow_empty if allow_empty is None else allow_empty
        tags, log_probs = self.decide({name: merge(values) for name, values in tokens.items()}, least, mask, empty)
        return self._spans(tags, log_probs, merge(offsets))

    def _spans(self, tags: tf.Tensor, log_probs: tf.Tensor, offsets: tf.Tensor) -> dict[str, tf.Tensor]:
        starts, ends = (tf.where(edges) for edges in span_edges(tags, self.scheme))
        total = tf.cumsum(log_probs, axis=1)
        sums = tf.gather_nd(total, ends) - tf.gather_nd(total - log_probs, starts)
        sizes = tf.cast(ends[:, 1] - starts[:, 1] + 1, sums.dtype)
        return {
            "report": tf.cast(starts[:, 0], tf.int32),
            "start": tf.gather_nd(offsets, starts)[:, 0],
            "end": tf.gather_nd(offsets, ends)[:, 1],
            "score": tf.exp(sums / sizes),
        }

    def get_config(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "encoder": tf.keras.saving.serialize_keras_object(self.encoder),
            "scheme": self.scheme.name,
            "dropout": self.dropout,
            "allow_empty": self.allow_empty,
        }


def context_mask(token_ids: tf.Tensor) -> tf.Tensor:
    """(B, n) booleans: the tokens between the second `</s>` and the third."""
    ends = token_ids == END_ID
    return (tf.cumsum(tf.cast(ends, tf.int32), axis=1) == 2) & ~ends


def question_mask(token_ids: tf.Tensor) -> tf.Tensor:
    """(B, n) booleans: the tokens between `<s>` and the first `</s>`."""
    before_end = tf.cumsum(tf.cast(token_ids == END_ID, tf.int32), axis=1) == 0
    return before_end & (tf.range(tf.shape(token_ids)[1]) > 0)


def edge_mask(token_ids: tf.Tensor) -> tf.Tensor:
    """(B, n) booleans: where a single answer may start and end: the context, and `<s>` for no answer."""
    return context_mask(token_ids) | (tf.range(tf.shape(token_ids)[1]) == 0)
