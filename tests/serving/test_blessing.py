"""Blessing: whole or not at all, behind the version that was compared, and one of several processes."""

import json
import subprocess
import sys
import threading

import pytest

from xdeepint_ext.serving.blessing import BLESSING, BlessingError, bless, last_blessed
from xdeepint_ext.serving.version_folder import missing_part, versions


@pytest.fixture
def candidate(tmp_path):
    """What `bless` needs of an export: the files that TensorFlow loads."""
    folder = tmp_path / "candidate" / "1"
    (folder / "variables").mkdir(parents=True)
    (folder / "saved_model.pb").write_bytes(b"graph")
    (folder / "variables" / "variables.index").write_bytes(b"index")
    return folder


def test_a_version_appears_with_what_it_was_judged_by(candidate, tmp_path):
    base = tmp_path / "served"
    assert last_blessed(base) is None
    assert bless(candidate, base, 20220425, None, {"auc": 0.7}) == str(base / "20220425")
    assert bless(candidate, base, 20220426, 20220425, {}) == str(base / "20220426")
    assert versions(base) == [20220425, 20220426] and last_blessed(base) == 20220426
    found = json.loads((base / "20220425" / BLESSING).read_text())
    assert found == {"version": 20220425, "against": None, "auc": 0.7}
    assert missing_part(str(base / "20220426")) == "" and (base / "20220426" / "variables" / "variables.index").exists()


def test_what_cannot_follow_is_refused(candidate, tmp_path):
    base = tmp_path / "served"
    bless(candidate, base, 7, None, {})
    with pytest.raises(BlessingError, match=r"version must be above 7, which is served from .*, got 6"):
        bless(candidate, base, 6, 7, {})
    with pytest.raises(BlessingError, match=r"judged against no version, but .* has version 7 now: another process"):
        bless(candidate, base, 8, None, {})
    (candidate / "saved_model.pb").unlink()
    with pytest.raises(FileNotFoundError, match=r"is no complete SavedModel: no saved_model\.pb"):
        bless(candidate, base, 8, 7, {})
    with pytest.raises(FileNotFoundError, match="is no complete SavedModel: it does not exist"):
        bless(candidate.parent / "2", base, 8, 7, {})
    assert versions(base) == [7] and not [path.name for path in base.iterdir() if path.name.startswith(".writing")]


def test_of_threads_that_bless_at_once_one_succeeds(candidate, tmp_path):
    """The lock is one of open files, so it keeps threads apart, too."""
    start, errors = threading.Barrier(4), []

    def try_to(version):
        start.wait()
        try:
            bless(candidate, tmp_path / "served", version, None, {})
        except BlessingError as error:
            errors.append(str(error))

    threads = [threading.Thread(target=try_to, args=(version,)) for version in range(1, 5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(versions(tmp_path / "served")) == 1
    assert len(errors) == 3 and all("another process blesses there, too" in error for error in errors)


@pytest.mark.slow
def test_of_processes_that_bless_at_once_one_succeeds(candidate, tmp_path):
    """Each waits for a file, so that all judge before any blesses."""
    program = """
import os, sys, time
from xdeepint_ext.serving.blessing import BlessingError, bless
candidate, base, version, go = sys.argv[1:]
print("ready", flush=True)
while not os.path.exists(go):
    time.sleep(0.001)
try:
    bless(candidate, base, int(version), None, {})
except BlessingError as error:
    sys.exit(f"refused: {error}")
"""
    base, go = tmp_path / "served", tmp_path / "go"
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", program, str(candidate), str(base), str(version), str(go)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for version in (1, 2)
    ]
    for process in processes:
        assert process.stdout.readline() == "ready\n"
    go.touch()
    errors = [process.communicate()[1] for process in processes]
    assert sorted(process.returncode for process in processes) == [0, 1], errors
    assert len(versions(base)) == 1
    assert "another process blesses there, too" in "".join(errors)
