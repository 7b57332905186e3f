"""What counts as agreement with a reference, for each kind of output."""

from magvit_runtime.agreement.comparison import Agreement, Comparison, Outputs, new_comparison
from magvit_runtime.agreement.limits import (
    FEATURE_RMS_LIMITS,
    LOGIT_LIMITS,
    MARGIN,
    MARGIN_RMS_LIMITS,
    PIXEL_LIMITS,
    RMS_LIMITS,
)

__all__ = [
    "FEATURE_RMS_LIMITS",
    "LOGIT_LIMITS",
    "MARGIN",
    "MARGIN_RMS_LIMITS",
    "PIXEL_LIMITS",
    "RMS_LIMITS",
    "Agreement",
    "Comparison",
    "Outputs",
    "new_comparison",
]
