"""The launcher: places, prefixes, exit codes, signals and restarts, with programs that need no TensorFlow."""

import io
import json
import sys
import threading
import time

import pytest

from xdeepint_ext.experiments.local_cluster import LocalCluster, main

WHO = "import json, os; task = json.loads(os.environ['TF_CONFIG'])['task']; me = task['type'] + str(task['index']); "
WAIT = "import time; time.sleep(60)"


def cluster_of(program, **options):
    output = io.StringIO()
    return LocalCluster([sys.executable, "-c", WHO + program], output=output, **options), output


def finish(cluster):
    cluster.start()
    return cluster.wait()


def test_every_process_knows_its_place_and_begins_its_lines_with_it():
    cluster, output = cluster_of("print('I am', me, os.environ['TF_CONFIG'])", workers=2)
    assert finish(cluster) == 0
    lines = sorted(output.getvalue().splitlines())
    assert [line.split(" {")[0] for line in lines] == ["[worker 0] I am worker0", "[worker 1] I am worker1"]
    clusters = [json.loads(line.partition(" {")[1].strip() + line.partition(" {")[2])["cluster"] for line in lines]
    assert clusters[0] == clusters[1] and len(set(clusters[0]["worker"])) == 2


@pytest.mark.parametrize(("threads", "expected"), [(1, "1 1 2"), (3, "3 3 3")])
def test_threads_are_bounded_but_an_operation_that_waits_does_not_keep_the_only_one(threads, expected):
    names = ("TF_NUM_INTRAOP_THREADS", "OMP_NUM_THREADS", "TF_NUM_INTEROP_THREADS")
    cluster, output = cluster_of(f"print(*map(os.environ.get, {names}))", workers=1, threads=threads)
    assert finish(cluster) == 0
    assert output.getvalue() == f"[worker 0] {expected}\n"


def test_the_first_failing_exit_code_is_returned_and_the_others_are_ended():
    cluster, output = cluster_of(f"exit(3) if me == 'worker1' else None; {WAIT}", workers=3)
    assert finish(cluster) == 3
    assert "worker 1 ended with exit code 3" in output.getvalue()
    assert all(process.poll() is not None for process in cluster.processes.values())


def test_servers_end_with_the_coordinator():
    cluster, _ = cluster_of(f"exit(0) if me == 'chief0' else None; {WAIT}", workers=1, ps=1)
    assert finish(cluster) == 0
    assert set(cluster.processes) == {"chief 0", "worker 0", "ps 0"}


def test_sigterm_is_passed_on():
    handler = "import signal, sys; signal.signal(signal.SIGTERM, lambda *_: sys.exit(75)); print('ready', flush=True); "
    cluster, output = cluster_of(handler + WAIT, workers=2)
    cluster.start()
    codes = []
    waiting = threading.Thread(target=lambda: codes.append(cluster.wait()))
    waiting.start()
    deadline = time.monotonic() + 60
    while output.getvalue().count("ready") < 2 and time.monotonic() < deadline:
        time.sleep(0.05)
    cluster.terminate()
    waiting.join(timeout=60)
    assert codes == [75]


@pytest.mark.parametrize(("ps", "again"), [(0, "worker 0, worker 1"), (1, "worker 1")])
def test_a_killed_process_is_started_again(tmp_path, ps, again):
    mark = tmp_path / "mark"
    killed = f"first = not os.path.exists({str(mark)!r}); "
    killed += f"me == 'worker1' and first and (open({str(mark)!r}, 'w').close(), os.kill(os.getpid(), 9)); "
    waits = f"import time; [time.sleep(0.05) for _ in range(900) if not os.path.exists({str(mark)!r})]; time.sleep(1)"
    cluster, output = cluster_of(killed + waits, workers=2, ps=ps, restarts=1)
    assert finish(cluster) == 0
    assert f"worker 1 ended with [-9]; starts {again} again" in output.getvalue()


def test_the_command_says_what_is_missing(capsys):
    for arguments, message in (([], "the experiment is missing"), (["--workers=0", "--", "x"], "workers must be >= 1")):
        with pytest.raises(SystemExit):
            main(arguments)
        assert message in capsys.readouterr().err
