"""What the hub refuses, in words: each a sentence with the reason, and how to fix it."""

from __future__ import annotations

from dataclasses import dataclass

from magvit_runtime.errors import MagvitError, first_line

LOG_IN = "`hf auth login` once, or set HF_TOKEN"


class HubError(MagvitError):
    """Something can't be fetched from the hub, or uploaded to it."""


@dataclass(frozen=True)
class Refusal:
    """Why the hub, or the way to it, refused.

    Attributes:
        reason: What is wrong.
        mend: How to fix it.
    """

    reason: str
    mend: str


def hub_failures() -> tuple[type[BaseException], ...]:
    """The errors that huggingface_hub raises where the hub refuses or can't be reached."""
    from huggingface_hub.errors import HfHubHTTPError  # noqa: TID251 - in the extra [hub]

    # Its first base is that of its HTTP client's errors too, whichever client a version uses.
    return (*HfHubHTTPError.__bases__, OSError)


def refusal(error: BaseException, repository: str, revision: str | None) -> Refusal:
    """Puts one of `hub_failures` in words.

    Args:
        error: It.
        repository: OWNER/NAME that was asked for.
        revision: The revision that was asked for; None is the main branch.
    """
    from huggingface_hub import constants  # noqa: TID251 - in the extra [hub]
    from huggingface_hub.errors import (  # noqa: TID251
        GatedRepoError,
        LocalEntryNotFoundError,
        OfflineModeIsEnabled,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    page = f"{constants.ENDPOINT}/{repository}"
    # Errors of a file that isn't here are of this class too in older versions, without an answer.
    status = getattr(getattr(error, "response", None), "status_code", None)
    if isinstance(error, GatedRepoError):
        return Refusal(
            f"{repository} is gated: its owner says who may read it",
            f"ask for access at {page}, then {LOG_IN}",
        )
    if isinstance(error, RepositoryNotFoundError):
        return Refusal(
            f"there is no repository {repository}, or it is private",
            f"check the name; for a private one, {LOG_IN}",
        )
    if isinstance(error, RevisionNotFoundError):
        return Refusal(
            f"{repository} has no revision {revision}",
            f"choose a branch, tag or commit of {page}/commits/main",
        )
    if isinstance(error, LocalEntryNotFoundError | OfflineModeIsEnabled):
        if constants.HF_HUB_OFFLINE:
            return Refusal(
                f"HF_HUB_OFFLINE is set, and {constants.HF_HUB_CACHE} doesn't have all of it",
                "fetch it once with HF_HUB_OFFLINE=0, or copy that folder from where it was "
                "fetched",
            )
        return _unreachable(error.__cause__ or error, constants.ENDPOINT)
    if isinstance(error, OSError) and error.errno is not None and status is None:
        return Refusal(
            f"a file can't be read or written: {error}",
            f"see to the space and rights of {constants.HF_HUB_CACHE}; HF_HOME names another place",
        )
    if status in (401, 403):
        return Refusal(
            f"the hub wants a token that may do this (status {status})",
            f"{LOG_IN}, with such a token ({constants.ENDPOINT}/settings/tokens)",
        )
    if status is None and isinstance(error, hub_failures()):
        return _unreachable(error, constants.ENDPOINT)
    return Refusal(_words(error), "try again later; https://status.huggingface.co has outages")


def _unreachable(error: BaseException, endpoint: str) -> Refusal:
    return Refusal(
        f"{endpoint} can't be reached: {_words(error)}",
        "check the network, proxy and HF_ENDPOINT; what was fetched before opens without them",
    )


def _words(error: BaseException) -> str:
    return first_line(error).rstrip(".")
