"""A user's own CSV files: every kind of column, and what goes wrong with them."""

import gzip
import pathlib

import numpy as np
import pytest

from tests.data.prepared import all_records, ordered, records, vocabulary
from xdeepint_ext.data import DataError, read
from xdeepint_ext.data.prepare import prepare
from xdeepint_ext.schema import Feature, Schema, SchemaError

SCHEMA = Schema(
    [
        Feature("user", "categorical", ("user", "group")),
        Feature("country", role="user", missing="bucket"),
        Feature("movie", role="item", dtype="int", lookup="identity"),
        Feature("bucket", lookup="hash", num_values=10),
        Feature("genres", "multi", max_length=3, weights="genre_weights"),
        Feature("seen", "sequence", max_length=4, table="user"),
        Feature("price", "numeric"),
        Feature("price_bin", "numeric", source="price", binning="quantile", num_bins=2),
        Feature("photo", "vector", dimension=2),
        Feature("click", "numeric", "label"),
        Feature("importance", "numeric", "weight"),
    ]
)
HEADER = "user,country,movie,bucket,genres,genre_weights,seen,price,photo,click,importance"
ROWS = [
    'ann,no,0,a,"x|y",1|0.5,ann|bob,1.5,0.1|0.2,1,2',
    '"b ""q"", x",,3,b,,,,2.5,1|-1,0,1',
    '"two\nlines",se,2,c,x,2,bob,,,0,0.5',
    "d,no,1,,y|x|z,1|1|1,a|b|c|d|e,4,3|4,1,0",
]


def write(
    directory: pathlib.Path, rows: list[str] = ROWS, header: str = HEADER, schema: Schema = SCHEMA
) -> pathlib.Path:
    directory.mkdir(exist_ok=True)
    schema.save(directory)
    (directory / "train.csv").write_text("\n".join([header, *rows]) + "\n")
    return directory


def test_every_kind_of_column(tmp_path: pathlib.Path) -> None:
    out = tmp_path / "out"
    manifest = prepare("csv", raw_dir=write(tmp_path / "raw"), output_dir=out)
    f32 = lambda *values: [float(np.float32(v)) for v in values]  # noqa: E731
    expected = [
        {
            "user": [b"ann"],
            "country": [b"no"],
            "movie": [0],
            "bucket": [b"a"],
            "genres": [b"x", b"y"],
            "genre_weights": [1.0, 0.5],
            "seen": [b"ann", b"bob"],
            "price": [1.5],
            "photo": f32(0.1, 0.2),
            "click": [1.0],
            "importance": [2.0],
        },
        {
            "user": [b'b "q", x'],
            "movie": [3],
            "bucket": [b"b"],
            "genres": [],
            "genre_weights": [],
            "seen": [],
            "price": [2.5],
            "photo": [1.0, -1.0],
            "click": [0.0],
            "importance": [1.0],
        },
        {
            "user": [b"two\nlines"],
            "country": [b"se"],
            "movie": [2],
            "bucket": [b"c"],
            "genres": [b"x"],
            "genre_weights": [2.0],
            "seen": [b"bob"],
            "click": [0.0],
            "importance": [0.5],
        },
        {
            "user": [b"d"],
            "country": [b"no"],
            "movie": [1],
            "genres": [b"y", b"x", b"z"],
            "genre_weights": [1.0, 1.0, 1.0],
            "seen": [b"a", b"b", b"c", b"d", b"e"],
            "price": [4.0],
            "photo": [3.0, 4.0],
            "click": [1.0],
            "importance": [0.0],
        },
    ]
    assert ordered(records(out, "train")) == ordered(expected)
    schema = Schema.load(out)
    assert {f.name for f in schema if not f.required} == {"country", "bucket", "price", "price_bin", "photo"}
    assert schema["movie"].num_values == 4
    prices = np.array([1.5, 2.5, 4.0])
    assert schema["price"].mean == pytest.approx(prices.mean())
    assert schema["price"].deviation == pytest.approx(prices.std())
    assert schema["price_bin"].boundaries == (2.5,)
    # `user` and `seen` are counted together; a value with a newline cannot stand in a vocabulary.
    assert vocabulary(out, "user") == ["ann", "bob", "d", "a", "b", 'b "q", x', "c", "e"]
    assert manifest.notes["values_with_newline"] == {"user": 1}
    features, labels, weights = next(iter(read(out, "train", 4)))
    order = np.argsort(features["movie"][:, 0])
    assert features["user"].numpy()[order, 0].tolist() == [2, 4, 1, 7]
    assert features["country"].numpy()[order, 0].tolist() == [2, 2, 3, 4]
    assert labels.numpy()[order, 0].tolist() == [1.0, 1.0, 0.0, 0.0]
    assert weights.numpy()[order].tolist() == [2.0, 0.0, 0.5, 1.0]


