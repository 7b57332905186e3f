"""The files that the parity suite makes once: checkpoints, bundles and engines."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import pytest
from parity.encoders import Encoders


@pytest.fixture(scope="session")
def encoders(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Encoders]:
    folder = tmp_path_factory.mktemp("parity")
    yield Encoders(folder)
    shutil.rmtree(folder)  # Pytest would keep the gigabytes of the last three runs.
