"""The experiment of MSEQA: what a run leaves, how it goes on, and that it learns."""

import json

import numpy as np
import pytest
from absl import flags

from xdeepint_ext.data.qa.formats import read_questions
from xdeepint_ext.data.qa.questions import Answer, Question
from xdeepint_ext.data.qa.records import load_questions, write_questions
from xdeepint_ext.data.qa.tokenizer import BytePairTokenizer
from xdeepint_ext.experiments.flags import define_options, find_flagfiles, values_of_flags
from xdeepint_ext.experiments.mseqa_config import MseqaConfig
from xdeepint_ext.experiments.mseqa_report import highlighted
from xdeepint_ext.experiments.mseqa_running import WarmupThenLinear, execute_mseqa, run_mseqa
from xdeepint_ext.experiments.mseqa_scores import score_answers
from xdeepint_ext.layers import RobertaEncoder
from xdeepint_ext.models.roberta_checkpoint import _pairs
from xdeepint_ext.serving.span_reader import Found, SpanReader

TINY = {
    "size": "tiny",
    "reports": 24,
    "test_reports": 6,
    "vocab_size": 300,
    "batch_size": 8,
    "epochs": 2,
    "progress": False,
    "deterministic": False,
}


@pytest.fixture(autouse=True)
def _tokenizers():
    pytest.importorskip("tokenizers", reason="needs the extra qa")


SLOW = pytest.mark.slow


def config_of(*arguments):
    """The config of a command line."""
    values = flags.FlagValues()
    flags.DEFINE_string("flagfile", "", "", flag_values=values)
    define_options([MseqaConfig], values)
    values(["mseqa", *find_flagfiles(list(arguments))])
    return MseqaConfig(**values_of_flags(MseqaConfig, values))


@pytest.mark.parametrize("heads", ["tagger", pytest.param("two_heads", marks=SLOW), pytest.param("single", marks=SLOW)])
def test_a_run_leaves_everything(heads, tmp_path):
    config = MseqaConfig(model_dir=str(tmp_path / "m"), heads=heads, export=True, **TINY)
    metrics = run_mseqa(config)
    assert metrics["steps"] == 6 and metrics["test.questions"] == 6
    assert "generated reports (24), from random weights" in metrics["notes"][0]
    left = {path.name for path in (tmp_path / "m").iterdir()}
    assert config_of(f"--flagfile={tmp_path / 'm' / 'flags.txt'}") == config
    assert {"flags.txt", "checkpoints", "tensorboard", "metrics.json", "report.html", "saved_model"} <= left
    assert json.loads((tmp_path / "m" / "metrics.json").read_text())["test.exact_f1"] == metrics["test.exact_f1"]
    report = (tmp_path / "m" / "report.html").read_text()
    assert "<mark class=" in report and "Answers on test" in report
    reader = SpanReader.load(tmp_path / "m" / "saved_model")
    reader.read("Who opened the front door?", "At 08:14 Tom opened the front door.")
    assert run_mseqa(config) == metrics, "a finished run is read"
    with pytest.raises(ValueError, match="--learning_rate"):
        run_mseqa(MseqaConfig(**{**vars(config), "learning_rate": 0.5}))


@pytest.mark.slow
def test_a_broken_run_goes_on_to_the_same_end(tmp_path, monkeypatch):
    options = {**TINY, "dropout": 0.1, "report": False, "eval_every": 3, "checkpoint_every": 1}
    whole = run_mseqa(MseqaConfig(model_dir=str(tmp_path / "whole"), **options))
    from xdeepint_ext.experiments import mseqa_running

    scorer, calls = mseqa_running.score_answers, []

    def dying(*args):
        calls.append(args)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return scorer(*args)

    monkeypatch.setattr(mseqa_running, "score_answers", dying)
    with pytest.raises(KeyboardInterrupt):
        run_mseqa(MseqaConfig(model_dir=str(tmp_path / "cut"), **options))
    monkeypatch.undo()
    cut = run_mseqa(MseqaConfig(model_dir=str(tmp_path / "cut"), **options))
    for name in ("steps", "test.exact_f1", "valid.partial_f1", "best_step"):
        assert cut[name] == whole[name]


@pytest.mark.slow
def test_a_prepared_directory(tmp_path):
    questions = [
        Question(
            str(i), "Who came?", f"Tom and Ann came {i}.", (Answer("Tom", (0,)), Answer("Ann", (8,))), (), "f.json"
        )
        for i in range(12)
    ]
    write_questions(tmp_path / "d", {"train": questions[:8], "test": questions[8:]}, "mine")
    options = {**TINY, "early_stopping": "none", "batch_size": 4, "max_steps": 1}
    run = execute_mseqa(MseqaConfig(data_dir=str(tmp_path / "d"), **options))
    assert run.metrics["dataset"] == "mine" and "valid.exact_f1" not in run.metrics
    assert load_questions(tmp_path / "d", "test") == list(run.questions["test"])
    assert run.metrics["notes"] == ["trained on f.json (8), from random weights", "4 of 8 training windows seen"]
    with pytest.raises(ValueError, match="'valid' is empty or absent"):
        execute_mseqa(MseqaConfig(data_dir=str(tmp_path / "d"), **TINY))


