"""`MultiHeadSpanQA`: a head for one answer, a head for several, and a learned choice between them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import tensorflow as tf

from xdeepint_ext.layers.roberta import RobertaEncoder
from xdeepint_ext.layers.span_search import best_span, edge_log_probs, tags_of_best_span
from xdeepint_ext.layers.tag_head import TokenHead
from xdeepint_ext.layers.tagging import best_tags
from xdeepint_ext.losses.spans import OVER_TAGGINGS, span_log_likelihood, tagging_log_likelihood
from xdeepint_ext.models.span_model import Scores, SpanModel, context_mask, edge_mask, question_mask
from xdeepint_ext.utils.dtypes import at_least_float32
from xdeepint_ext.utils.registry import register

SINGLE, MULTI = 0, 1


@register
class MultiHeadSpanQA(SpanModel):
    """Decides by itself between one answer and several: `p(answer) = Σ_z p(z) p_z(answer)`, z = single or multi head.

    The single head is that of `SingleSpanQA`, the multi head that of `MultiSpanTagger`. The choice sees a weighted mean
    of the question's vectors beside one of the context's: `p(z) = softmax(head([q; c]))`. Training minimises
    `-log p(answer)`; the single head has probability 0 of an answer of several spans. The answer is that of the
    likelier head. For a report in several windows the head's log-probability is the least of the windows'.

    Args:
      encoder: token ids -> vectors.
      scheme: of the multi head, `bio` or `io`.
      likelihood: of the multi head; see `MultiSpanTagger`.
      max_answer: tokens of the single head's answer at most; 30, the usual choice.
      head_units: of the multi head and the choice; see `TokenHead`.
      dropout: before and inside the heads; TASE's 0.1.
      allow_empty: whether "no answer" is an answer; TASE: False.

    Call arguments:
      inputs: {"token_ids": (B, n)}; see `SpanModel`.

    Returns:
      Logits, float32 or wider: {"tags": (B, n, tags), "edges": (B, n, 2), "heads": (B, 2)}.

    Raises:
      ValueError: an unknown scheme or likelihood, or max_answer below 1.

    Example:
      >>> model = MultiHeadSpanQA(RobertaEncoder.of_size("tiny", vocab_size=300))
      >>> found = model({"token_ids": tf.constant([[0, 7, 2, 2, 8, 9, 2, 1]])})
      >>> {name: tuple(values.shape) for name, values in found.items()}
      {'tags': (1, 8, 3), 'edges': (1, 8, 2), 'heads': (1, 2)}

    Source: our reading of MSEQA (arXiv 2209.09316), which says no more than that the model chooses; built as the
    multi-head model of Segal et al., EMNLP 2020.
    """

    def __init__(
        self,
        encoder: RobertaEncoder | Mapping[str, Any],
        scheme: str = "bio",
        likelihood: str = "marginal",
        max_answer: int = 30,
        head_units: int | None = None,
        dropout: float = 0.1,
        allow_empty: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(encoder, scheme, dropout, allow_empty, **kwargs)
        if likelihood not in OVER_TAGGINGS:
            raise ValueError(f"likelihood must be one of {OVER_TAGGINGS}, got {likelihood!r}")
        if max_answer < 1:
            raise ValueError(f"max_answer must be >= 1, got {max_answer}")
        self.likelihood = likelihood
        self.max_answer = max_answer
        self.head_units = head_units
        self.tag_head = TokenHead(len(self.scheme.tags), head_units, dropout, name="tags")
        self.edge_head = TokenHead(2, 0, dropout, name="edges")
        self.pooling = TokenHead(2, 0, dropout, name="pooling")
        self.choice = TokenHead(2, head_units, dropout, name="heads")

    def call(self, inputs: Mapping[str, tf.Tensor], training: bool | None = None) -> dict[str, tf.Tensor]:
        vectors = self.encode(inputs, training)
        masks = (question_mask(inputs["token_ids"]), context_mask(inputs["token_ids"]))
        weights = self.pooling(vectors, training=training)
        pooled = [_weighted_mean(vectors, weights[..., i], mask) for i, mask in enumerate(masks)]
        return {
            "tags": self.tag_head(vectors, training=training),
            "edges": self.edge_head(vectors, training=training),
            "heads": self.choice(tf.concat(pooled, axis=-1), training=training),
        }

    def window_losses(
        self, outputs: Mapping[str, tf.Tensor], labels: Mapping[str, tf.Tensor], token_ids: tf.Tensor
    ) -> tf.Tensor:
        edges = edge_log_probs(outputs["edges"], edge_mask(token_ids))
        single = span_log_likelihood(edges, labels["spans"])
        tags = tf.nn.log_softmax(outputs["tags"])
        multi = tagging_log_likelihood(tags, labels["taggings"], context_mask(token_ids), self.likelihood)
        single = tf.where(labels["num_answers"] <= 1, single, tf.constant(float("-inf"), single.dtype))
        heads = tf.nn.log_softmax(outputs["heads"])
        return -tf.reduce_logsumexp(heads + tf.stack([single, multi], axis=1), axis=1)

    def scores(self, outputs: Mapping[str, tf.Tensor], token_ids: tf.Tensor) -> tuple[Scores, Scores]:
        edges = edge_log_probs(outputs["edges"], edge_mask(token_ids))
        tokens = {"edges": edges, "tags": tf.nn.log_softmax(outputs["tags"])}
        return tokens, {
            "nothing": tf.reduce_sum(edges[:, 0], axis=-1),
            "heads": tf.nn.log_softmax(outputs["heads"]),
        }

    def decide(
        self, tokens: Scores, windows: Scores, mask: tf.Tensor, allow_empty: bool
    ) -> tuple[tf.Tensor, tf.Tensor]:
        several = best_tags(tokens["tags"], mask, self.scheme, allow_empty)
        several_log_probs = tf.gather(tokens["tags"], several, axis=2, batch_dims=2)
        first, last, value = best_span(tokens["edges"], mask, self.max_answer)
        there = tf.ones_like(value, tf.bool) if not allow_empty else value > windows["nothing"]
        one, one_log_probs = tags_of_best_span(first, last, value, there, mask, self.scheme)
        chosen = (windows["heads"][:, SINGLE] >= windows["heads"][:, MULTI])[:, tf.newaxis]
        return tf.where(chosen, one, several), tf.where(chosen, one_log_probs, several_log_probs)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "likelihood": self.likelihood,
            "max_answer": self.max_answer,
            "head_units": self.head_units,
        }


def _weighted_mean(vectors: tf.Tensor, logits: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
    """`Σ_t softmax(logits)_t x_t` over the tokens of the mask: (B, width)."""
    vectors, logits = at_least_float32(vectors), at_least_float32(logits)
    weights = tf.nn.softmax(tf.where(mask, logits, tf.constant(-1e9, logits.dtype)))
    return tf.einsum("bn,bnd->bd", weights, vectors)
