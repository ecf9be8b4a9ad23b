"""The table of the models of spans; the runs themselves are faked."""

import csv

import numpy as np
import pytest

from xdeepint_ext.experiments import mseqa_compare
from xdeepint_ext.experiments.mseqa_compare import ROWS, Options, compare_mseqa
from xdeepint_ext.experiments.mseqa_config import MseqaConfig


@pytest.fixture
def configs(monkeypatch):
    """The configs that were run; exact F1 is 0.1, 0.2, 0.3 ... in the order of the runs."""
    found = []

    def run(config):
        found.append(config)
        f1 = 0.1 * len(found)
        return {
            "dataset": "mine",
            "seed": config.seed,
            "steps": 5,
            "examples_per_second": 123.4,
            "parameters": 1234,
            "notes": ["trained on a.json (5), from random weights"],
            "test.questions": 1200.0,
            "test.exact_f1": f1,
            "test.multi.exact_f1": f1 / 2,
        }

    monkeypatch.setattr(mseqa_compare, "run_mseqa", run)
    return found


def test_rows_are_trained_alike_and_averaged(configs, tmp_path):
    text = compare_mseqa(Options(str(tmp_path), ("single", "io"), seeds=2), MseqaConfig(reports=7))
    assert [(c.heads, c.scheme, c.seed, c.reports) for c in configs] == [
        ("single", "bio", 0, 7),
        ("tagger", "io", 0, 7),
        ("single", "bio", 1, 7),
        ("tagger", "io", 1, 7),
    ]
    assert configs[1].model_dir == str(tmp_path / "io-0")
    lines = text.splitlines()
    assert lines[0] == "|  | exact F1 | several | parameters |"
    mean, deviation = np.mean([0.1, 0.3]), np.std([0.1, 0.3], ddof=1)
    cells = " | ".join(f"{mean * part:.3f} ± {deviation * part:.3f}" for part in (1, 0.5))
    assert lines[2] == f"| single | {cells} | 1,234 |"
    assert "mine, test part, 1,200 questions" in text and "2 seeds. trained on a.json (5)" in text
    assert (tmp_path / "mseqa.md").read_text() == text
    rows = list(csv.DictReader((tmp_path / "mseqa.csv").open()))
    assert [(row["row"], row["seed"], float(row["exact_f1"])) for row in rows] == [
        ("single", "0", 0.1),
        ("single", "1", 0.3),
        ("io", "0", 0.2),
        ("io", "1", 0.4),
    ]


def test_every_row_is_a_config(configs, tmp_path):
    compare_mseqa(Options(str(tmp_path), seeds=1), MseqaConfig())
    assert [(c.heads, c.scheme) for c in configs] == [(row["heads"], row["scheme"]) for row in ROWS.values()]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"output_dir": ""}, "--output_dir"),
        ({"rows": ("x",)}, "--rows must be some of"),
        ({"rows": ()}, "--rows must be some of"),
        ({"seeds": 0}, "--seeds must be >= 1"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(ValueError, match=message):
        Options(**{"output_dir": "d", **options})
