"""What an export leaves on disk, and that it leaves nothing when it fails."""

import json
import os
import pathlib
import resource
import shutil
import stat

import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis import prediction_log_pb2

from tests.serving import c_api, cases
from xdeepint_ext import data, serving
from xdeepint_ext.data.manifest import describe_tables
from xdeepint_ext.schema import Feature, Schema
from xdeepint_ext.serving.version_folder import version_dir, versions, written_beside

FEATURES = (
    Feature("user", "categorical", "user", dtype="int"),
    Feature("history", "sequence", "user", table="video", max_length=4),
    Feature("video", "categorical", "item", table="video"),
    Feature("age", "numeric", "user", required=False),
    Feature("stars", "numeric", "item", scaling="none"),
    Feature("picture", "vector", "item", dimension=3),
)


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    case = cases.case(features=FEATURES)
    model = case.model()
    base = tmp_path_factory.mktemp("exports") / "new" / "base"
    folders = [
        serving.export(model, case.preprocessor, base),
        serving.export(model, case.preprocessor, os.fspath(base), version=7, warmup=case.rows[:3]),
    ]
    return case, model, base, folders


def test_versions_are_folders_of_the_base(exported):
    _, _, base, folders = exported
    assert folders == [os.fspath(base / "1"), os.fspath(base / "7")]
    assert sorted(os.listdir(base)) == ["1", "7"]
    assert versions(os.fspath(base)) == [1, 7]
    assert version_dir(os.fspath(base)) == folders[1] and version_dir(folders[0]) == folders[0]
    # A container's user is not the one who exported.
    assert stat.S_IMODE(os.stat(folders[0]).st_mode) == 0o777 & ~_umask()


def _umask():
    mask = os.umask(0)
    os.umask(mask)
    return mask


def test_schema_and_manifest_lie_beside_the_model(exported):
    case, _, _, folders = exported
    assert Schema.load(folders[0]) == case.schema
    manifest = data.Manifest.load(folders[0])
    assert manifest.schema == case.schema.fingerprint()
    assert manifest.tables == describe_tables(case.schema, case.preprocessor.vocabulary_dir)
    assert manifest.notes["export"]["tensorflow"] == tf.__version__


def test_the_datas_manifest_is_kept_and_another_ones_refused(exported, tmp_path):
    case, model, _, _ = exported
    tables = describe_tables(case.schema, case.preprocessor.vocabulary_dir)
    manifest = data.Manifest("mine", {}, tables, case.schema.fingerprint(), notes={"rows": 96})
    folder = serving.export(model, case.preprocessor, tmp_path / "a", prune=False, warmup=(), manifest=manifest)
    saved = data.Manifest.load(folder)
    assert saved.dataset == "mine" and saved.notes["rows"] == 96 and "export" in saved.notes
    assert "export" not in manifest.notes
    assert not {"assets.extra", "sample_rows.json"} & set(os.listdir(folder))
    manifest.tables = {**tables, "video": {**tables["video"], "fingerprint": "0"}}
    with pytest.raises(data.DataError, match=r"tables that differ: \['video'\]"):
        serving.export(model, case.preprocessor, tmp_path / "b", manifest=manifest)
    assert not (tmp_path / "b").exists()


def _requests(folder):
    file = pathlib.Path(folder, "assets.extra", "tf_serving_warmup_requests")
    logs = [
        prediction_log_pb2.PredictionLog.FromString(record.numpy()) for record in tf.data.TFRecordDataset(str(file))
    ]
    requests = [log.predict_log.request for log in logs]
    return [
        (folder, r.model_spec.signature_name, {name: tf.make_ndarray(x) for name, x in r.inputs.items()})
        for r in requests
    ]


def test_warm_up_requests_are_what_the_signatures_take(exported):
    case, model, _, folders = exported
    own, given = _requests(folders[0]), _requests(folders[1])
    for requests, count in ((own, 1), (given, 3)):
        assert [name for _, name, _ in requests] == ["serving_default", "predict_raw", "rank"]
        # `rank` with one candidate, as a server that batches refuses columns of different lengths.
        lengths = [{len(values) for values in inputs.values()} for _, _, inputs in requests]
        assert lengths == [{count}, {count}, {1}]
    answers = c_api.run_signatures([*own, *given])
    expected = case.scores(model)["logit"]
    for answer, rows in zip(answers[3:], (3, 3, 1), strict=True):
        np.testing.assert_allclose(answer["logit"], expected[:rows], rtol=0, atol=1e-6)
    for answer in answers[1:3]:
        np.testing.assert_allclose(answer["logit"], answers[0]["logit"], rtol=0, atol=1e-6)


