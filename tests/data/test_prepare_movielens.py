"""The MovieLens loader on small files of both documented formats."""

import pathlib

import pytest

from tests.data.prepared import all_records, ordered, records
from xdeepint_ext.data import DataError
from xdeepint_ext.data.prepare import prepare
from xdeepint_ext.schema import Schema

MOVIES = {
    1: ("Toy Story (1995)", ["Animation", "Comedy"]),
    2: ('Am"lie, or: "Quotes", commas (2001) ', ["Comedy"]),
    3: ("No year", []),
}


def write_latest(directory: pathlib.Path, rows: int = 30) -> pathlib.Path:
    directory.mkdir()
    lines = ["movieId,title,genres"]
    for movie, (title, genres) in MOVIES.items():
        quoted = '"' + title.replace('"', '""') + '"' if "," in title else title
        lines.append(f"{movie},{quoted},{'|'.join(genres) or '(no genres listed)'}")
    (directory / "movies.csv").write_text("\r\n".join(lines) + "\r\n")
    ratings = [f"{i % 4 + 1},{i % 3 + 1},{0.5 + i % 10 / 2},{1000 - i}" for i in range(rows)]
    (directory / "ratings.csv").write_text("userId,movieId,rating,timestamp\r\n" + "\r\n".join(ratings) + "\r\n")
    return directory


def write_1m(directory: pathlib.Path) -> pathlib.Path:
    directory.mkdir()
    movies = "".join(f"{m}::{t}::{'|'.join(g) or 'Drama'}\n" for m, (t, g) in MOVIES.items())
    (directory / "movies.dat").write_bytes(movies.replace("Am", "Amé").encode("latin-1"))
    (directory / "users.dat").write_text("".join(f"{u}::{'FM'[u % 2]}::25::{u}::5506{u}\n" for u in range(1, 5)))
    ratings = [f"{i % 4 + 1}::{i % 3 + 1}::{i % 5 + 1}::{1000 + i}" for i in range(30)]
    (directory / "ratings.dat").write_text("\n".join(ratings) + "\n")
    return directory


def test_latest(tmp_path: pathlib.Path) -> None:
    out = tmp_path / "out"
    prepare("movielens", raw_dir=write_latest(tmp_path / "raw"), output_dir=out, min_count=1)
    expected = []
    for i in range(30):
        _, genres = MOVIES[i % 3 + 1]
        record = {
            "user_id": [i % 4 + 1],
            "movie_id": [i % 3 + 1],
            "genres": [g.encode() for g in genres],
            "year": [[1995], [2001], None][i % 3],
            "label": [float(0.5 + i % 10 / 2 >= 4)],
        }
        expected.append({name: value for name, value in record.items() if value is not None})
    assert ordered(all_records(out)) == ordered(expected)
    # Times fall from row to row: the first three rows are the latest tenth.
    assert records(out, "test") == expected[:3]
    assert records(out, "valid") == expected[3:6]
    schema = Schema.load(out)
    assert {f.name: f.roles for f in schema if f.roles} == {
        "user_id": ("user", "group"),
        "movie_id": ("item", "item_id"),
        "genres": ("item",),
        "year": ("item",),
        "label": ("label",),
    }
    assert schema["genres"].kind == "multi"
    assert schema["genres"].required
    assert not schema["year"].required


def test_1m(tmp_path: pathlib.Path) -> None:
    out = tmp_path / "out"
    prepare("movielens", raw_dir=write_1m(tmp_path / "raw"), output_dir=out, min_count=1, positive_rating=5.0)
    assert len(all_records(out)) == 30
    for i, record in enumerate(records(out, "test"), 27):
        user = i % 4 + 1
        assert record["label"] == [float(i % 5 == 4)]
        assert (record["gender"], record["age"], record["occupation"], record["zip_code"]) == (
            ["FM"[user % 2].encode()],
            [b"25"],
            [str(user).encode()],
            [f"5506{user}".encode()],
        )
    assert len(records(out, "test")) == 3


def test_ratings_of_one_second_stay_together(tmp_path: pathlib.Path) -> None:
    raw = write_latest(tmp_path / "raw")
    lines = [f"{i % 4 + 1},{i % 3 + 1},4.0,{i // 7}" for i in range(35)]
    (raw / "ratings.csv").write_text("userId,movieId,rating,timestamp\n" + "\n".join(lines))
    prepare("movielens", raw_dir=raw, output_dir=tmp_path / "out", valid_fraction=0.2, test_fraction=0.2, min_count=1)
    assert [len(records(tmp_path / "out", split)) for split in ("train", "valid", "test")] == [21, 7, 7]


def test_unknown_movies_are_counted(tmp_path: pathlib.Path) -> None:
    raw = write_latest(tmp_path / "raw")
    text = (raw / "ratings.csv").read_text().replace("1,1,0.5,1000", "1,99,0.5,1000")
    (raw / "ratings.csv").write_text(text)
    manifest = prepare("movielens", raw_dir=raw, output_dir=tmp_path / "out", min_count=1)
    assert manifest.notes["records_without_movie"] == 1
    (record,) = [record for record in all_records(tmp_path / "out") if record["movie_id"] == [99]]
    assert record["genres"] == []
    assert "year" not in record


@pytest.mark.parametrize(
    ("file", "old", "new", "message"),
    [
        ("ratings.csv", "1,1,0.5,1000", "1,1,6.5,1000", "ratings.csv, row 2: expected a rating of 0 .. 5"),
        ("ratings.csv", "1,1,0.5,1000", "1,1,x,1000", "ratings.csv, row 2: expected a rating of 0 .. 5"),
        ("ratings.csv", "1,1,0.5,1000", "1,1,0.5,later", "ratings.csv, row 2: .* got '0.5 and later'"),
        ("ratings.csv", "1,1,0.5,1000", "1,1,0.5", "ratings.csv, row 2: expected 4 columns, got 3"),
        ("movies.csv", "3,No year", "1,No year", "movies.csv, row 4: '1' is there twice"),
        ("movies.csv", "3,No year", "3", "movies.csv, row 4: expected 3 columns, got 2"),
        ("movies.csv", "title", "name", "movies.csv: no column 'title'; it has"),
    ],
)
def test_bad_rows(tmp_path: pathlib.Path, file: str, old: str, new: str, message: str) -> None:
    raw = write_latest(tmp_path / "raw")
    text = (raw / file).read_text()
    assert old in text
    (raw / file).write_text(text.replace(old, new, 1))
    with pytest.raises(DataError, match=message):
        prepare("movielens", raw_dir=raw, output_dir=tmp_path / "out", min_count=1)
