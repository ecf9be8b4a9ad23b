"""From a directory of lists to a trained RankTower, and to its kept representations."""

import numpy as np
import pytest
import tensorflow as tf

from tests.data import test_lists_files as files
from tests.data.test_lists_files import rows, written  # noqa: F401 - fixtures
from xdeepint_ext.data import read_lists
from xdeepint_ext.losses import HybridRankTowerLoss
from xdeepint_ext.metrics import RecallAtK
from xdeepint_ext.models import RankTower
from xdeepint_ext.models.baselines import LR


@pytest.mark.slow
@pytest.mark.parametrize("cls", [RankTower, LR])
def test_lists_of_files_train_a_model(cls, written):  # noqa: F811
    folder, _ = written
    train = read_lists(folder, "train", 4, shuffle=True, epochs=8)
    options = {} if cls is LR else {"width": 4, "num_heads": 2, "head_dim": 4, "units": [8]}
    model = cls(train.preprocessor.schema, **options)
    model.compile(tf.keras.optimizers.Adam(0.02), HybridRankTowerLoss(), metrics=[RecallAtK(2)])
    first = model.evaluate(read_lists(folder, "train", 4), verbose=0, return_dict=True)
    model.fit(train, verbose=0)
    last = model.evaluate(read_lists(folder, "train", 4), verbose=0, return_dict=True)
    assert last["loss"] < first["loss"] and np.isfinite(last["loss"])


def test_kept_representations_score_a_list_of_files_as_the_model(written):  # noqa: F811
    folder, _ = written
    features, labels = next(iter(read_lists(folder, "test", files.USERS)))
    schema = read_lists(folder, "test", 1).preprocessor.schema
    model = RankTower(schema, width=4, num_heads=2, head_dim=4, units=[8])
    logits = model(features)
    assert logits.shape == labels.shape
    found = model.score(model.user_tower(features), model.item_tower(features))
    np.testing.assert_allclose(found, logits, rtol=1e-6, atol=1e-6)