def test_files_that_name_their_split_may_have_columns_in_another_order(tmp_path: pathlib.Path) -> None:
    raw = tmp_path / "raw"
    raw.mkdir()
    Schema([Feature("a"), Feature("y", "numeric", "label")]).save(raw)
    (raw / "train_1.csv").write_text("a,y\r\nq,1\r\n")
    (raw / "train_2.tsv").write_text("y\ta\n0\tr\n")
    (raw / "valid.csv").write_bytes(b"\xef\xbb\xbfy,a\n1,q")
    (raw / "test.csv.gz").write_bytes(gzip.compress(b"extra,a,y\n9,s,0\n\n9,,1\n"))
    prepare("csv", raw_dir=raw, output_dir=tmp_path / "out", ignore_columns="extra")
    assert ordered(records(tmp_path / "out", "train")) == [{"a": [b"q"], "y": [1.0]}, {"a": [b"r"], "y": [0.0]}]
    assert records(tmp_path / "out", "valid") == [{"a": [b"q"], "y": [1.0]}]
    assert records(tmp_path / "out", "test") == [{"a": [b"s"], "y": [0.0]}, {"y": [1.0]}]


def test_other_files_are_split_at_random(tmp_path: pathlib.Path) -> None:
    raw = tmp_path / "raw"
    raw.mkdir()
    Schema([Feature("a", dtype="int"), Feature("y", "numeric", "label")]).save(raw)
    (raw / "log.csv").write_text("a,y\n" + "".join(f"{i},{i % 2}\n" for i in range(500)))
    manifest = prepare("csv", raw_dir=raw, output_dir=tmp_path / "out", valid_fraction=0.2, test_fraction=0.0)
    assert list(manifest.splits) == ["train", "valid"]
    assert 70 <= manifest.records("valid") <= 130
    assert sorted(record["a"][0] for record in all_records(tmp_path / "out")) == list(range(500))
    (raw / "train.csv").write_text("a,y\n1,1\n")
    with pytest.raises(DataError, match=r"log.csv begins with none of"):
        prepare("csv", raw_dir=raw, output_dir=tmp_path / "out2")


def test_an_overlay_gives_the_roles(tmp_path: pathlib.Path) -> None:
    raw = tmp_path / "raw"
    raw.mkdir()
    Schema([Feature("a"), Feature("b"), Feature("y", "numeric", scaling="none")]).save(raw)
    (raw / "train.csv").write_text("a,b,y\nq,w,1\nr,w,0\n")
    with pytest.raises(SchemaError, match="no column has the role 'label'"):
        prepare("csv", raw_dir=raw, output_dir=tmp_path / "out")
    roles = tmp_path / "my_roles.yaml"
    roles.write_text("features:\n  y: label\n  b: {kind: ignore}\n")
    prepare("csv", raw_dir=raw, output_dir=tmp_path / "out", roles=str(roles))
    assert Schema.load(tmp_path / "out").tasks == ("y",)
    assert ordered(all_records(tmp_path / "out")) == [{"a": [b"q"], "y": [1.0]}, {"a": [b"r"], "y": [0.0]}]


def test_several_tasks_where_some_labels_are_missing(tmp_path: pathlib.Path) -> None:
    raw = tmp_path / "raw"
    raw.mkdir()
    Schema([Feature("a"), Feature("ctr", "numeric", "label"), Feature("cvr", "numeric", "label")]).save(raw)
    (raw / "train.csv").write_text("a,ctr,cvr\nq,1,0\nq,0,NA\n")
    prepare("csv", raw_dir=raw, output_dir=tmp_path / "out", missing_values="NA,?")
    assert ordered(all_records(tmp_path / "out")) == ordered(
        [{"a": [b"q"], "ctr": [1.0], "cvr": [0.0]}, {"a": [b"q"], "ctr": [0.0]}]
    )
    schema = Schema.load(tmp_path / "out")
    assert (schema["ctr"].required, schema["cvr"].required) == (True, False)
    (raw / "train.csv").write_text("a,ctr,cvr\nq,1,0\nq,,\n")
    with pytest.raises(DataError, match=r"train.csv, row 3: all labels \['ctr', 'cvr'\] are missing"):
        prepare("csv", raw_dir=raw, output_dir=tmp_path / "out2")


