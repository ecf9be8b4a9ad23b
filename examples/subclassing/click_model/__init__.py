"""A click model built on xdeepint_ext from outside: a layer, a loss and a model, each a subclass."""

from click_model.layer import GatedPIN
from click_model.loss import GroupBalancedLogLoss
from click_model.model import ClickModel

__all__ = ["ClickModel", "GatedPIN", "GroupBalancedLogLoss"]
