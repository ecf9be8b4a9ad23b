"""`SingleSpanQA`: where the one answer starts, and where it ends."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import tensorflow as tf

from xdeepint_ext.layers.roberta import RobertaEncoder
from xdeepint_ext.layers.span_search import best_span, edge_log_probs, tags_of_best_span
from xdeepint_ext.layers.tag_head import TokenHead
from xdeepint_ext.losses.spans import span_log_likelihood
from xdeepint_ext.models.span_model import Scores, SpanModel, edge_mask
from xdeepint_ext.utils.registry import register


@register
class SingleSpanQA(SpanModel):
    """One answer: `argmax_{s <= e} p_start[s] p_end[e]`; "no answer" is the span of `<s>` alone.

    Training minimises `-log Σ p_start[s] p_end[e]` over the gold spans, any of which will do.

    Args:
      encoder: token ids -> vectors.
      max_answer: tokens of an answer at most; 30, the usual choice.
      head_units: see `TokenHead`; 0 = linear, BERT's for SQuAD.
      scheme: of the tags in which the answer is given.
      dropout: before the head.
      allow_empty: whether "no answer" is an answer, as in SQuAD 2.

    Call arguments:
      inputs: {"token_ids": (B, n)}; see `SpanModel`.

    Returns:
      Logits of start and end, (B, n, 2), float32 or wider.

    Raises:
      ValueError: an unknown scheme, or max_answer below 1.

    Example:
      >>> model = SingleSpanQA(RobertaEncoder.of_size("tiny", vocab_size=300))
      >>> model({"token_ids": tf.constant([[0, 7, 2, 2, 8, 9, 2, 1]])}).shape
      TensorShape([1, 8, 2])

    Source: Devlin et al., BERT (arXiv 1810.04805), section 4.2 and 4.3.
    """

    def __init__(
        self,
        encoder: RobertaEncoder | Mapping[str, Any],
        max_answer: int = 30,
        head_units: int | None = 0,
        scheme: str = "bio",
        dropout: float = 0.1,
        allow_empty: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(encoder, scheme, dropout, allow_empty, **kwargs)
        if max_answer < 1:
            raise ValueError(f"max_answer must be >= 1, got {max_answer}")
        self.max_answer = max_answer
        self.head_units = head_units
        self.head = TokenHead(2, head_units, dropout, name="edges")

    def call(self, inputs: Mapping[str, tf.Tensor], training: bool | None = None) -> tf.Tensor:
        return self.head(self.encode(inputs, training), training=training)

    def window_losses(self, outputs: tf.Tensor, labels: Mapping[str, tf.Tensor], token_ids: tf.Tensor) -> tf.Tensor:
        return -span_log_likelihood(edge_log_probs(outputs, edge_mask(token_ids)), labels["spans"])

    def scores(self, outputs: tf.Tensor, token_ids: tf.Tensor) -> tuple[Scores, Scores]:
        edges = edge_log_probs(outputs, edge_mask(token_ids))
        return {"edges": edges}, {"nothing": tf.reduce_sum(edges[:, 0], axis=-1)}

    def decide(
        self, tokens: Scores, windows: Scores, mask: tf.Tensor, allow_empty: bool
    ) -> tuple[tf.Tensor, tf.Tensor]:
        first, last, value = best_span(tokens["edges"], mask, self.max_answer)
        there = tf.ones_like(value, tf.bool) if not allow_empty else value > windows["nothing"]
        return tags_of_best_span(first, last, value, there, mask, self.scheme)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "max_answer": self.max_answer, "head_units": self.head_units}
