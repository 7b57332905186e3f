"""One phrase for a bundle's weights, for every output that shows what was made with them."""

from __future__ import annotations

from magvit_runtime.bundle.manifest import WeightsRecord
from magvit_runtime.bundle.reading import Bundle


def weights_label(bundle: Bundle) -> str:
    """The sources of a bundle's weights, each with a note if they were generated."""
    components = bundle.manifest.components.values()
    return ", ".join(dict.fromkeys(_label(component.weights) for component in components))


def _label(weights: WeightsRecord) -> str:
    if weights.source == "seeded":
        return f"{weights.name} weights (generated, never trained)"
    return f"{weights.variant} weights of {weights.name}"
