"""What `magvit classify` says of its predictions."""

from __future__ import annotations

from collections import Counter

from magvit_runtime.results.predictions import PredictionCounts

# Labels that `--json` lists.
FOREIGN_LABELS = 1000


def share_right(counts: PredictionCounts) -> str:
    """How many labelled clips were predicted right."""
    share = counts.right / counts.known
    return f"{counts.right} of {counts.known} labelled clips predicted right ({share:.1%})"


def foreign_labels(labels: Counter[str], classes: tuple[str, ...]) -> str:
    """Says which labels are none of the classifier's classes."""
    shown = ", ".join(f"{label!r} ({count})" for label, count in labels.most_common(5))
    known = ", ".join(map(repr, classes[:10]))
    return (
        f"{labels.total()} clips have a label that is no class of this classifier, and count as "
        f"neither right nor wrong: {shown}{', …' if len(labels) > 5 else ''}; "
        f"its classes are {known}{', …' if len(classes) > 10 else ''}"
    )
