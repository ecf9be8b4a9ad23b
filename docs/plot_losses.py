"""Plots loss and gradient against the score gap: `python docs/plot_losses.py` writes docs/images/losses.png."""

from __future__ import annotations

import argparse
import pathlib
from typing import Any

import numpy as np
import tensorflow as tf

from xdeepint_ext import losses

GAPS = np.linspace(-8, 8, 161).astype(np.float32)
MANY = 100
PAIRWISE = {
    "PairwiseLogistic = BPR": losses.BPRLoss(),
    "Triplet, margin 1": losses.TripletLoss(margin=1.0),
    "Triplet, margin 5": losses.TripletLoss(),
    "Rankmax": losses.RankmaxLoss(),
}
KERNELS = {
    "exp = softmax cross-entropy": losses.CROLoss("exp"),
    "softplus": losses.CROLoss("softplus"),
    "hinge, margin 5": losses.CROLoss("hinge"),
    "sigmoid": losses.CROLoss("sigmoid"),
    "lambda, sigmoid / softplus": losses.CROLambdaLoss(),
}
WEIGHTINGS = {
    **{f"alpha {alpha}": losses.CROLoss(weighting=alpha, num_items=MANY) for alpha in (0.0, 0.6, 1.0, 1.4)},
    "TargetN(10)": losses.CROLoss(weighting=losses.TargetN(10), num_items=MANY),
}
PANELS = (
    ("one negative", PAIRWISE, 1),
    ("CROLoss, alpha 1, one negative", KERNELS, 1),
    (f"CROLoss, softplus, {MANY} negatives, N = {MANY}", WEIGHTINGS, MANY),
)


def curve(loss: losses.RankingLoss, negatives: int) -> tuple[np.ndarray, np.ndarray]:
    """(loss, its derivative by the gap) of lists of a positive and so many negatives above it by the same gap."""
    of_lists = type(loss).from_config({**loss.get_config(), "reduction": "none"})
    gaps = tf.constant(GAPS)
    labels = tf.one_hot(tf.zeros_like(GAPS, tf.int32), 1 + negatives)
    with tf.GradientTape() as tape:
        tape.watch(gaps)
        value = of_lists(labels, gaps[:, tf.newaxis] * (1 - labels))
        value = tf.reduce_sum(tf.reshape(value, (len(GAPS), -1)), axis=1)
    return value.numpy(), tape.gradient(value, gaps).numpy()


def draw(axes: Any) -> None:
    """Fills two rows of axes, of losses and of gradients."""
    for (title, shown, negatives), (above, below) in zip(PANELS, axes.T, strict=True):
        for name, loss in shown.items():
            value, gradient = curve(loss, negatives)
            line = "--" if name.startswith("lambda") else "-"
            above.plot(GAPS, value, line, label=name)
            below.plot(GAPS, gradient, line)
        above.set_title(title)
        above.legend(fontsize=8)
        below.set_xlabel("gap: negative's logit - positive's")
        for panel in (above, below):
            panel.grid(alpha=0.3)
    axes[0, 0].set_ylabel("loss")
    axes[1, 0].set_ylabel("d loss / d gap")


def main() -> None:
    """Writes the picture."""
    parser = argparse.ArgumentParser(description=__doc__)
    default = pathlib.Path(__file__).parent / "images" / "losses.png"
    parser.add_argument("--output", type=pathlib.Path, default=default)
    arguments = parser.parse_args()
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(2, len(PANELS), figsize=(13, 6.5), sharex=True)
    draw(axes)
    figure.tight_layout()
    figure.savefig(arguments.output, dpi=75)


if __name__ == "__main__":
    main()
