"""Uploads a bundle to the hub in one commit, after every file was checked against its digest."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from magvit_export.publishing.card import LIBRARY, model_card
from magvit_runtime.backends.trt.engines import (
    ENGINES_FOLDER,
    Engine,
    UnreadableEngine,
    check_plan,
    find_engines,
)
from magvit_runtime.bundle.reading import MANIFEST_NAME, Bundle
from magvit_runtime.errors import BundleError, InputError
from magvit_runtime.hub.addresses import HubAddress
from magvit_runtime.hub.client_output import quiet_client
from magvit_runtime.hub.refusals import HubError, hub_failures, refusal

CARD = "README.md"


@dataclass(frozen=True)
class Push:
    """What is to be uploaded.

    Attributes:
        address: Where to: a branch, or None for the main one.
        model: What the bundle is of.
        files: By their names in the bundle, with paths here.
        card: The model card, which becomes README.md.
    """

    address: HubAddress
    model: str
    files: dict[str, Path]
    card: str

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(path.stat().st_size for path in self.files.values())


def plan_push(
    bundle: Bundle, address: HubAddress, *, engines: bool = False, licence: str | None = None
) -> Push:
    """Checks a bundle's files against their digests, and writes its card; the hub isn't asked.

    Args:
        bundle: The bundle. What its manifest doesn't name stays here.
        address: Where to.
        engines: Its engines go along: for those alone who have the same GPUs and versions.
        licence: The weights' licence, as the hub names licences.

    Raises:
        BundleError: A file or an engine is missing or was changed.
        InputError: Engines were asked for, and there are none.
        MissingPackageError: huggingface_hub isn't installed.
    """
    files = {name: bundle.verified_file(name) for name in bundle.manifest.files}
    files[MANIFEST_NAME] = bundle.path / MANIFEST_NAME
    pushed = list(_sound_engines(bundle)) if engines else []
    if engines and not pushed:
        raise InputError(
            f"{bundle.path} has no engines",
            mend=f"leave --engines out, or magvit build {bundle.path}",
        )
    for engine in pushed:
        for path in (engine.plan, engine.plan.with_suffix(".json")):
            files[f"{ENGINES_FOLDER}/{path.name}"] = path
    return Push(address, bundle.manifest.model, files, model_card(bundle, address, pushed, licence))


@dataclass(frozen=True)
class Pushed:
    """What is there now.

    Attributes:
        address: With the commit.
        changed: Whether that is a new commit; all of it may have been there before.
    """

    address: HubAddress
    changed: bool


def push(plan: Push, *, private: bool = False) -> Pushed:
    """Makes the repository and branch where there are none, and uploads all in one commit.

    Files of an earlier push that aren't of this one stay in the repository; whoever opens the
    bundle doesn't fetch them.

    Args:
        plan: What, and where to.
        private: Only those with access may read the repository.

    Raises:
        HubError: The hub can't be reached, or refuses; or the repository is there and public,
            where `private` was asked for.
    """
    from huggingface_hub import CommitOperationAdd, HfApi

    address = plan.address
    folder = f"{address.folder}/" if address.folder else ""
    # The client's own complaints about an answer, or about a file that can't be sent, are the last.
    failures: tuple[type[BaseException], ...] = (*hub_failures(), RuntimeError, ValueError)
    try:
        with quiet_client():
            api = HfApi(library_name=LIBRARY, library_version=version(LIBRARY))
            api.create_repo(address.repository, private=private or None, exist_ok=True)
            if private and not api.repo_info(address.repository).private:
                raise HubError(
                    f"{address.repository} is there already, and public",
                    mend="leave --private out, make it private in its settings on the hub, or "
                    "choose another name",
                )
            if address.revision is not None:
                api.create_branch(address.repository, branch=address.revision, exist_ok=True)
            before = api.repo_info(address.repository, revision=address.revision).sha
            done = api.create_commit(
                address.repository,
                [
                    CommitOperationAdd(f"{folder}{CARD}", plan.card.encode()),
                    *(
                        CommitOperationAdd(f"{folder}{name}", str(path))
                        for name, path in plan.files.items()
                    ),
                ],
                commit_message=f"{plan.model} by {LIBRARY} {version(LIBRARY)}",
                revision=address.revision,
            )
    except failures as error:
        cause = error.__cause__ if isinstance(error, RuntimeError) and error.__cause__ else error
        why = refusal(cause, address.repository, address.revision)
        raise HubError(f"can't push to {address}", found=why.reason, mend=why.mend) from error
    now = HubAddress(address.repository, done.oid, address.folder)
    return Pushed(now, changed=done.oid != before)


def _sound_engines(bundle: Bundle) -> Iterator[Engine]:
    for engine in find_engines(bundle):
        if isinstance(engine, UnreadableEngine):
            raise BundleError(
                f"{engine.plan} can't be pushed: {engine.why}", mend="leave --engines out"
            )
        check_plan(engine)
        yield engine
