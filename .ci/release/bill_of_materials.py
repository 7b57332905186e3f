"""The bill of materials of a wheel, as CycloneDX: what it needs, and what was compiled into it.

What it needs is in the wheel's metadata. The user chooses the versions, so a component states what
is asked for, and by which extra, as properties. What was compiled in is in compiled_in.json, which
CMake writes into the wheel (kernels/cmake/Installation.cmake).
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from email.parser import BytesParser
from email.policy import compat32
from hashlib import sha256
from pathlib import Path
from zipfile import ZipFile

from cyclonedx.model import HashAlgorithm, HashType, Property, XsUri
from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentScope, ComponentType
from cyclonedx.model.license import DisjunctiveLicense, License, LicenseExpression
from cyclonedx.output.json import JsonV1Dot6
from packageurl import PackageURL
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

CUDA_LICENCE = DisjunctiveLicense(
    name="NVIDIA CUDA Toolkit EULA", url=XsUri("https://docs.nvidia.com/cuda/eula/")
)
GCC_LICENCE = LicenseExpression("GPL-3.0-or-later WITH GCC-exception-3.1")
LLVM_LICENCE = LicenseExpression("Apache-2.0 WITH LLVM-exception")


def bill_of_materials(wheel: Path) -> str:
    """CycloneDX 1.6 in JSON.

    Args:
        wheel: A wheel of this project.

    Raises:
        KeyError: The wheel has no compiled_in.json; an older version of this project built it.
    """
    with ZipFile(wheel) as archive:
        names = archive.namelist()
        (metadata,) = (name for name in names if name.endswith(".dist-info/METADATA"))
        about = BytesParser(policy=compat32).parsebytes(archive.read(metadata))
        compiled = json.loads(
            archive.read("magvit_runtime/lib/cmake/magvit/compiled_in.json").decode()
        )
    name, version = about["Name"], about["Version"]
    bom = Bom()
    bom.metadata.component = Component(
        name=name,
        version=version,
        type=ComponentType.LIBRARY,
        bom_ref=wheel.name,
        description=about["Summary"],
        licenses=[LicenseExpression(about["License-Expression"])],
        hashes=[HashType(alg=HashAlgorithm.SHA_256, content=_sha256(wheel))],
        purl=PackageURL("pypi", name=name, version=version),
    )
    needs = list(_needs(about.get_all("Requires-Dist") or []))
    bom.components = [*needs, *_compiled_in(compiled)]
    bom.register_dependency(bom.metadata.component, bom.components)
    return JsonV1Dot6(bom).output_as_string(indent=2) + "\n"


def _needs(requirements: list[str]) -> Iterator[Component]:
    """A component a package that `pip install` fetches, whichever extras name it."""
    packages: dict[str, list[Requirement]] = {}
    for text in requirements:
        requirement = Requirement(text)
        packages.setdefault(canonicalize_name(requirement.name), []).append(requirement)
    for name, asked in sorted(packages.items()):
        always = any(requirement.marker is None for requirement in asked)
        yield Component(
            name=name,
            type=ComponentType.LIBRARY,
            bom_ref=f"needs:{name}",
            scope=ComponentScope.REQUIRED if always else ComponentScope.OPTIONAL,
            purl=PackageURL("pypi", name=name),
            properties=[
                Property(name="magvit-runtime:requirement", value=str(requirement))
                for requirement in asked
            ],
        )


def _compiled_in(versions: dict[str, str | None]) -> Iterator[Component]:
    def part(name: str, version: str, licence: License, description: str) -> Component:
        return Component(
            name=name,
            version=version,
            type=ComponentType.LIBRARY,
            bom_ref=f"compiled-in:{name}",
            scope=ComponentScope.REQUIRED,
            licenses=[licence],
            description=description,
        )

    if gcc := versions["gcc"]:
        yield part("libstdc++", gcc, GCC_LICENCE, "GCC's C++ library, linked statically")
        yield part("libgcc", gcc, GCC_LICENCE, "GCC's runtime library, linked statically")
    if (zig := versions["zig"]) and (llvm := versions["zig_llvm"]):
        yield part("libunwind", llvm, LLVM_LICENCE, f"LLVM's unwinder, as zig {zig} builds it")
        licence = LicenseExpression("MIT")
        yield part("compiler-rt", zig, licence, "zig's runtime library, linked statically")
    if cuda := versions["cuda"]:
        yield part("cudart_static", cuda, CUDA_LICENCE, "NVIDIA's CUDA runtime, linked statically")
    if headers := versions["tensorrt_headers"]:
        licence = LicenseExpression("Apache-2.0")
        yield part("tensorrt-headers", headers, licence, "TensorRT's C++ headers, no library")


def _sha256(path: Path) -> str:
    return sha256(path.read_bytes()).hexdigest()
