"""Metrics: of whole arrays in NumPy (functions), and of batches, under any strategy (Keras classes)."""

from xdeepint_ext.metrics.answers import MatchScores, multi_span_match, normalize_answer, squad_scores
from xdeepint_ext.metrics.bootstrap import Difference, paired_bootstrap
from xdeepint_ext.metrics.calibration import CalibrationTable, calibration_table, expected_calibration_error
from xdeepint_ext.metrics.calibration_error import ExpectedCalibrationError
from xdeepint_ext.metrics.drop_answers import drop_scores
from xdeepint_ext.metrics.evaluation import GroupAUC, auc, gauc, log_loss, normalized_cross_entropy, roc_curve
from xdeepint_ext.metrics.likelihood import LogLossMetric, NormalizedCrossEntropy
from xdeepint_ext.metrics.streaming_gauc import GAUC
from xdeepint_ext.metrics.top_k import HitRateAtK, NDCGAtK, RecallAtK

__all__ = [
    "GAUC",
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
    "calibration_table",
    "drop_scores",
    "expected_calibration_error",
    "gauc",
    "log_loss",
    "multi_span_match",
    "normalize_answer",
    "normalized_cross_entropy",
    "paired_bootstrap",
    "roc_curve",
    "squad_scores",
]
