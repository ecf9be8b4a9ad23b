"""Which setting a model is compared with."""

import os

import pytest

from xdeepint_ext.experiments import choosing, flags
from xdeepint_ext.experiments import settings as settings_module
from xdeepint_ext.experiments import sweep as sweeps
from xdeepint_ext.experiments.choosing import Search, best, check_alike, choose, search_file
from xdeepint_ext.experiments.flags import parse
from xdeepint_ext.experiments.results import Results
from xdeepint_ext.experiments.searches import SEARCHES

TRIALS = ["width=2 learning_rate=0.001", "width=2 learning_rate=0.1", "width=3 learning_rate=1e30"]
GIVEN = {"optimizer": "adagrad", "batch_size": 100, "max_steps": 20}


@pytest.fixture(scope="module")
def searched(data_dirs, tmp_path_factory):
    """(search, the choice for FM)."""
    folder = tmp_path_factory.mktemp("search")
    search = Search({"data_dir": data_dirs["one"], **GIVEN}, str(folder / "all.csv"), str(folder / "out"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(SEARCHES, "csv", {"fm": TRIALS})
        yield search, choose("fm", search)


def test_the_best_trial_on_the_validation_part_is_chosen(searched):
    search, choice = searched
    rows = list(Results(search_file(search.results)))
    assert search_file(search.results).endswith("all_search.csv")
    assert [row["row"] for row in rows] == [f"fm {text}" for text in TRIALS]
    assert not any(name.startswith("test.") for row in rows for name in row)
    values = [float(row["valid.auc"]) for row in rows[:2]]
    assert values[1] > values[0] and rows[2]["finished"].startswith("failed")
    assert choice.config.learning_rate == 0.1 and choice.config.options.width == 2
    assert choice.config.max_steps == 20 and choice.trials == 3
    value = rows[1]["valid.auc"]
    assert choice.origin == f"`width=2 learning_rate=0.1`: valid auc {value} with seed 0, the best of 3 trials"


def test_the_winner_is_a_flagfile_of_the_model_s_own_command(searched):
    search, choice = searched
    path = os.path.join(search.output_dir, "settings", "fm.cfg")
    with open(path) as stream:
        assert stream.readline().startswith("# fm on csv: valid auc ")
    config = parse("fm", ["--data_dir=d", f"--flagfile={path}"])
    assert config.settings() == choice.config.settings()


def test_trials_are_not_repeated(searched, monkeypatch):
    search, choice = searched
    monkeypatch.setattr(sweeps, "execute", None)
    assert choose("fm", search) == choice


def test_another_metric_chooses_by_its_own_direction():
    rows = {
        "a": [{"valid.auc": "0.7", "valid.logloss": "0.5"}],
        "b": [{"valid.auc": "0.8", "valid.logloss": "0.6"}, {"valid.auc": "0.9", "valid.logloss": "0.5"}],
        "c": [{"valid.auc": "nan", "valid.logloss": "nan"}],
    }
    assert best(rows, "auc") == "b"
    assert best(rows, "logloss") == "a"
    with pytest.raises(ValueError, match=r"row 'a' has no valid\.gauc"):
        best(rows, "gauc")


def test_a_flagfile_of_model_and_data_set_takes_the_place_of_a_search(searched, tmp_path, monkeypatch):
    search, choice = searched
    for module in (flags, settings_module):
        monkeypatch.setattr(module, "FLAGFILES", str(tmp_path))
    (tmp_path / "csv.cfg").write_text("--patience=7\n--batch_size=300\n")
    (tmp_path / "fm_csv.cfg").write_text("--width=5\n--max_steps=4\n--epochs=3\n")
    found = choose("fm", search)
    assert found.origin == "--flagfile=fm_csv" and found.config.options.width == 5
    assert (found.config.patience, found.config.epochs) == (7, 3)
    assert (found.config.batch_size, found.config.max_steps) == (100, 20)  # as given
    assert found.trials == choice.trials
    monkeypatch.setattr(choosing, "_search", lambda model, base, search, name: (found.config, f"of {name}"))
    assert choose("fm", Search(**{**vars(search), "anew": True})).origin == "of csv"


def test_without_a_search_the_flags_are_taken_or_asked_for(searched):
    search, _ = searched
    found = choose("lr", Search(**{**vars(search), "name": "none"}))
    assert found.config.model == "lr" and found.config.max_steps == 20 and found.trials == 0
    with pytest.raises(ValueError, match=r"no search of 'lr' on 'csv' in .*searches\.py.*--searches=none"):
        choose("lr", search)


def test_a_search_without_a_survivor_is_an_error(searched, monkeypatch):
    search, _ = searched
    monkeypatch.setitem(SEARCHES, "csv", {"fm": TRIALS[2:]})
    with pytest.raises(ValueError, match="all 1 trials of 'fm' diverged"):
        choose("fm", search)


def test_models_that_are_not_trained_alike_are_refused(small_config):
    settings = {"a": small_config, "b": small_config.replace(learning_rate=1.0, model_options={"width": 8})}
    check_alike(settings)
    with pytest.raises(ValueError, match=r"trained alike, and --patience is None for a, 5 for c"):
        check_alike({**settings, "c": small_config.replace(patience=5)})