@pytest.mark.parametrize("dtype", ["int", "float"])
def test_labels_and_weights_of_either_type(tmp_path: pathlib.Path, dtype: str) -> None:
    raw = tmp_path / "raw"
    raw.mkdir()
    Schema(
        [Feature("a"), Feature("y", "numeric", "label", dtype=dtype), Feature("w", "numeric", "weight", dtype=dtype)]
    ).save(raw)
    (raw / "train.csv").write_text("a,y,w\nq,1,2\n")
    prepare("csv", raw_dir=raw, output_dir=tmp_path / "out")
    assert all_records(tmp_path / "out") == [{"a": [b"q"], "y": [1], "w": [2]}]
    for row, message in (("q,2,1", "'y': a label must be 0 or 1, got '2'"), ("q,1,-1", "'w': a weight must be >= 0")):
        (raw / "train.csv").write_text(f"a,y,w\n{row}\n")
        with pytest.raises(DataError, match=f"row 2: column {message}"):
            prepare("csv", raw_dir=raw, output_dir=tmp_path / "out2")


def test_what_the_schema_says_already_stays(tmp_path: pathlib.Path) -> None:
    raw = tmp_path / "raw"
    raw.mkdir()
    given = [
        Feature("x", "numeric", mean=3.0, deviation=2.0),
        Feature("q", "numeric", source="x", binning="quantile", num_bins=4, boundaries=(0.0, 9.0)),
        Feature("b", "numeric", source="x", binning="boundaries", boundaries=(5.0,)),
        Feature("z", "numeric", source="x", num_bins=2, binning="quantile"),
        Feature("id", dtype="int", lookup="identity", num_values=7),
        Feature("y", "numeric", "label"),
    ]
    Schema(given).save(raw)
    (raw / "train.csv").write_text("x,id,y\n1,0,1\n2,3,0\n")
    prepare("csv", raw_dir=raw, output_dir=tmp_path / "out")
    assert Schema.load(tmp_path / "out") == Schema(given).replace({"z": {"boundaries": (2.0,)}})


def test_hashing_needs_a_number_of_buckets(tmp_path: pathlib.Path) -> None:
    raw = write(tmp_path / "raw", schema=SCHEMA.replace({"bucket": {"num_values": None}}))
    with pytest.raises(SchemaError, match="feature 'bucket': lookup 'hash' needs num_values"):
        prepare("csv", raw_dir=raw, output_dir=tmp_path / "out")


def test_graded_labels_only_where_asked_for(tmp_path: pathlib.Path) -> None:
    raw = tmp_path / "raw"
    raw.mkdir()
    Schema([Feature("a"), Feature("y", "numeric", "label")]).save(raw)
    (raw / "train.csv").write_text("a,y\nq,3\nr,-1.5\n")
    with pytest.raises(DataError, match=r"train.csv, row 2: column 'y': a label must be 0 or 1, got '3'"):
        prepare("csv", raw_dir=raw, output_dir=tmp_path / "out")
    prepare("csv", raw_dir=raw, output_dir=tmp_path / "out", label_values="any")
    assert sorted(record["y"][0] for record in all_records(tmp_path / "out")) == [-1.5, 3.0]
    (raw / "train.csv").write_text("a,y\nq,nan\n")
    with pytest.raises(DataError, match="column 'y': expected a finite 32-bit number, got 'nan'"):
        prepare("csv", raw_dir=raw, output_dir=tmp_path / "out2", label_values="any")


