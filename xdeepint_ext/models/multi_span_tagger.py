"""`MultiSpanTagger`: every token gets a tag, and tags spell the answers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import tensorflow as tf

from xdeepint_ext.layers.roberta import RobertaEncoder
from xdeepint_ext.layers.tag_head import TokenHead
from xdeepint_ext.layers.tagging import best_tags
from xdeepint_ext.losses.spans import OVER_TAGGINGS, tagging_log_likelihood
from xdeepint_ext.models.span_model import Scores, SpanModel, context_mask
from xdeepint_ext.utils.registry import register


@register
class MultiSpanTagger(SpanModel):
    """Answers of any number by tagging: `p_t = softmax(head(encoder(ids)_t))` over {O, I} or {O, B, I}.

    Training minimises `-log Σ_T Π_t p_t[T_t]` over the gold taggings T of the context's tokens. The answer is the best
    allowed tagging, found by constrained Viterbi; where that is empty and `allow_empty` is False, the best one that is
    not.

    Args:
      encoder: token ids -> vectors.
      scheme: `bio` (default; spans that touch stay apart) or `io`, TASE's for Quoref.
      likelihood: `marginal` (TASE), `hard_em`, or `first`: the annotated tagging's cross-entropy, as in MultiSpanQA.
      head_units: see `TokenHead`; None is TASE's, 0 MultiSpanQA's.
      dropout: before and inside the head; TASE's 0.1.
      allow_empty: whether "no answer" is an answer; TASE: False.

    Call arguments:
      inputs: {"token_ids": (B, n)}; see `SpanModel`.

    Returns:
      Logits of the tags, (B, n, tags), float32 or wider.

    Raises:
      ValueError: an unknown scheme or likelihood.

    Example:
      >>> model = MultiSpanTagger(RobertaEncoder.of_size("tiny", vocab_size=300))
      >>> model({"token_ids": tf.constant([[0, 7, 2, 2, 8, 9, 2, 1]])}).shape
      TensorShape([1, 8, 3])

    Source: our reading of MSEQA (arXiv 2209.09316), whose model is not described; built as TASE, Segal et al., EMNLP
    2020, and the tagger of MultiSpanQA, Li et al., NAACL 2022.
    """

    def __init__(
        self,
        encoder: RobertaEncoder | Mapping[str, Any],
        scheme: str = "bio",
        likelihood: str = "marginal",
        head_units: int | None = None,
        dropout: float = 0.1,
        allow_empty: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(encoder, scheme, dropout, allow_empty, **kwargs)
        if likelihood not in OVER_TAGGINGS:
            raise ValueError(f"likelihood must be one of {OVER_TAGGINGS}, got {likelihood!r}")
        self.likelihood = likelihood
        self.head_units = head_units
        self.head = TokenHead(len(self.scheme.tags), head_units, dropout, name="tags")

    def call(self, inputs: Mapping[str, tf.Tensor], training: bool | None = None) -> tf.Tensor:
        return self.head(self.encode(inputs, training), training=training)

    def window_losses(self, outputs: tf.Tensor, labels: Mapping[str, tf.Tensor], token_ids: tf.Tensor) -> tf.Tensor:
        log_probs, mask = tf.nn.log_softmax(outputs), context_mask(token_ids)
        return -tagging_log_likelihood(log_probs, labels["taggings"], mask, self.likelihood)

    def scores(self, outputs: tf.Tensor, token_ids: tf.Tensor) -> tuple[Scores, Scores]:
        return {"tags": tf.nn.log_softmax(outputs)}, {}

    def decide(
        self, tokens: Scores, windows: Scores, mask: tf.Tensor, allow_empty: bool
    ) -> tuple[tf.Tensor, tf.Tensor]:
        tags = best_tags(tokens["tags"], mask, self.scheme, allow_empty)
        return tags, tf.gather(tokens["tags"], tags, axis=2, batch_dims=2)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "likelihood": self.likelihood, "head_units": self.head_units}
