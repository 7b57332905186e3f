"""Constants of GroupNorm in MAGVIT2. No torch here: configurations are read without it."""

NORM_GROUPS = 32
NORM_EPSILON = 1e-6
