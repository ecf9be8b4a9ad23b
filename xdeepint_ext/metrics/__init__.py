"""Metrics of finished models, on whole arrays in NumPy."""

from xdeepint_ext.metrics.bootstrap import Difference, paired_bootstrap
from xdeepint_ext.metrics.calibration import CalibrationTable, calibration_table, expected_calibration_error
from xdeepint_ext.metrics.evaluation import GroupAUC, auc, gauc, log_loss, normalized_cross_entropy, roc_curve

__all__ = [
    "CalibrationTable",
    "Difference",
    "GroupAUC",
    "auc",
    "calibration_table",
    "expected_calibration_error",
    "gauc",
    "log_loss",
    "normalized_cross_entropy",
    "paired_bootstrap",
    "roc_curve",
]
