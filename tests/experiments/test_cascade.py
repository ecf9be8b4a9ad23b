"""What precedes the training of RankTower: blocks of days, candidates, teacher, and the command that makes lists."""

import json
import types

import numpy as np
import pytest

from tests.data import logs
from tests.experiments import short_videos
from xdeepint_ext import data
from xdeepint_ext.data.lists import Entities, EventLog, Interactions
from xdeepint_ext.data.loaders.kuairand import KuaiRand
from xdeepint_ext.data.manifest import DataError, Manifest
from xdeepint_ext.experiments import teacher as teachers
from xdeepint_ext.experiments.candidates import CandidateScores
from xdeepint_ext.experiments.factorization import factorize
from xdeepint_ext.experiments.predictions import Predictions
from xdeepint_ext.experiments.ranktower_lists import Options, make_lists
from xdeepint_ext.experiments.teacher import Teacher, teacher_config
from xdeepint_ext.experiments.time_blocks import Block, time_blocks

DAYS = short_videos.DAYS


def test_blocks_know_only_days_before_and_cover_the_others():
    blocks = time_blocks(DAYS, DAYS[5], warm_days=1, refit_days=2)
    known = [(block.known_until, block.first, block.last) for block in blocks]
    assert known == [(DAYS[a], DAYS[b], DAYS[c]) for a, b, c in [(0, 1, 2), (2, 3, 4), (4, 5, 5), (5, 6, 7)]]
    assert blocks[0].of(np.array(DAYS)).tolist() == [False, True, True] + [False] * 5


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"warm_days": 0}, "warm_days must be >= 1, got 0"),
        ({"refit_days": 0}, "refit_days must be >= 1, got 0"),
        ({"warm_days": 6}, "warm_days=6 leaves no list for training: it has 6 days"),
        ({"train_until": DAYS[-1]}, "leaves no day for validation and test; the last is 20220508"),
    ],
)
def test_days_that_cannot_be_cut_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        time_blocks(DAYS, **{"train_until": DAYS[5], "warm_days": 1, "refit_days": 2, **changes})


def test_factors_are_where_the_objective_is_flat():
    """The gradient of the documented sum, over all pairs, is 0 for users given items after the last alternation."""
    random = np.random.default_rng(0)
    users, items = random.integers(0, 9, 40), random.integers(0, 7, 40)
    observed = np.zeros((10, 7))
    observed[users, items] = 1
    a, r = 0.3, 0.05
    options = {"factors": 3, "unobserved": a, "regularization": r}
    found = factorize(users, items, (10, 7), **options, sweeps=20)
    p, q = found.users.astype(np.float64), found.items.astype(np.float64)
    scores, of_users, of_items = p @ q.T, r * (observed.sum(1) + a * 7), r * (observed.sum(0) + a * 10)
    slope = (observed * (scores - 1) + a * scores) @ q + of_users[:, np.newaxis] * p
    np.testing.assert_allclose(slope[:9], 0.0, atol=1e-4)
    np.testing.assert_allclose(p[9], p[:9].mean(axis=0), rtol=1e-5)

    def objective(p, q):
        scores = p @ q.T
        fit = (observed * (1 - scores) ** 2 + a * scores**2)[:9].sum()
        return fit + (of_users[:9] * (p[:9] ** 2).sum(1)).sum() + (of_items * (q**2).sum(1)).sum()

    few = factorize(users, items, (10, 7), **options, sweeps=1)
    assert objective(p, q) < objective(few.users, few.items)


def test_many_pairs_are_solved_in_chunks_as_at_once(monkeypatch):
    random = np.random.default_rng(0)
    pairs = random.integers(0, 9, 60), random.integers(0, 7, 60)
    whole = factorize(*pairs, (9, 7), factors=3)
    monkeypatch.setattr("xdeepint_ext.experiments.factorization._PAIRS_AT_ONCE", 4)
    for one, other in zip(vars(whole).values(), vars(factorize(*pairs, (9, 7), factors=3)).values(), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6)
    with pytest.raises(ValueError, match="there is no pair"):
        factorize(np.array([], int), np.array([], int), (9, 7))


BLOCKS = [Block(logs.DAYS[0], logs.DAYS[1], logs.DAYS[1]), Block(logs.DAYS[1], logs.DAYS[2], logs.DAYS[3])]


