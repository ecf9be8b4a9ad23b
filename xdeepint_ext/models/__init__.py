"""Models: one paper a file; each is a `RankingModel`, but for those that read texts, `SpanModel`s."""

from xdeepint_ext.models.adaensemble import AdaEnsemble
from xdeepint_ext.models.baselines.two_tower import TwoTower
from xdeepint_ext.models.dynint import DynInt
from xdeepint_ext.models.group_ranker import GroupRanker
from xdeepint_ext.models.multi_head_span_qa import MultiHeadSpanQA
from xdeepint_ext.models.multi_span_tagger import MultiSpanTagger
from xdeepint_ext.models.ranking_model import RankingModel
from xdeepint_ext.models.ranktower import RankTower
from xdeepint_ext.models.retrieval import RetrievalModel
from xdeepint_ext.models.towers import TowerModel
from xdeepint_ext.models.two_logits import TwoLogitRanker
from xdeepint_ext.models.user_encoders import MatrixFactorization, PooledHistory, SelfAttentiveHistory
from xdeepint_ext.models.user_fields import UserProjection
from xdeepint_ext.models.wrapped_model import WrappedModel
from xdeepint_ext.models.xdeepint import XDeepInt

__all__ = [
    "AdaEnsemble",
    "DynInt",
    "GroupRanker",
    "MatrixFactorization",
    "MultiHeadSpanQA",
    "MultiSpanTagger",
    "PooledHistory",
    "RankTower",
    "RankingModel",
    "RetrievalModel",
    "SelfAttentiveHistory",
    "TowerModel",
    "TwoLogitRanker",
    "TwoTower",
    "UserProjection",
    "WrappedModel",
    "XDeepInt",
]
