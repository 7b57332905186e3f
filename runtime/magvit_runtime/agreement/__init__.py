"""What counts as agreement with a reference, for each kind of output."""

from magvit_runtime.agreement.comparison import Agreement, Comparison, Outputs, new_comparison
from magvit_runtime.agreement.limits import (
    LOGIT_LIMITS,
    MARGIN,
    MARGIN_RMS_LIMITS,
    PIXEL_LIMITS,
    RMS_LIMITS,
)

__all__ = [
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
