"""One loader a data set: a frozen dataclass of options whose `open(raw_dir, seed)` returns a `Source`."""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Mapping
from typing import Any, Protocol

from xdeepint_ext.data.loaders.adult import Adult
from xdeepint_ext.data.loaders.avazu import Avazu
from xdeepint_ext.data.loaders.criteo import Criteo
from xdeepint_ext.data.loaders.csv_file import CsvFile
from xdeepint_ext.data.loaders.event_logs import AmazonBooks, MovieLensSequences, TaobaoViews
from xdeepint_ext.data.loaders.ipinyou import IPinYou
from xdeepint_ext.data.loaders.kuairand import KuaiRand
from xdeepint_ext.data.loaders.movielens import MovieLens
from xdeepint_ext.data.loaders.synthetic import Synthetic
from xdeepint_ext.data.loaders.taobao import Taobao
from xdeepint_ext.data.loaders.taobao_ad import TaobaoAd
from xdeepint_ext.data.loaders.user_lines import AmazonBeauty, AmazonSports, Gowalla
from xdeepint_ext.data.source import Source

__all__ = ["LOADERS", "Loader", "loader_options", "make_loader"]


class Loader(Protocol):
    """What `prepare` asks of a loader."""

    def open(self, raw_dir: str | None, seed: int) -> Source:
        """Finds the raw files and says what they mean."""


LOADERS: dict[str, type] = {
    "adult": Adult,
    "amazon_beauty": AmazonBeauty,
    "amazon_books": AmazonBooks,
    "amazon_sports": AmazonSports,
    "avazu": Avazu,
    "criteo": Criteo,
    "csv": CsvFile,
    "gowalla": Gowalla,
    "ipinyou": IPinYou,
    "kuairand": KuaiRand,
    "movielens": MovieLens,
    "movielens_sequences": MovieLensSequences,
    "synthetic": Synthetic,
    "taobao": Taobao,
    "taobao_ad": TaobaoAd,
    "taobao_views": TaobaoViews,
}
"""Name of a data set -> its loader."""


def make_loader(dataset: str, options: Mapping[str, Any]) -> Loader:
    """A loader with options.

    Raises:
      ValueError: there is no such data set or option, or the option's value is none of its choices.
    """
    if dataset not in LOADERS:
        raise ValueError(f"dataset must be one of {sorted(LOADERS)}, got {dataset!r}")
    fields = {field.name: field for field in dataclasses.fields(LOADERS[dataset])}
    unknown = sorted(set(options) - set(fields))
    if unknown:
        raise ValueError(f"{unknown[0]!r} is no option of dataset {dataset!r}; it has {sorted(fields)}")
    for name, value in options.items():
        choices = fields[name].metadata.get("choices")
        if choices and value not in choices:
            raise ValueError(f"{name} must be one of {choices}, got {value!r}")
    return LOADERS[dataset](**options)


def loader_options() -> dict[str, tuple[type, str]]:
    """Every option of every loader: name -> type and help, which names the data sets and their defaults."""
    found: dict[str, tuple[type, str]] = {}
    for dataset, loader in LOADERS.items():
        hints = typing.get_type_hints(loader)
        for field in dataclasses.fields(loader):
            kind, text = found.get(field.name, (hints[field.name], ""))
            choices = f" {field.metadata['choices']}" if field.metadata["choices"] else ""
            line = f"{dataset} (default {field.default!r}): {field.metadata['help']}{choices}"
            found[field.name] = (kind, f"{text}; {line}" if text else line)
    return found
