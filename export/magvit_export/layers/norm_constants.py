"""Constants of GroupNorm in MAGVIT2, without torch, because configurations are read without it."""

NORM_GROUPS = 32
NORM_EPSILON = 1e-6
