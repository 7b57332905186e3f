"""`magvit push`: a bundle onto the Hugging Face hub."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter

from magvit_export.publishing.licences import REDISTRIBUTE, check_licences
from magvit_runtime.bundle.reading import open_bundle
from magvit_runtime.cli.outcome import Outcome
from magvit_runtime.cli.places import BundleArgument
from magvit_runtime.errors import InputError
from magvit_runtime.hardware.packages import is_installed, missing_package
from magvit_runtime.hub.addresses import HubAddress, parse_address


def push(
    bundle: BundleArgument,
    repository: str,
    *,
    licence: str | None = None,
    redistribute_weights: Annotated[bool, Parameter(name=REDISTRIBUTE, negative="")] = False,
    private: Annotated[bool, Parameter(negative="")] = False,
    revision: str | None = None,
    engines: Annotated[bool, Parameter(negative="")] = False,
    dry_run: Annotated[bool, Parameter(negative="")] = False,
) -> Outcome:
    """Uploads a bundle to the Hugging Face hub, with a model card; docs/hub.md has the rules.

    All files are checked against their digests first. Log in with `hf auth login`, or set HF_TOKEN.

    Args:
        bundle: Directory of the exported model.
        repository: OWNER/NAME, made where there is none; OWNER/NAME/FOLDER for one of several
            bundles in it.
        licence: The weights' licence for the card, as the hub names licences: apache-2.0, mit,
            cc-by-nc-4.0. It isn't known by default.
        redistribute_weights: Push weights that others published, TencentARC's among them, or that
            may be theirs. Their licences name no right to: you need their owner's.
        private: Only those with access may read the repository.
        revision: Branch to push to, made where there is none; the main branch by default.
        engines: Push the bundle's TensorRT engines too. They run on the GPU and version that they
            were built for, and nowhere else.
        dry_run: Only say what would be uploaded, and show the card.
    """
    if not is_installed("huggingface_hub"):
        raise missing_package("huggingface_hub", "magvit push")
    from magvit_export.publishing.pushing import plan_push
    from magvit_export.publishing.pushing import push as push_plan

    address = parse_address(repository)
    if address.revision is not None:
        raise InputError(
            "a push goes to a branch",
            found=repository,
            mend=f"give it as --revision {address.revision}",
        )
    opened = open_bundle(bundle)
    if not redistribute_weights:
        check_licences(opened)
    plan = plan_push(
        opened,
        HubAddress(address.repository, revision, address.folder),
        engines=engines,
        licence=licence,
    )
    sizes = {name: path.stat().st_size for name, path in sorted(plan.files.items())}
    facts = {
        "bundle": str(bundle),
        "repository": address.repository,
        "files": sizes,
        "bytes": plan.size,
        "dry_run": dry_run,
    }
    listed = "\n".join(f"{size:>14,}  {name}" for name, size in sizes.items())
    if dry_run:
        text = f"{listed}\n\n{plan.card}\nnothing was uploaded (--dry-run)"
        return Outcome(facts | {"card": plan.card, "address": None}, text)
    done = push_plan(plan, private=private)
    text = f"{len(plan.files)} files, {plan.size / 1e6:.1f} MB -> {done.address}"
    if not done.changed:
        text += "\nall of it was there before: nothing was uploaded"
    facts |= {"card": plan.card, "address": str(done.address), "changed": done.changed}
    return Outcome(facts, text)
