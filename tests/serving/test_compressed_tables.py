"""Tables in float16 and int8: how much smaller an export gets, and how little its scores move."""

import json
import os
import pathlib

import numpy as np
import pytest

from tests.serving import c_api, cases
from xdeepint_ext import serving
from xdeepint_ext.data.parsing import raw_signature
from xdeepint_ext.models import XDeepInt
from xdeepint_ext.models.baselines import WideDeep
from xdeepint_ext.schema import Feature
from xdeepint_ext.serving.compressed_tables import CompressedTables
from xdeepint_ext.serving.quantize import decode, encode
from xdeepint_ext.serving.rows import typed
from xdeepint_ext.serving.tables import embeddings

FEATURES = (
    Feature("user", "categorical", "user", dtype="int", lookup="hash", num_values=5000),
    Feature("video", "categorical", "item"),
    Feature("stars", "numeric", "item"),
)


def size_of(folder):
    return sum(os.path.getsize(path) for path in pathlib.Path(folder, "variables").rglob("*") if path.is_file())


def test_smaller_exports_score_nearly_the_same(tmp_path):
    case = cases.case(features=FEATURES)
    model = case.model(XDeepInt, width=16, num_layers=1)
    raw = typed(case.rows, raw_signature(case.schema))
    # The expected scores: the model with its tables rounded as the export says it rounds them.
    folders, expected = {}, {}
    original = [table.numpy() for layer in embeddings(model) for table in layer.tables.values()]
    for dtype in ("float32", "float16", "int8"):
        folders[dtype] = serving.export(model, case.preprocessor, tmp_path / dtype, prune=False, table_dtype=dtype)
        assert all(layer.look_up is None for layer in embeddings(model))
        for (table,), array in zip([layer.tables.values() for layer in embeddings(model)], original, strict=True):
            table.assign(decode(encode(array, dtype)))
        expected[dtype] = case.scores(model)["logit"]
        for (table,), array in zip([layer.tables.values() for layer in embeddings(model)], original, strict=True):
            table.assign(array)
    answers = c_api.run_signatures([(folder, "predict_raw", raw) for folder in folders.values()])
    for dtype, answer in zip(folders, answers, strict=True):
        np.testing.assert_allclose(answer["logit"], expected[dtype], rtol=0, atol=1e-6)
    assert 0 < np.abs(expected["float16"] - expected["float32"]).max() < 1e-2
    assert np.abs(expected["int8"] - expected["float32"]).max() < 0.1
    sizes = {dtype: size_of(folder) for dtype, folder in folders.items()}
    rows = sum(len(array) for array in original)
    assert sizes["float32"] - sizes["float16"] == pytest.approx(rows * 16 * 2, rel=0.05)
    assert sizes["float32"] - sizes["int8"] == pytest.approx(rows * (16 * 3 - 4), rel=0.05)
    notes = json.loads(pathlib.Path(folders["int8"], "manifest.json").read_text())["notes"]["export"]
    assert notes["table_bytes"] == {"before": rows * 64, "after": rows * 20}
    assert 0 < notes["largest_table_error"] <= max(np.abs(array).max() for array in original) / 127


def test_narrow_tables_are_no_larger_than_float16():
    case = cases.case(features=FEATURES)
    tables = CompressedTables(case.model(WideDeep, units=[4]), "int8")
    kinds = {(kept[0].shape[1], kept[0].dtype.name, len(kept)) for kept in tables._kept}
    assert kinds == {(8, "int8", 2), (1, "float16", 1)}


def test_what_does_not_fit_is_named(tmp_path):
    case = cases.case(features=FEATURES)
    model = case.model(XDeepInt, num_layers=1)
    with pytest.raises(ValueError, match=r"table_dtype must be one of .*'bfloat16'"):
        serving.export(model, case.preprocessor, tmp_path, table_dtype="bfloat16")
    table = model.embedding.table
    table.scatter_nd_update([[7, 0]], [1e5])
    with pytest.raises(ValueError, match=r"table_dtype=float16: row 7 of .*table.* has a number"):
        serving.export(model, case.preprocessor, tmp_path, prune=False, table_dtype="float16")
    assert os.listdir(tmp_path) == []
