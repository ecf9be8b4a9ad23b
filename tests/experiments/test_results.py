"""The file of finished runs."""

import threading

from xdeepint_ext.experiments.results import Results


def test_results_keep_old_rows_when_columns_are_added(tmp_path):
    path = str(tmp_path / "results.csv")
    Results(path).add({"seed": 1, "settings": "a=0.50 model=lr"}, {"x": 0.25})
    results = Results(path)
    results.add({"seed": 2, "settings": "model=lr"}, {"y": 1})
    again = Results(path)
    assert again.find({"settings": "model=lr a=.5", "seed": "1"})["x"] == "0.25"
    assert again.find({"seed": 1}, needs="y") is None
    assert [row["y"] for row in again] == ["", "1"]


def test_rows_are_replaced_and_removed(tmp_path):
    results = Results(str(tmp_path / "results.csv"))
    for seed in (1, 2, 1):
        results.add({"seed": seed}, {"x": seed}, replace=True)
    assert [row["seed"] for row in results] == ["2", "1"]
    results.remove(lambda row: row["seed"] == "2")
    assert [row["seed"] for row in Results(results.path)] == ["1"]


def test_writers_of_one_file_lose_nothing(tmp_path):
    path = str(tmp_path / "results.csv")
    count = 30

    def write(writer):
        results = Results(path)  # each has read the file when it was empty
        started.wait()
        for number in range(count):
            results.add({"writer": writer, "number": number}, {f"column_{writer}": number})

    started = threading.Barrier(3)
    threads = [threading.Thread(target=write, args=(writer,)) for writer in "abc"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = [(row["writer"], int(row["number"])) for row in Results(path)]
    assert sorted(found) == [(writer, number) for writer in "abc" for number in range(count)]
    assert all(row[f"column_{row['writer']}"] == row["number"] for row in Results(path))
