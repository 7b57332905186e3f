"""One phrase for a bundle's weights, for every output that shows what was made with them."""

from __future__ import annotations

from magvit_runtime.bundle.reading import Bundle


def weights_label(bundle: Bundle) -> str:
    """The source of a bundle's weights, with a note if they were generated."""
    weights = bundle.manifest.component.weights
    if bundle.is_seeded:
        return f"{weights.name} weights (generated, never trained)"
    return f"{weights.variant} weights of {weights.name}"
