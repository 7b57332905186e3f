"""Lets the real cuDNN plan convs for GPUs that aren't here, in a separate process.

    python plan_convs.py < JOB

The job is a JSON object: `gpus`, device properties by name, and `convs`, the fields of
`ConvGeometry`. For each GPU and conv it prints a JSON line: how many plans of each padding can be
built, which engines they are of, and which of these come back from what the file of plans keeps.
"""

from __future__ import annotations

import json
import sys
from typing import Any

from magvit_runtime.backends.native.cuda.conv_plans import ConvGeometry, ConvPlan, Padding
from magvit_runtime.backends.native.cuda.cudnn_graph import (
    import_cudnn,
    plan_candidates,
    rejections,
    restore,
)


def main() -> None:
    job = json.load(sys.stdin)
    cudnn = import_cudnn()
    for name, properties in job["gpus"].items():
        device_property = cudnn.create_device_properties(json.dumps(properties))
        for fields in job["convs"]:
            geometry = ConvGeometry(
                **{key: tuple(v) if isinstance(v, list) else v for key, v in fields.items()}
            )
            for padding in geometry.paddings:
                row = {"gpu": name, "conv": geometry.key, "padding": padding}
                print(json.dumps(row | plan(cudnn, geometry, padding, device_property)))


def plan(
    cudnn: Any, geometry: ConvGeometry, padding: Padding, device_property: Any
) -> dict[str, Any]:
    """The plans that cuDNN has for a conv with a padding."""
    try:
        candidates = plan_candidates(cudnn, geometry, padding, device_property=device_property)
    except rejections(cudnn):
        candidates = []
    plans: list[ConvPlan] = []
    for candidate in candidates:
        try:
            built = candidate.build()
        except rejections(cudnn):
            continue
        plans.append(ConvPlan(padding, candidate.engine, candidate.knobs, built.workspace, 0.0))
    last_of_engine = {plan.engine: plan for plan in plans}
    restored = [
        engine
        for engine, kept in last_of_engine.items()
        if restore(cudnn, geometry, kept, device_property=device_property).workspace
        == kept.workspace
    ]
    return {"plans": len(plans), "engines": list(last_of_engine), "restored": restored}


if __name__ == "__main__":
    main()