def test_scores_of_a_day_do_not_change_with_rows_of_it_or_later():
    interactions = logs.interactions(200, 14, of=logs.histories(14))
    log, users = interactions.log, np.arange(14)
    scores = CandidateScores(interactions, ("click", "buy"), BLOCKS, factors=4)
    for day in (*logs.DAYS[1:3],):
        kept = log.days < day
        columns = {name: getattr(log, name)[kept] for name in ("users", "items", "days", "times")}
        earlier = EventLog(**columns, events={name: values[kept] for name, values in log.events.items()})
        past = Interactions(earlier, interactions.users, interactions.items, interactions.histories)
        expected = CandidateScores(past, ("click", "buy"), BLOCKS, factors=4)(users, day)
        np.testing.assert_array_equal(scores(users, day), expected)
    with pytest.raises(ValueError, match="day 20240130 is in no block"):
        scores(users, logs.DAYS[0])


def test_what_was_seen_before_is_no_candidate():
    interactions = logs.interactions(200, 14, of=logs.histories(14))
    log, day = interactions.log, logs.DAYS[2]
    keys = [int(key) for key in interactions.items.keys]
    found = CandidateScores(interactions, ("click",), BLOCKS, factors=4)(np.arange(14), day)
    for user in range(14):
        seen = set(log.items[(log.users == user) & (log.days < day)].tolist())
        before = [key for history in interactions.histories if history.before for key in history.before[user].split()]
        seen |= {keys.index(int(key)) for key in before if int(key) in keys}
        assert set(np.flatnonzero(np.isneginf(found[user])).tolist()) == seen
    again = CandidateScores(interactions, ("click",), BLOCKS, factors=4, seen_again=True)(np.arange(14), day)
    assert np.isfinite(again).all()
    np.testing.assert_array_equal(again[np.isfinite(found)], found[np.isfinite(found)])


@pytest.fixture(scope="module")
def raw(tmp_path_factory):
    return short_videos.write(tmp_path_factory.mktemp("short_videos") / "raw")


@pytest.fixture(scope="module")
def prepared(raw):
    return short_videos.prepared(raw, raw.parent / "rows")


def one_by_one(calls):
    """In place of a training run: notes what it was given, and scores a record by its user and video."""

    def execute(config):
        found = {}
        calls.append(Manifest.load(config.data_dir).records("train"))
        for split in config.evaluate:
            features, labels = next(iter(data.read(config.data_dir, split, 10_000)))
            ids = [features["group_ids"].numpy(), features["item_ids"].numpy()]
            logits = (100 * ids[0] + ids[1]).astype(np.float64)
            found[split] = Predictions({"is_click": labels.numpy().ravel()}, {"is_click": logits})
        model = types.SimpleNamespace(tasks=("is_click",))
        return types.SimpleNamespace(predictions=found, metrics={"valid.auc": 0.5}, model=model, config=config)

    return execute


def test_a_teacher_knows_only_days_before_and_scores_the_right_rows(raw, prepared, tmp_path, monkeypatch):
    log, calls = KuaiRand().interactions(raw).log, []
    blocks = time_blocks(DAYS, DAYS[5], warm_days=3, refit_days=2)
    monkeypatch.setattr(teachers, "execute", one_by_one(calls))
    bounds = (short_videos.TRAIN_UNTIL, short_videos.VALID_UNTIL)
    teacher = Teacher(teacher_config("lr", "kuairand"), str(prepared), str(raw), bounds, str(tmp_path))
    scores, quality = teacher.scores(log, blocks)
    assert calls == [int((log.days <= block.known_until).sum()) for block in blocks]
    inside = log.days >= blocks[0].first
    np.testing.assert_array_equal(scores[inside], (100 * log.users + log.items)[inside])
    assert np.isnan(scores[~inside]).all() and quality == {str(block.first): 0.5 for block in blocks}
    monkeypatch.setattr(teachers, "execute", None)  # what is finished is not repeated
    np.testing.assert_array_equal(teacher.scores(log, blocks)[0], scores)
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"teacher-{block.first}.npz" for block in blocks]


def test_rows_that_are_not_the_log_s_are_refused(raw, prepared, tmp_path, monkeypatch):
    log = KuaiRand().interactions(raw).log
    log.events["is_click"][log.days == DAYS[6]] ^= 1
    monkeypatch.setattr(teachers, "execute", one_by_one([]))
    bounds = (short_videos.TRAIN_UNTIL, short_videos.VALID_UNTIL)
    teacher = Teacher(teacher_config("lr", "kuairand"), str(prepared), str(raw), bounds, str(tmp_path))
    with pytest.raises(
        DataError, match=r"the valid split of .* has 72 records, which are not the 72 rows of those days"
    ):
        teacher.scores(log, [Block(DAYS[5], DAYS[6], DAYS[7])])


