"""May this commit be released as the version that pyproject.toml states?"""

from __future__ import annotations

import re
import subprocess
import tomllib
from datetime import date
from pathlib import Path


def stated_version(root: Path) -> str:
    """The version in pyproject.toml, the one place where it is written."""
    text = (root / "pyproject.toml").read_text(encoding="utf-8")
    return str(tomllib.loads(text)["project"]["version"])


def obstacles(root: Path) -> list[str]:
    """What stands against a release of the checkout in `root`: a sentence and its fix each."""
    version = stated_version(root)
    changelog = (root / "CHANGELOG.md").read_text(encoding="utf-8")
    return [*_of_changelog(changelog, version), *_of_git(root, version)]


def _of_changelog(text: str, version: str) -> list[str]:
    # Headings and what stands below each, in turn.
    _, *parts = re.split(r"^## (.+)\n", text, flags=re.M)
    sections = {
        heading.strip(): body.strip() for heading, body in zip(parts[::2], parts[1::2], strict=True)
    }
    found = []
    for heading, body in sections.items():
        if heading.strip("[]").casefold() == "unreleased" and body:
            found.append(
                f"CHANGELOG.md has entries under '{heading}', which no release would name. "
                f"Fix: move them into the section of {version}"
            )
    ours = [heading for heading in sections if heading.split()[0] == version]
    if not ours:
        found.append(
            f"CHANGELOG.md has no section of {version}, the version in pyproject.toml. "
            f"Fix: add '## {version} ({date.today()})' and say what is new"
        )
    for heading in ours:
        if not _is_dated(heading.removeprefix(version).strip()):
            found.append(
                f"CHANGELOG.md's section is headed '{heading}', which has no date. "
                f"Fix: head it '{version} ({date.today()})'"
            )
        if not sections[heading]:
            found.append(f"CHANGELOG.md says nothing under '{heading}'. Fix: say there what is new")
    return found


def _is_dated(text: str) -> bool:
    try:
        date.fromisoformat(text.removeprefix("(").removesuffix(")"))
    except ValueError:
        return False
    return True


def _of_git(root: Path, version: str) -> list[str]:
    found = []
    if changes := _git(root, "status", "--porcelain"):
        names = ", ".join(line[3:] for line in changes.splitlines()[:5])
        found.append(
            f"the checkout isn't as committed ({names}), so no commit says what would be released. "
            "Fix: commit, or put away what isn't part of it"
        )
    tag = f"v{version}"
    if _git(root, "tag", "--list", tag):
        of_tag, here = (_git(root, "rev-parse", f"{name}^{{commit}}") for name in (tag, "HEAD"))
        if of_tag != here:
            found.append(
                f"{version} was released from {of_tag[:8]}, as the tag {tag} says, and this is "
                f"{here[:8]}. Fix: raise the version in pyproject.toml"
            )
    return found


def _git(root: Path, *arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=root, capture_output=True, text=True, check=True)
    return done.stdout.rstrip()
