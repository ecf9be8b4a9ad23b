"""What the tests of caches, ranking and indexes share: an export is the dearest thing in them."""

import pytest

from tests.serving.catalogue import Catalogue, catalogue
from xdeepint_ext.models import RankTower


@pytest.fixture(scope="session")
def ranktower_shop(tmp_path_factory: pytest.TempPathFactory) -> Catalogue:
    """A RankTower, its export, and a catalogue."""
    return catalogue(RankTower, tmp_path_factory.mktemp("shop"), num_heads=2, head_dim=4, units=[6])
