"""The table of the models of spans; the runs themselves are faked."""

import csv

import numpy as np
import pytest

from xdeepint_ext.data.qa.questions import Answer, Question
from xdeepint_ext.data.qa.records import write_questions
from xdeepint_ext.experiments import mseqa_compare
from xdeepint_ext.experiments.mseqa_compare import ROWS, Options, compare_mseqa
from xdeepint_ext.experiments.mseqa_config import MseqaConfig
from xdeepint_ext.experiments.mseqa_data import manifest_of


@pytest.fixture
def configs(monkeypatch):
    """The configs that were run; exact F1 is 0.1, 0.2, 0.3 ... in the order of the runs."""
    found = []

    def run(config):
        found.append(config)
        f1 = 0.1 * len(found)
        return {
            "dataset": manifest_of(config).dataset,
            "finished": "all steps done",
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


def options(tmp_path, *args, **more):
    return Options(str(tmp_path), str(tmp_path / "results.csv"), *args, **more)


def test_rows_are_trained_alike_and_averaged(configs, tmp_path):
    text = compare_mseqa(options(tmp_path, ("single", "io"), seeds=2), MseqaConfig(reports=7))
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
    assert "generated reports, test part, 1,200 questions" in text and "2 seeds. trained on a.json (5)" in text
    assert (tmp_path / "mseqa.md").read_text() == text
    rows = list(csv.DictReader((tmp_path / "results.csv").open()))
    assert [(row["row"], row["seed"], row["settings"], float(row["test.exact_f1"])) for row in rows] == [
        ("single", "0", "heads=single model=mseqa reports=7", 0.1),
        ("io", "0", "model=mseqa reports=7 scheme=io", 0.2),
        ("single", "1", "heads=single model=mseqa reports=7", 0.3),
        ("io", "1", "model=mseqa reports=7 scheme=io", 0.4),
    ]
    assert {row["dataset"] for row in rows} == {"generated reports"} and rows[0]["configuration"]


def test_finished_runs_are_not_repeated(configs, tmp_path):
    two = compare_mseqa(options(tmp_path, ("single",), seeds=2), MseqaConfig())
    assert len(configs) == 2
    assert compare_mseqa(options(tmp_path, ("single",), seeds=2), MseqaConfig(progress=False)) == two
    assert len(configs) == 2
    compare_mseqa(options(tmp_path, ("single",), seeds=2), MseqaConfig(test_reports=9))
    assert len(configs) == 4


def questions(directory, context, *splits):
    question = Question("1", "Who came?", context, (Answer("Tom", (0,)),))
    write_questions(directory, {split: [question] for split in splits}, "mine")
    return MseqaConfig(data_dir=str(directory))


def test_other_data_are_other_runs(configs, tmp_path):
    for number, context in enumerate(("Tom came.", "Tom came late.")):
        config = questions(tmp_path / str(number), context, "train", "test")
        compare_mseqa(options(tmp_path, ("single",), seeds=1), config)
    assert len(configs) == 2
    with pytest.raises(ValueError, match="has no test part"):
        compare_mseqa(options(tmp_path), questions(tmp_path / "none", "Tom came.", "train"))


def test_every_row_is_a_config(configs, tmp_path):
    compare_mseqa(options(tmp_path, seeds=1), MseqaConfig())
    assert [(c.heads, c.scheme) for c in configs] == [(row["heads"], row["scheme"]) for row in ROWS.values()]
    with pytest.raises(ValueError, match="strategy=multi_worker is for a single run"):
        compare_mseqa(options(tmp_path, seeds=1), MseqaConfig(strategy="multi_worker"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"output_dir": ""}, "--output_dir"),
        ({"results": ""}, "--results"),
        ({"rows": ("x",)}, "--rows must be some of"),
        ({"rows": ()}, "--rows must be some of"),
        ({"seeds": 0}, "--seeds must be >= 1"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(ValueError, match=message):
        Options(**{"output_dir": "d", "results": "r.csv", **options})
