"""AdaEnsemble's flags and flagfiles: schedules as text, and the authors' numbers."""

import numpy as np
import pytest

from xdeepint_ext.experiments import Config
from xdeepint_ext.experiments.flags import parse
from xdeepint_ext.experiments.optimizer_options import make_optimizers
from xdeepint_ext.models import AdaEnsemble
from xdeepint_ext.schema import Feature, Schema

SCHEMA = Schema([Feature("user", num_values=3), Feature("item", num_values=3), Feature("click", "numeric", "label")])
BATCH = 4096


def model_of(*flags):
    return parse("adaensemble", ["--data_dir=d", *flags]).options.make(SCHEMA)


def test_the_defaults_are_the_model_s():
    given, own = model_of().get_config(), AdaEnsemble(SCHEMA).get_config()
    assert {**given, "name": 0} == {**own, "name": 0}


def test_schedules_shares_and_names_are_read():
    config = model_of(
        "--k=10:2,20:1",
        "--exit_k=2",
        "--num_layers=2",
        "--experts=cross,cin,interaction_machine",
        "--expert_prior=0.5,0.25,0.25",
        "--exit_prior=0.75,0.25",
    ).get_config()
    assert (config["k"], config["exit_k"]) == ([[10, 2], [20, 1]], 2)
    assert config["experts"] == ["cross", "cin", "interaction_machine"]
    assert (config["expert_prior"], config["exit_prior"]) == ([0.5, 0.25, 0.25], [0.75, 0.25])


@pytest.mark.parametrize("text", ["three", "10:2,20", "10:2:3", "10:x", ""])
def test_what_is_no_schedule_is_named(text):
    with pytest.raises(ValueError, match=rf"exit_k must be a number, or step:k,step:k; got '{text}'"):
        Config(data_dir="d", model="adaensemble", model_options={"exit_k": text})


def test_a_number_and_its_text_are_one_setting():
    first, second = (Config(data_dir="d", model="adaensemble", model_options={"k": k}) for k in (2, "2"))
    assert first.settings() == second.settings() == "k=2 model=adaensemble"
    assert Config(data_dir="d", model="adaensemble", model_options={"k": 3}).settings() == "model=adaensemble"


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--k=6"], "k must be in 1 .. 5"),
        (["--exit_k=5"], "k must be in 1 .. 4"),
        (["--expert_prior=0.5,0.5"], "prior must be 5 positive shares"),
        (["--experts=cross,mlp", "--k=1"], r"experts must be names in .* got \['mlp'\]"),
    ],
)
def test_the_model_refuses_what_does_not_fit(flags, message):
    with pytest.raises(ValueError, match=message):
        model_of(*flags)


@pytest.mark.parametrize("name", ["adaensemble_criteo", "adaensemble_criteo_code"])
def test_g_ftrl_has_the_authors_constants_for_the_mean_loss(name):
    """The specification's section 3.2."""
    config = parse("adaensemble", ["--data_dir=d", f"--flagfile={name}"])
    made = make_optimizers(config, 10)
    embedding = made["embedding"]
    assert config.batch_size == BATCH
    constants = [float(embedding.learning_rate), embedding.beta, embedding.lambda1, embedding.lambda2]
    np.testing.assert_allclose(constants, [0.02, 1e-4, 1e-3, 1e-3], rtol=1e-6)
    assert [float(made[group].learning_rate) for group in ("interaction", "default")] == pytest.approx([1e-3] * 2)


def test_the_code_s_flagfile_makes_the_authors_model():
    """Parameters without tables as the specification's section 3.6 counts them, and the settings of section 3.2."""
    options = parse("adaensemble", ["--data_dir=d", "--flagfile=adaensemble_criteo_code"]).options
    model = options.make(Schema([Feature(f"f{i}", num_values=1) for i in range(38)]))
    parameters = model.count_params()
    assert parameters - sum(np.prod(table.shape) for table in model.embedding.weights) == 5_853_979
    exits = model.exits
    assert (exits.mode, exits.gate.k, exits.gate.prior) == ("hard", 1, [0.1, 0.2, 0.6, 0.1])
    for layer in exits.layers:
        gate = layer.gate
        assert (layer.combine, gate.k, gate.prior) == ("sum", 3, [0.2, 0.2, 0.4, 0.1, 0.1])
        assert (gate.balance_weight, gate.z_weight, gate.jitter, gate.noise) == (1.0, 1.0, 0.5, 0.0)
