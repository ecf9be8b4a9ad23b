"""What an import does, each case in a fresh process as only there nothing has been imported before."""

import json
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest

import xdeepint_ext

LABELS = [[1.0, 0.0, 0.0], [0.0, 1.0, 2.0]]
SCORES = [[0.6, 0.8, 0.1], [0.4, 0.3, 0.9]]


def fresh_process(code, **environment):
    inherited = {name: value for name, value in os.environ.items() if name != "TF_USE_LEGACY_KERAS"}
    search = os.pathsep.join([str(pathlib.Path(xdeepint_ext.__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
    environment = {**inherited, "PYTHONPATH": search, "TF_CPP_MIN_LOG_LEVEL": "3", **environment}
    return subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)


def facts_of(code):
    """Runs code that fills the dictionary ``facts`` and returns it."""
    done = fresh_process(f"import json, os, sys\nfacts = {{}}\n{code}\nprint('FACTS', json.dumps(facts))")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.rpartition("FACTS")[2])


@pytest.fixture(scope="module")
def plain_import():
    """One process that imports the package, then its layers and losses, then TF-Ranking through the shim."""
    return facts_of(
        f"""
import contextlib, io, logging, threading

def state():
    return [len(logging.getLogger().handlers), logging.getLogger().level, threading.active_count()]

written = io.StringIO()
with contextlib.redirect_stdout(written), contextlib.redirect_stderr(written):
    facts["before"] = state()
    import xdeepint_ext
    facts["variable"] = os.environ["TF_USE_LEGACY_KERAS"]
    facts["tensorflow at first"] = "tensorflow" in sys.modules
    xdeepint_ext.layers, xdeepint_ext.losses
    facts["after"] = state()
facts["written"] = written.getvalue()
heavy = {{"matplotlib", "safetensors", "tensorflow_ranking", "tensorflow_recommenders", "tokenizers"}}
facts["heavy"] = sorted(heavy & set(sys.modules))

import tensorflow as tf
import tf_keras
from xdeepint_ext.utils.tf_ranking import import_tensorflow_ranking
facts["keras 2"] = tf.keras.layers.Layer is tf_keras.layers.Layer
tfr = import_tensorflow_ranking()
facts["same module again"] = import_tensorflow_ranking() is tfr
facts["stubs left"] = [n for n in ("tensorflow.estimator", "tensorflow.compat.v1.estimator") if n in sys.modules]
facts["estimator"] = hasattr(tf, "estimator") or hasattr(tf.compat.v1, "estimator")
labels, scores = tf.constant({LABELS}), tf.constant({SCORES})
facts["loss"] = float(tfr.keras.losses.ApproxNDCGLoss(temperature=0.1)(labels, scores))
facts["metric"] = float(tfr.keras.metrics.NDCGMetric()(labels, scores))
try:
    tfr.ext.pipeline.tf_estimator.TrainSpec
except AttributeError as error:
    facts["error"] = str(error)
"""
    )


def test_import_sets_the_variable_and_leaves_tensorflow_alone(plain_import):
    assert plain_import["variable"] == "1"
    assert not plain_import["tensorflow at first"]
    assert plain_import["keras 2"]


def test_import_is_silent_and_starts_nothing(plain_import):
    assert plain_import["written"] == ""
    assert plain_import["after"] == plain_import["before"]


def test_layers_and_losses_do_not_import_what_is_heavy(plain_import):
    assert plain_import["heavy"] == []


def ndcg(ranks):
    """Discounted gain at the given ranks over the best one, averaged over the lists."""
    gains = 2.0 ** np.array(LABELS) - 1.0
    best = np.sum(np.sort(gains)[:, ::-1] / np.log2(2.0 + np.arange(3)), axis=1)
    return np.mean(np.sum(gains / np.log2(1.0 + ranks), axis=1) / best)


def test_shim_gives_tf_ranking_that_computes(plain_import):
    gaps = np.array(SCORES)[:, None, :] - np.array(SCORES)[:, :, None]
    soft_ranks = 0.5 + np.sum(1.0 / (1.0 + np.exp(-gaps / 0.1)), axis=2)
    hard_ranks = 1.0 + np.sum(gaps > 0.0, axis=2)
    np.testing.assert_allclose(plain_import["loss"], -ndcg(soft_ranks), rtol=1e-5)
    np.testing.assert_allclose(plain_import["metric"], ndcg(hard_ranks), rtol=1e-5)


def test_shim_leaves_tensorflow_as_it_was(plain_import):
    assert plain_import["same module again"]
    assert plain_import["stubs left"] == []
    assert not plain_import["estimator"]


def test_estimators_of_tf_ranking_say_why_they_fail(plain_import):
    assert "tf.estimator.TrainSpec: TensorFlow 2." in plain_import["error"]
    assert "tfr.keras" in plain_import["error"]


def test_tensorflow_imported_first_still_gives_keras_2_everywhere():
    facts = facts_of(
        """
import tensorflow as tf
import xdeepint_ext
from tensorflow.keras.layers import Dense
facts["modules"] = [Dense.__module__, tf.keras.layers.Dense.__module__]
"""
    )
    assert facts["modules"] == ["tf_keras.src.layers.core.dense"] * 2


@pytest.mark.parametrize(
    ("code", "environment", "cause"),
    [
        ("import tensorflow as tf; tf.keras.layers.Dense; import xdeepint_ext", {}, "Keras 3"),
        ("import xdeepint_ext", {"TF_USE_LEGACY_KERAS": "0"}, "TF_USE_LEGACY_KERAS='0'"),
    ],
    ids=["Keras 3 is active", "Keras 3 is asked for"],
)
def test_keras_3_is_refused_with_cause_and_cure(code, environment, cause):
    done = fresh_process(code, **environment)
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("ImportError: xdeepint_ext needs Keras 2")
    assert cause in last
    assert "set the environment variable TF_USE_LEGACY_KERAS=1" in last
    assert done.stderr.count("Traceback") == 1


def test_unknown_attribute_names_the_sub_packages():
    with pytest.raises(AttributeError, match=r"no attribute 'layer'; its sub-packages are .*layers, losses"):
        xdeepint_ext.layer  # noqa: B018
    assert {"layers", "schema", "__version__"} <= set(dir(xdeepint_ext))


def test_a_tensorflow_metadata_too_new_for_protobuf_is_named_with_its_cure():
    code = """
import sys
class Refusing:
    def find_spec(self, name, path=None, target=None):
        if name == "tensorflow_metadata.proto.v0":
            raise type("VersionError", (Exception,), {})("gencode 6.31.1 runtime 5.29.6")
sys.meta_path.insert(0, Refusing())
import xdeepint_ext.schema_io
"""
    done = fresh_process(code)
    assert done.returncode != 0
    assert "ImportError: The installed tensorflow-metadata needs a newer protobuf" in done.stderr
    assert "pip install 'tensorflow-metadata<1.18'" in done.stderr
