"""Generated weights, for scripts."""

from magvit_export.checkpoints.seeded import seeded_array, seeded_state

__all__ = ["seeded_array", "seeded_state"]