@pytest.mark.parametrize(
    ("header", "message"),
    [
        (HEADER.replace("country", "contry"), "no column 'country' of the schema (did you mean 'contry'?)"),
        (HEADER.replace("genre_weights,", ""), "no column 'genre_weights' of the schema; it has"),
        (HEADER + ",prise", "the schema has no column 'prise' (did you mean 'price'?)"),
        (HEADER.replace("country", "user"), "column 'user' is there twice"),
        ("", "no column 'user' of the schema"),
    ],
)
def test_header_and_schema_disagree(tmp_path: pathlib.Path, header: str, message: str) -> None:
    with pytest.raises(DataError) as caught:
        prepare("csv", raw_dir=write(tmp_path / "raw", header=header), output_dir=tmp_path / "out")
    assert str(caught.value).startswith(f"train.csv: {message}")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("movie", "1.0", "expected an integer, got '1.0'"),
        ("movie", "1_0", "expected a 64-bit integer, got '1_0'"),
        ("movie", str(2**63), f"expected a 64-bit integer, got '{2**63}'"),
        ("price", "cheap", "expected a number, got 'cheap'"),
        ("price", "inf", "expected a finite 32-bit number, got 'inf'"),
        ("price", "1e39", "expected a finite 32-bit number, got '1e39'"),
        ("photo", "1|2|3", "expected 2 numbers, got 3"),
        ("photo", "1|", "expected a number, got ''"),
        ("genres", "x||y", "an empty value between two '|'"),
        ("genre_weights", "1|2|3", None),
        ("click", "2", "a label must be 0 or 1, got '2'"),
        ("click", "", "the value is missing"),
        ("importance", "-1", "a weight must be >= 0, got '-1'"),
        ("importance", "", "the value is missing"),
    ],
)
def test_values_of_the_wrong_type(tmp_path: pathlib.Path, column: str, value: str, message: str | None) -> None:
    names = HEADER.split(",")
    good = ["ann", "no", "0", "a", "x|y", "1|0.5", "ann", "1.5", "0.1|0.2", "1", "2"]
    bad = [value if name == column else text for name, text in zip(names, good, strict=True)]
    raw = write(tmp_path / "raw", [",".join(good), ",".join(bad), ",".join(good)])
    message = (
        f"column {column!r}: {message}"
        if message
        else ("column 'genres': 2 values but 3 weights in column 'genre_weights'")
    )
    with pytest.raises(DataError) as caught:
        prepare("csv", raw_dir=raw, output_dir=tmp_path / "out")
    assert str(caught.value) == f"train.csv, row 3: {message}"
    manifest = prepare("csv", raw_dir=raw, output_dir=tmp_path / "out", max_bad_rows=1)
    assert manifest.records("train") == 2


def test_identity_ids_beyond_what_the_schema_allows(tmp_path: pathlib.Path) -> None:
    raw = write(tmp_path / "raw", schema=SCHEMA.replace({"movie": {"num_values": 3}}))
    with pytest.raises(DataError, match=r"train.csv, row 3: column 'movie': expected an id in 0 .. 2, got '3'"):
        prepare("csv", raw_dir=raw, output_dir=tmp_path / "out")


def test_an_unclosed_quote_is_a_bad_row(tmp_path: pathlib.Path) -> None:
    raw = write(tmp_path / "raw", [*ROWS, '"never closed,no,0,a,,,,1,1|2,1,1'])
    with pytest.raises(DataError, match=r"train.csv, row 6: expected 11 columns, got 1"):
        prepare("csv", raw_dir=raw, output_dir=tmp_path / "out")


def test_two_features_of_one_column_must_agree_about_its_type(tmp_path: pathlib.Path) -> None:
    schema = Schema([Feature("a"), Feature("b", dtype="int", source="a"), Feature("y", "numeric", "label")])
    raw = tmp_path / "raw"
    raw.mkdir()
    schema.save(raw)
    (raw / "train.csv").write_text("a,y\n1,1\n")
    with pytest.raises(SchemaError, match="feature 'b': column 'a' was 'string' in dtype for another feature"):
        prepare("csv", raw_dir=raw, output_dir=tmp_path / "out")


def test_nothing_there(tmp_path: pathlib.Path) -> None:
    with pytest.raises(FileNotFoundError, match="no schema at"):
        prepare("csv", raw_dir=tmp_path, output_dir=tmp_path / "out")
    SCHEMA.save(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"no .csv or .tsv file"):
        prepare("csv", raw_dir=tmp_path, output_dir=tmp_path / "out")
    with pytest.raises(FileNotFoundError, match="raw_dir is needed"):
        prepare("csv", output_dir=tmp_path / "out")
    (tmp_path / "train.csv").write_text(HEADER + "\n")
    with pytest.raises(DataError, match="csv: no record for split 'train'"):
        prepare("csv", raw_dir=tmp_path, output_dir=tmp_path / "out")
