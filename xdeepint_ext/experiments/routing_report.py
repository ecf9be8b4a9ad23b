"""The part of `report.html` on a model that routes its records: costs, depths, and who goes where."""

from __future__ import annotations

import html
import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from xdeepint_ext.experiments import plots
from xdeepint_ext.experiments.costs import embedded
from xdeepint_ext.experiments.page import image, section, table
from xdeepint_ext.experiments.routed_costs import Part, expert_names, parts_of
from xdeepint_ext.experiments.routing import Routing, ValueRouting, by_value
from xdeepint_ext.experiments.scores import score_rows

if TYPE_CHECKING:
    from xdeepint_ext.experiments.running import Run

__all__ = ["cost_table", "sections"]

FIELDS = 6
LEAST_SPREAD = 0.005  # below, all cells of a picture would show the same percentages
COST_HINT = (
    "Multiplications, each with its addition, for one example; look-ups, sums, activations and divisions are not "
    "counted. A cell is the cost of a part times the share of all records that need it. Parts that are not needed are "
    "not computed with dispatch=gather, nor with auto outside XLA."
)
EXPERT_HINT = (
    "Of the records that need a layer, the share that each expert computes. The last row is what the balance loss "
    "pulls to: the priors times the experts a record, at most 100 %."
)
DEPTH_HINT = "AUC and log loss of the records of one depth, at that depth: they are other records on each line."
VALUE_HINT = (
    "The most frequent values of the fields whose routing differs most between values; shares are over all layers that "
    "the records of a value need. The number beside a field is the deviation between its values, of the experts' "
    "shares and of depth over layers, with rare values counting little."
)


def sections(run: Run) -> Iterable[str]:
    """The sections; none for a model that does not route.

    Args:
      run: a finished run.
    """
    if not run.routings:
        return
    model: Any = run.model
    split = run.shown_split
    routing = run.routings[split]
    parts = parts_of(model, embedded(model))
    yield section(f"Cost under the routing of {split}", _costs(run, parts, routing))
    yield section(f"Depths on {split}", _depths(run, routing))
    yield section(f"Experts on {split}", _experts(run, routing))
    yield section(f"Experts and depths by value on {split}", _values(run, routing))


def _costs(run: Run, parts: Sequence[Part], routing: Routing) -> str:
    dense = sum(part.multiply_adds for part in parts)
    expected = sum(part.expected(routing) for part in parts)
    number = len(routing.leaves)
    text = (
        f"A record needs {expected:,.0f} multiply-adds on average, {expected / dense:.1%} of the {dense:,.0f} of the "
        f"dense form, all experts of all {number} layers; its mean depth is {routing.expected_depth:.2f} of {number}, "
        f"with {routing.chosen.sum() / routing.depths.sum():.2g} of {routing.chosen.shape[1]} experts a layer. "
        f"{sum(part.parameters for part in parts):,} of the {run.metrics['parameters']:,} parameters are those of the "
        "parts, the others those of the embedding."
    )
    return f'<p>{html.escape(text)}</p>{cost_table(parts, routing)}<p class="hint">{COST_HINT}</p>'


def cost_table(parts: Sequence[Part], routing: Routing) -> str:
    """Parts by layers: what each costs, and what the routing makes of it.

    Args:
      parts: of the model.
      routing: of a split.
    """
    layers = range(len(routing.leaves))
    names = list(dict.fromkeys(part.name for part in parts))
    total = sum(part.expected(routing) for part in parts)
    rows = []
    for name in names:
        own = [part for part in parts if part.name == name]
        cells = [_sum([p.expected(routing) for p in own if p.layer == layer]) for layer in layers]
        expected = sum(part.expected(routing) for part in own)
        dense = _sum([part.multiply_adds for part in own])
        parameters = f"{sum(part.parameters for part in own):,}"
        rows.append([name, parameters, dense, *cells, f"{expected:,.0f}", f"{expected / total:.1%}"])
    by_layer = [_sum([p.expected(routing) for p in parts if p.layer == layer]) for layer in layers]
    whole = [f"{sum(p.parameters for p in parts):,}", _sum([p.multiply_adds for p in parts])]
    rows.append(["all", *whole, *by_layer, f"{total:,.0f}", "100.0%"])
    heads = ["", "parameters", "dense form", *(f"layer {layer + 1}" for layer in layers), "routed", "share"]
    return table(heads, rows, text=1)