def test_a_teacher_does_not_look_ahead_to_stop():
    with pytest.raises(ValueError, match=r"the teacher's early_stopping must be none, .* got auc"):
        teacher_config("dcnv2", "kuairand", "early_stopping=auc")
    config = teacher_config("dcnv2", "kuairand", "width=4")
    assert (config.options.width, config.options.num_layers, config.epochs) == (4, 3, 4)


def options_of(raw, prepared, tmp_path, **changes):
    sizes = {"impressions": 2, "candidates": 4, "random": 3, "pool": 6}
    paths = {"data_dir": str(prepared), "raw_dir": str(raw), "output_dir": str(tmp_path / "lists")}
    return Options(**{**paths, **sizes, "factors": 4, "teacher_model": "none", "warm_days": 3, **changes})


def test_lists_of_the_past_do_not_depend_on_the_future(raw, prepared, tmp_path):
    """Training and validation lists are the same, byte for byte, where all rows of the test day are other ones."""
    changed = [
        row if row[0] < DAYS[7] else (row[0], row[1], (row[2] + 1) % 30, 1 - row[3]) for row in short_videos.rows()
    ]
    other_raw = short_videos.write(tmp_path / "raw", changed)
    other = short_videos.prepared(other_raw, tmp_path / "rows")
    manifests = [
        make_lists(options_of(raw, prepared, tmp_path)),
        make_lists(options_of(other_raw, other, tmp_path, output_dir=str(tmp_path / "other"))),
    ]
    for split, same in (("train", True), ("valid", True), ("test", False)):
        contents = [
            b"".join((tmp_path / name / shard.file).read_bytes() for shard in manifest.shards(split))
            for name, manifest in zip(("lists", "other"), manifests, strict=True)
        ]
        assert (contents[0] == contents[1]) == same
    notes = manifests[0].lists["statistics"]
    assert notes["train"]["impressions"]["max"] == 2 and notes["valid"]["impressions"]["max"] == 3
    assert notes["train"]["items"]["random"] > 0 == notes["test"]["items"]["random"]
    for split, candidates in (("train", 4), ("test", 6)):
        assert notes[split]["items"]["candidates"] == candidates * notes[split]["lists"]
    assert manifests[0].notes["blocks"][0] == {"known_until": DAYS[2], "first": DAYS[3], "last": DAYS[5]}
    assert manifests[0].fingerprint() != manifests[1].fingerprint()


def test_parts_of_other_flags_are_not_mixed(raw, prepared, tmp_path):
    options = options_of(raw, prepared, tmp_path, teacher_model="lr")
    parts = tmp_path / "lists.parts"
    parts.mkdir()
    (parts / "flags.json").write_text(json.dumps({"warm_days": 1}))
    with pytest.raises(ValueError, match=r"holds parts made with other flags: candidates was None and is 4"):
        make_lists(options)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"raw_dir": ""}, "--raw_dir must be given"),
        ({"factors": 0}, "factors must be >= 1, got 0"),
        ({"teacher_model": "gbdt"}, "teacher_model must be one of"),
        ({"order": ("is_click", "is_liek")}, "order names event 'is_liek'; .* did you mean 'is_like'"),
        ({"impressions": 0}, "sizes: impressions must be a whole number >= 1, got 0"),
    ],
)
def test_the_command_says_what_is_wrong(raw, prepared, tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        make_lists(options_of(raw, prepared, tmp_path, **changes))


def test_only_logs_can_be_made_lists_of(tmp_path, data_dirs):
    with pytest.raises(DataError, match=r"data_dir holds 'csv', which is no log .* there are \['kuairand', 'taobao'"):
        make_lists(Options(data_dir=data_dirs["one"], raw_dir="raw", output_dir=str(tmp_path / "lists")))


def test_entities_stay_as_they_are():
    """Candidates are positions in the catalogue: an item that never occurs has a score, too."""
    ones = np.ones(3, np.int64)
    log = EventLog(np.array([0, 1, 1]), np.array([0, 0, 1]), 20240101 * ones, ones, {"click": ones})
    interactions = Interactions(log, Entities([b"a", b"b"], {}), Entities([b"1", b"2", b"3"], {}))
    scores = CandidateScores(interactions, ("click",), [Block(20240101, 20240102, 20240103)], factors=2)
    assert scores(np.array([0, 1]), 20240102).shape == (2, 3)
