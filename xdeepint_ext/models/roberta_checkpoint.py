"""RoBERTa checkpoints in Hugging Face's safetensors layout -> `RobertaEncoder`, without PyTorch."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from xdeepint_ext.layers.roberta import RobertaEncoder

__all__ = ["load_roberta"]

OTHERS = re.compile(r"^(lm_head|classifier|qa_outputs|(roberta\.)?pooler)\.|(^|\.)position_ids$")
"""What public checkpoints hold besides the encoder, and no encoder needs."""


def load_roberta(encoder: RobertaEncoder, file: str | os.PathLike[str]) -> None:
    """Sets an encoder's weights to those of a checkpoint, in place. Needs the extra `qa`.

    Args:
      encoder: of the checkpoint's size; it need not have been called.
      file: `model.safetensors` of RoBERTa, as `RobertaModel` or `RobertaForMaskedLM` of the library transformers save
        it: tensors `roberta.embeddings...`, `roberta.encoder.layer.0...`, with or without the first part of the name.

    Raises:
      FileNotFoundError: there is no such file.
      ValueError: it is no such checkpoint, or one of another size; names the tensor and both shapes.
      ImportError: the library `safetensors` is not installed.

    Example:
      >>> encoder = RobertaEncoder.of_size("base")
      >>> load_roberta(encoder, "roberta-base/model.safetensors")  # doctest: +SKIP
    """
    path = os.fspath(file)
    if not os.path.exists(path):
        raise FileNotFoundError(f"checkpoint: no file {path}")
    tensors = {name.removeprefix("roberta."): value for name, value in _read(path).items() if not OTHERS.search(name)}
    if not encoder.built:
        encoder.build((None, None))
    pairs = dict(_pairs(encoder))
    _check_names(path, encoder, set(pairs), set(tensors))
    for name, (variable, transposed) in pairs.items():
        value = tensors[name].T if transposed else tensors[name]
        if tuple(value.shape) != tuple(variable.shape):
            raise ValueError(
                f"{path} is a checkpoint of another size: {name} has the shape {tensors[name].shape}, and the encoder "
                f"wants {tuple(reversed(variable.shape)) if transposed else tuple(variable.shape)} (vocab_size="
                f"{encoder.vocab_size}, max_positions={encoder.max_positions}, width={encoder.width}, hidden_width="
                f"{encoder.hidden_width})"
            )
    for name, (variable, transposed) in pairs.items():
        variable.assign(tensors[name].T if transposed else tensors[name])


def _read(path: str) -> Mapping[str, np.ndarray]:
    try:
        import safetensors
        import safetensors.numpy
    except ImportError:
        raise ImportError("checkpoints need the library safetensors: pip install 'xdeepint-ext[qa]'") from None
    try:
        return safetensors.numpy.load_file(path)
    except (safetensors.SafetensorError, TypeError, KeyError) as error:
        raise ValueError(f"{path} is no safetensors file that NumPy can read: {error}") from None


def _check_names(path: str, encoder: RobertaEncoder, wanted: set[str], found: set[str]) -> None:
    missing, unknown = sorted(wanted - found), sorted(found - wanted)
    if not missing and not unknown:
        return
    layers = {int(part) for name in found for part in re.findall(r"^encoder\.layer\.(\d+)\.", name)}
    raise ValueError(
        f"{path} does not fit the encoder: it has {len(layers)} layers, the encoder {encoder.num_layers}; it lacks "
        f"{missing[:3]} and has {unknown[:3]} besides"
    )


def _pairs(encoder: RobertaEncoder) -> Iterator[tuple[str, tuple[tf.Variable, bool]]]:
    """(Name in the checkpoint, (variable, whether it is the transpose)) of every weight."""
    for name, table in (
        ("word_embeddings", encoder.words),
        ("position_embeddings", encoder.positions),
        ("token_type_embeddings", encoder.types),
    ):
        yield f"embeddings.{name}.weight", (table.embeddings, False)
    yield from _norm("embeddings.LayerNorm", encoder.norm)
    for number, block in enumerate(encoder.blocks):
        prefix = f"encoder.layer.{number}"
        for name, layer in (
            ("attention.self.query", block.query),
            ("attention.self.key", block.key),
            ("attention.self.value", block.value),
            ("attention.output.dense", block.attended),
            ("intermediate.dense", block.hidden),
            ("output.dense", block.output_),
        ):
            # PyTorch keeps (out, in) where Keras keeps (in, out).
            yield f"{prefix}.{name}.weight", (layer.kernel, True)
            yield f"{prefix}.{name}.bias", (layer.bias, False)
        yield from _norm(f"{prefix}.attention.output.LayerNorm", block.attention_norm)
        yield from _norm(f"{prefix}.output.LayerNorm", block.output_norm)


def _norm(name: str, layer: Any) -> Iterator[tuple[str, tuple[tf.Variable, bool]]]:
    yield f"{name}.weight", (layer.gamma, False)
    yield f"{name}.bias", (layer.beta, False)