def test_scores_are_told_apart():
    questions = [
        Question("1", "?", "Tom Ann", (Answer("Tom", (0,)), Answer("Ann", (4,)))),
        Question("2", "?", "Tom", (Answer("Tom", (0,)),)),
        Question("3", "?", "Tom"),
    ]
    tom, ann = Found("Tom", 0, 3, 1.0), Found("Ann", 4, 7, 1.0)
    values = score_answers(questions, [[tom], [tom], [ann]])
    assert values["multi.exact_recall"] == 0.5 and values["multi.exact_precision"] == 1
    assert values["single.exact_f1"] == values["single.squad_em"] == 1 and values["none.exact_f1"] == 0
    assert values["exact_precision"] == 2 / 3 and values["exact_recall"] == 2 / 4
    assert "multi.squad_em" not in values and values["drop_em"] == 1 / 3
    values = score_answers(questions, [[ann, tom], [tom], []])
    assert all(value == 1 for name, value in values.items() if not name.endswith("questions"))


def test_highlighted_text_is_the_text():
    question = Question("1", "?", "<Tom> & مريم 🚪", (Answer("Tom", (1,)), Answer("مريم", (8,))))
    html = highlighted(question, [Found("Tom> &", 1, 7, 0.5)])
    assert html == (
        '&lt;<mark class="right">Tom</mark><mark class="wrong">&gt; &amp;</mark> <mark class="missed">مريم</mark> 🚪'
    )


def test_an_answer_is_right_at_any_of_its_places():
    question = Question("1", "?", "Tom, Tom, Ann", (Answer("Tom", (0, 5)), Answer("Ann", (10,))))
    second = highlighted(question, [Found("Tom", 5, 8, 0.5)])
    assert second == 'Tom, <mark class="right">Tom</mark>, <mark class="missed">Ann</mark>'
    assert highlighted(question, []).startswith('<mark class="missed">Tom</mark>, Tom, ')


def test_rates_rise_and_fall():
    schedule = WarmupThenLinear(2.0, steps=10, warmup=4)
    rates = [float(schedule(step)) for step in range(10)]
    np.testing.assert_allclose(rates, [2 * min((s + 1) / 4, (10 - s) / 6) for s in range(10)], rtol=1e-6)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"heads": "x"}, "heads must be one of"),
        ({"batch_size": 0}, "batch_size must be >= 1"),
        ({"checkpoint_every": 0}, "checkpoint_every must be >= 1"),
        ({"learning_rate": 0.0}, "learning_rate > 0"),
        ({"checkpoint": "model.safetensors"}, "checkpoint needs tokenizer_dir"),
        ({"checkpoint": "m", "tokenizer_dir": "t", "max_length": 520}, "max_length must be at most RoBERTa's 512"),
    ],
)
def test_bad_flags(options, message):
    with pytest.raises(ValueError, match=message):
        MseqaConfig(**options)


@pytest.mark.parametrize(
    ("name", "expected"),
    [("tase", ("io", 12, "large")), ("multispanqa", ("bio", 4, "base")), ("real", ("bio", 16, "small"))],
)
def test_flagfiles_make_a_config(name, expected):
    config = config_of(f"--flagfile=mseqa_{name}")
    assert (config.scheme, config.batch_size, config.size) == expected


def test_a_checkpoint_that_is_missing(tmp_path, shared_data):
    options = {**TINY, "tokenizer_dir": str(shared_data("roberta_bpe")), "checkpoint": str(tmp_path / "none")}
    with pytest.raises(FileNotFoundError, match="checkpoint: no file"):
        execute_mseqa(MseqaConfig(**options))


@pytest.mark.slow
def test_a_run_starts_from_a_checkpoint(tmp_path):
    numpy = pytest.importorskip("safetensors.numpy", reason="needs the extra qa")
    tokenizer = BytePairTokenizer.train(["Who? Tom opened the front door."], 300)
    tokenizer.save(tmp_path)
    public = RobertaEncoder.of_size("tiny", vocab_size=tokenizer.vocab_size)
    public.build((None, None))
    tensors = {name: np.ascontiguousarray(w.numpy().T if swap else w) for name, (w, swap) in _pairs(public)}
    numpy.save_file(tensors, tmp_path / "model.safetensors")
    places = {"checkpoint": str(tmp_path / "model.safetensors"), "tokenizer_dir": str(tmp_path)}
    run = execute_mseqa(MseqaConfig(**{**TINY, **places, "learning_rate": 1e-9, "early_stopping": "none"}))
    assert run.metrics["notes"][0].endswith("starting from model.safetensors")
    for found, expected in zip(run.model.encoder.get_weights(), public.get_weights(), strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-6)


@pytest.mark.slow
@pytest.mark.long
def test_fifty_real_questions_are_learned_by_heart(shared_data, tmp_path):
    questions = read_questions(shared_data("multispan_qa") / "MultiSpanQA_valid.json.gz", "multispanqa")
    short = sorted(questions, key=lambda question: len(question.context))[:50]
    write_questions(tmp_path / "d", {"train": short, "test": short}, "fifty")
    run = execute_mseqa(
        MseqaConfig(
            data_dir=str(tmp_path / "d"),
            size="small",
            vocab_size=2000,
            batch_size=10,
            epochs=150,
            dropout=0.0,
            early_stopping="none",
            eval_every=750,
            progress=False,
        )
    )
    assert run.metrics["test.exact_f1"] == 1
