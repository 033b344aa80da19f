# SPDX-License-Identifier: Apache-2.0
"""The one build step: the CFFI extension, the CNI executable and every bpf/*.bpf.c.

Hatchling calls it for wheels and editable installs; `python _build.py` builds in place and
skips what is up to date. It must not import pycilium: nothing is built yet.
"""

from __future__ import annotations

import json
import platform
import runpy
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterable
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[2]
EXTENSION = HERE / "_bpf.abi3.so"
OBJECTS = HERE.parent / "_objects"
CNI = HERE.parent / "cni"
SHIM = CNI / "shim"
ABI = 0x030B0000  # CPython 3.11: the oldest that pycilium runs on


class BuildError(Exception):
    """A tool is missing or failed; the text says which Debian package has it."""


def build() -> None:
    """Build whatever is older than its sources."""
    build_extension()
    build_cni()
    for source in sorted((ROOT / "bpf").glob("*.bpf.c")):
        build_object(source)


def build_extension() -> None:
    """The abi3 extension: libbpf's functions and shim.c behind one CFFI module."""
    sources = [HERE / "cdef.h", HERE / "shim.c", HERE / "_build.py"]
    if _is_fresh(EXTENSION, sources):
        return
    import cffi

    ffi = cffi.FFI()
    ffi.cdef((HERE / "cdef.h").read_text())
    ffi.set_source("pycilium.libbpf._bpf", (HERE / "shim.c").read_text())
    with tempfile.TemporaryDirectory() as scratch:
        generated = Path(scratch) / "_bpf.c"
        ffi.emit_c_code(str(generated))
        include = sysconfig.get_path("include")
        flags = [
            "-O2",
            "-shared",
            "-fPIC",
            "-Wall",
            "-Wno-unused-function",
            f"-DPy_LIMITED_API={ABI:#x}",
        ]
        flags += [f"-I{include}", str(generated), "-o", str(EXTENSION), "-lbpf"]
        _run(_tool("gcc", "cc", package="gcc"), flags, "libbpf-dev and python3-dev")


def build_cni() -> None:
    """The executable that container runtimes start: static, so that it runs on any of them."""
    source, versions = CNI / "shim.c", CNI / "versions.py"
    if _is_fresh(SHIM, [source, versions]):
        return
    text = json.dumps(json.dumps(runpy.run_path(str(versions))["SUPPORTED"]))  # a C string of JSON
    flags = ["-O2", "-static", "-s", "-Wall", "-Werror", f"-DPCL_CNI_VERSIONS={text}"]
    _run(_tool("gcc", "cc", package="gcc"), [*flags, str(source), "-o", str(SHIM)], "libc6-dev")


def build_object(source: Path) -> None:
    """One BPF object, with BTF for Python and without DWARF."""
    target = OBJECTS / source.name.replace(".bpf.c", ".bpf.o")
    headers = (ROOT / "bpf" / "include").rglob("*.h")
    if _is_fresh(target, [source, *headers]):
        return
    OBJECTS.mkdir(exist_ok=True)
    compile_bpf(source, target, [ROOT / "bpf" / "include"])


def compile_bpf(source: Path, target: Path, include: Iterable[Path] = ()) -> None:
    """clang for the BPF target, UAPI headers only: no CO-RE relocation slows the load."""
    multiarch = f"/usr/include/{platform.machine()}-linux-gnu"
    flags = ["-O2", "-g", "-mcpu=v3", "-target", "bpf", "-Wall", "-Werror"]
    flags += [
        "-DBPF_NO_PRESERVE_ACCESS_INDEX",
        f"-I{multiarch}",
        *(f"-I{path}" for path in include),
    ]
    clang = _tool("clang-19", "clang", package="clang-19")
    _run(clang, [*flags, "-c", str(source), "-o", str(target)], "libbpf-dev and linux-libc-dev")
    strip = shutil.which("llvm-strip-19") or shutil.which("llvm-strip")
    if strip:
        _run(strip, ["-g", str(target)], "llvm-19")


def _is_fresh(target: Path, sources: Iterable[Path]) -> bool:
    if not target.exists():
        return False
    built = target.stat().st_mtime
    return all(source.stat().st_mtime <= built for source in sources)


def _tool(*names: str, package: str) -> str:
    for name in names:
        path = shutil.which(name)
        if path:
            return path
    raise BuildError(f"{names[0]} is not installed: apt-get install {package}")


def _run(tool: str, arguments: list[str], packages: str) -> None:
    done = subprocess.run([tool, *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise BuildError(f"{tool} failed (are {packages} installed?)\n{done.stderr}")


try:
    from hatchling.builders.hooks.plugin.interface import BuildHookInterface
except ImportError:  # run as a script, where hatchling is not needed
    pass
else:

    class CustomBuildHook(BuildHookInterface):  # type: ignore[misc,type-arg,unused-ignore]
        """Builds before packaging and tags the wheel as abi3."""

        def initialize(self, version: str, build_data: dict[str, object]) -> None:  # noqa: ARG002
            """Hatchling's entry point."""
            build()
            tag = sysconfig.get_platform().replace("-", "_").replace(".", "_")
            build_data["tag"] = f"cp311-abi3-{tag}"
            build_data["pure_python"] = False


if __name__ == "__main__":
    try:
        build()
    except BuildError as error:
        sys.exit(f"pycilium build: {error}")