def test_sample_rows_are_known_values(exported):
    case, _, _, folders = exported
    (sample,) = json.loads(pathlib.Path(folders[0], "sample_rows.json").read_text())
    first = {
        table: pathlib.Path(case.preprocessor.vocabulary_dir, f"{table}.txt").read_text().split()[0]
        for table in ("user", "video")
    }
    assert sample == {
        "user": int(first["user"]),
        "history": [first["video"]],
        "video": first["video"],
        "age": case.schema["age"].mean,
        "stars": 0.0,
        "picture": [0.0, 0.0, 0.0],
    }
    assert json.loads(pathlib.Path(folders[1], "sample_rows.json").read_text()) == case.rows[:3]


def test_half_a_version_is_left_out(exported, tmp_path, caplog):
    """As while somebody copies a version into the base folder."""
    _, _, base, _ = exported
    here = tmp_path / "base"
    shutil.copytree(base, here)
    (data_file,) = (here / "7" / "variables").glob("variables.data-*")
    data_file.write_bytes(data_file.read_bytes()[:-1])
    (here / "8").mkdir()
    (here / "9" / "variables").mkdir(parents=True)
    (here / "9" / "saved_model.pb").write_bytes((here / "1" / "saved_model.pb").read_bytes())
    assert version_dir(os.fspath(here)) == os.fspath(here / "1")
    assert "takes version 1, as others are incomplete" in caplog.text
    assert "9: 'no variables/variables.index'" in caplog.text and "8: 'no saved_model.pb'" in caplog.text
    size = data_file.stat().st_size
    with pytest.raises(FileNotFoundError, match=f"7 is incomplete: variables/variables.data-.* has .*{size:,} of"):
        version_dir(os.fspath(here / "7"))
    (here / "1" / "files.json").write_text("{")
    with pytest.raises(FileNotFoundError, match=r"no SavedModel at .*; .*1: 'files.json is cut off'"):
        version_dir(os.fspath(here))


# -- refusals -------------------------------------------------------------------------------------------------------


def test_an_existing_version_is_kept(exported):
    case, model, base, folders = exported
    before = pathlib.Path(folders[0], "saved_model.pb").read_bytes()
    with pytest.raises(FileExistsError, match=r"version 1 exists: .*1; give another"):
        serving.export(model, case.preprocessor, base, version=1)
    assert pathlib.Path(folders[0], "saved_model.pb").read_bytes() == before
    assert sorted(os.listdir(base)) == ["1", "7"]


def test_a_version_that_appears_meanwhile_is_kept(tmp_path):
    with pytest.raises(FileExistsError, match="appeared"), written_beside(os.fspath(tmp_path), 3) as (folder, final):
        pathlib.Path(folder, "file").write_text("ours")
        os.mkdir(final)
    assert os.listdir(tmp_path) == ["3"] and os.listdir(tmp_path / "3") == []


@pytest.mark.parametrize("version", [-1, 1.0, "2", True])
def test_a_version_must_be_a_whole_number(exported, tmp_path, version):
    case, model, _, _ = exported
    with pytest.raises(ValueError, match="version must be a whole number"):
        serving.export(model, case.preprocessor, tmp_path, prune=False, version=version)
    assert os.listdir(tmp_path) == []


def test_a_folder_that_cannot_be_written(exported, tmp_path):
    case, model, _, _ = exported
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match=r"cannot write .*file/base/1; nothing of it was left"):
        serving.export(model, case.preprocessor, tmp_path / "file" / "base", prune=False)


def test_a_full_disk_leaves_nothing(exported, tmp_path):
    """No file may become longer than 4 kB, as on a disk that is full then."""
    case, model, _, _ = exported
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
    try:
        with pytest.raises(OSError, match=r"cannot write .*new/base/1; nothing of it was left behind: .*too large"):
            serving.export(model, case.preprocessor, tmp_path / "new" / "base", prune=False)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert os.listdir(tmp_path) == []


def test_warm_up_rows_must_fit(exported, tmp_path):
    case, model, _, _ = exported
    with pytest.raises(ValueError, match="row 2, column 'user': expected a whole number, got 'me'"):
        serving.export(
            model, case.preprocessor, tmp_path / "base", warmup=[case.rows[0], {**case.rows[1], "user": "me"}]
        )
    assert os.listdir(tmp_path) == []


def test_a_preprocessor_of_another_schema_is_refused(exported, tmp_path):
    case, model, _, _ = exported
    other = Schema([feature.replace(scaling="log") if feature.name == "stars" else feature for feature in case.schema])
    with pytest.raises(ValueError, match=r"different schemas; they differ in \['stars'\]"):
        serving.export(model, data.Preprocessor(other, case.preprocessor.vocabulary_dir), tmp_path)


def test_a_model_without_a_schema_is_refused(tmp_path):
    with pytest.raises(ValueError, match="RankingModel with a schema, got Sequential"):
        serving.export(tf.keras.Sequential([tf.keras.layers.Dense(1)]), lambda raw: raw, tmp_path)
