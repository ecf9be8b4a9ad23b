"""The demo, made small, comes to its end; started again it repeats nothing."""

import os

import pytest

from xdeepint_ext.experiments import demo as demos


@pytest.mark.slow
def test_the_demo_ends_with_a_score_and_is_not_repeated(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(demos, "SETTING", {**demos.SETTING, "batch_size": 200, "epochs": 1, "eval_every": 8})
    found = demos.demo(str(tmp_path / "demo"), rows=3000, progress=False)
    assert 0.5 < found["best_auc"] < 1 and 0 < found["answer"]["probability"] < 1
    assert found["label"] in (0, 1) and len(found["query"]) == 10
    assert os.path.getsize(found["report"]) > 0 and os.path.isdir(os.path.join(found["saved_model"], "1"))
    text = demos.describe_demo(found)
    assert f"best reachable       {found['best_auc']:.4f}" in text and found["saved_model"] in text
    again = demos.demo(str(tmp_path / "demo"), rows=3000, progress=False)
    assert (again["auc"], again["answer"]) == (found["auc"], found["answer"])
    assert "records in" in capsys.readouterr().out