def _depths(run: Run, routing: Routing) -> str:
    model: Any = run.model
    rows = len(routing.depths)
    shares = np.bincount(routing.depths, minlength=len(routing.leaves) + 1)[1:] / rows
    picture = image(plots.depth_histogram(shares, _prior(model.exits.gate)), "Share of the records by depth")
    return f'<div class="row">{picture}{_by_depth(run, routing)}</div><p class="hint">{DEPTH_HINT}</p>'


def _by_depth(run: Run, routing: Routing) -> str:
    predictions = run.predictions[run.shown_split]
    body = []
    for task in predictions.labels:
        for depth in np.unique(routing.depths):
            inside = (routing.depths == depth) & predictions.rows(task)
            found = score_rows(predictions, task, inside)
            numbers = [_decimal(found.get(name)) for name in ("label_mean", "auc", "logloss")]
            body.append([task, str(depth), f"{found['rows']:,.0f}", *numbers])
    heads = ["task", "depth", "records", "mean label", "AUC", "log loss"]
    start = 0 if len(predictions.labels) > 1 else 1
    return table(heads[start:], [row[start:] for row in body], text=1 - start)


def _experts(run: Run, routing: Routing) -> str:
    model: Any = run.model
    layer = model.exits.layers[0]
    a_record = routing.chosen.sum() / routing.depths.sum()
    wanted = np.minimum(1.0, a_record * _prior(layer.gate))
    rows = [*(f"layer {i + 1}: {reached:,} records" for i, reached in enumerate(routing.reaches)), "prior"]
    shares = np.vstack([routing.shares, wanted])
    picture = plots.share_map(shares, rows, expert_names(layer), "Experts by layer")
    return f'{image(picture, "Share of each expert by layer")}<p class="hint">{EXPERT_HINT}</p>'


def _values(run: Run, routing: Routing) -> str:
    inputs = run.inputs
    model: Any = run.model
    columns = expert_names(model.exits.layers[0])
    found = by_value(routing, inputs.schema, inputs.vocabulary_dir)
    shown = [one for one in found if one.spread >= LEAST_SPREAD][:FIELDS]
    if not shown:
        return "<p>Routing does not differ between the values of any field.</p>"
    pictures = "".join(image(_value_map(one, columns), f"Routing by {one.feature}") for one in shown)
    others = ", ".join(f"{one.feature} {one.spread:.2f}" for one in found[len(shown) :])
    rest = f"<p>Further fields: {html.escape(others)}.</p>" if others else ""
    return f'<div class="row">{pictures}</div>{rest}<p class="hint">{VALUE_HINT}</p>'


def _value_map(found: ValueRouting, columns: Sequence[str]) -> str:
    labels = zip(found.values, found.rows, found.depths, strict=True)
    rows = [f"{_short(value)}: {count:,}, depth {depth:.2f}" for value, count, depth in labels]
    return plots.share_map(found.shares, rows, columns, f"{found.feature} ({found.spread:.2f})")


def _prior(gate: Any) -> np.ndarray:
    return np.full(gate.num_experts, 1 / gate.num_experts) if gate.prior is None else np.asarray(gate.prior)


def _short(value: str, most: int = 24) -> str:
    return value if len(value) <= most else f"{value[: most - 1]}…"


def _sum(values: Sequence[float]) -> str:
    return f"{sum(values):,.0f}" if values else ""


def _decimal(value: float | None) -> str:
    return "–" if value is None or math.isnan(value) else f"{value:.4f}"
