"""Metrics: of whole arrays in NumPy (functions), and of batches, under any strategy (Keras classes)."""

from xdeepint_ext.metrics.answers import MatchScores, multi_span_match, normalize_answer, squad_scores
from xdeepint_ext.metrics.bootstrap import Difference, paired_bootstrap, paired_means
from xdeepint_ext.metrics.calibration import CalibrationTable, calibration_table, expected_calibration_error
from xdeepint_ext.metrics.calibration_error import ExpectedCalibrationError
from xdeepint_ext.metrics.catalogue_search import Best, best_items
from xdeepint_ext.metrics.drop_answers import drop_scores
from xdeepint_ext.metrics.evaluation import GroupAUC, auc, gauc, log_loss, normalized_cross_entropy, roc_curve
from xdeepint_ext.metrics.likelihood import LogLossMetric, NormalizedCrossEntropy
from xdeepint_ext.metrics.retrieval import hits_of, retrieval_scores
from xdeepint_ext.metrics.streaming_gauc import GAUC
from xdeepint_ext.metrics.top_k import HitRateAtK, NDCGAtK, RecallAtK

__all__ = [
    "GAUC",
    "Best",
    "CalibrationTable",
    "Difference",
    "ExpectedCalibrationError",
    "GroupAUC",
    "HitRateAtK",
    "LogLossMetric",
    "MatchScores",
    "NDCGAtK",
    "NormalizedCrossEntropy",
    "RecallAtK",
    "auc",
    "best_items",
    "calibration_table",
    "drop_scores",
    "expected_calibration_error",
    "gauc",
    "hits_of",
    "log_loss",
    "multi_span_match",
    "normalize_answer",
    "normalized_cross_entropy",
    "paired_bootstrap",
    "paired_means",
    "retrieval_scores",
    "roc_curve",
    "squad_scores",
]
