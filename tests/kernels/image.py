# SPDX-License-Identifier: Apache-2.0
"""An initramfs with a kernel's modules, this Python, this package and guest.py."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

ROOT = Path(__file__).parents[2]
MODULES = ("veth", "sch_ingress", "cls_bpf", "act_bpf")
INIT = """#!/bin/busybox sh
/bin/busybox mkdir -p /proc /sys /tmp /dev
/bin/busybox mount -t proc proc /proc
/bin/busybox mount -t sysfs sys /sys
/bin/busybox mount -t bpf bpf /sys/fs/bpf
/bin/busybox mount -t cgroup2 cgroup2 /sys/fs/cgroup
for module in $(/bin/busybox cat /modules/order); do /bin/busybox insmod /modules/$module; done
export PATH=/bin PYTHONHOME={home} PYTHONPATH=/src PYTHONDONTWRITEBYTECODE=1
{python} /src/guest.py {objects} 2>&1
/bin/busybox poweroff -f
"""


def newest_package(series: str) -> str:
    """Debian's newest cloud kernel of a series; it has everything that matters and is small."""
    names = subprocess.run(
        ["apt-cache", "pkgnames", f"linux-image-{series}."],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    cloud = [n for n in names if n.endswith("cloud-amd64")]
    return max(cloud, key=lambda n: [int(x) for x in re.findall(r"\d+", n)])


def fetch_kernel(series: str, where: Path) -> tuple[Path, Path]:
    """vmlinuz and the directory of modules."""
    package = newest_package(series)
    where.mkdir(parents=True, exist_ok=True)
    if not list(where.glob("*.deb")):
        download = ["apt-get", "download", "-q", package]
        subprocess.run(download, cwd=where, check=True, capture_output=True)
    (deb,) = where.glob("*.deb")
    subprocess.run(["dpkg", "-x", str(deb), str(where / "root")], check=True)
    (kernel,) = (where / "root" / "boot").glob("vmlinuz-*")
    (modules,) = (where / "root" / "lib" / "modules").iterdir()
    return kernel, modules


def build(modules: Path, where: Path, objects: list[str]) -> Path:
    """The compressed archive."""
    tree = where / "tree"
    shutil.rmtree(tree, ignore_errors=True)
    tree.mkdir(parents=True)
    _tools(tree)
    _python(tree)
    _package(tree)
    _modules(tree, modules)
    home = Path(sys.base_prefix)
    python = Path(sys.executable).resolve()
    init = INIT.format(home=home, python=python, objects=" ".join(objects))
    (tree / "init").write_text(init)
    (tree / "init").chmod(0o755)
    archive = where / "initramfs.gz"
    pack = f"find . | cpio -o -H newc --quiet | gzip -1 > {archive}"
    subprocess.run(pack, shell=True, cwd=tree, check=True)
    return archive


def _tools(tree: Path) -> None:
    (tree / "bin").mkdir()
    shutil.copy("/bin/busybox", tree / "bin" / "busybox")
    ip = shutil.which("ip")
    assert ip is not None
    shutil.copy(ip, tree / "bin" / "ip")
    _libraries(tree, Path(ip))


def _python(tree: Path) -> None:
    python = Path(sys.executable).resolve()
    _copy(tree, python)
    _libraries(tree, python)
    standard = Path(sysconfig.get_path("stdlib"))
    skip = shutil.ignore_patterns(
        "__pycache__", "test", "tests", "site-packages", "idlelib", "tkinter", "ensurepip",
        "lib2to3", "config-3*", "*.a", "turtledemo", "pydoc_data",
    )  # fmt: skip
    shutil.copytree(standard, tree / str(standard).lstrip("/"), ignore=skip, dirs_exist_ok=True)
    for extension in (standard / "lib-dynload").glob("*.so"):
        _libraries(tree, extension)


def _package(tree: Path) -> None:
    skip = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "src" / "pycilium", tree / "src" / "pycilium", ignore=skip)
    shutil.copy(Path(__file__).parent / "guest.py", tree / "src" / "guest.py")
    _libraries(tree, ROOT / "src" / "pycilium" / "libbpf" / "_bpf.abi3.so")
    site = Path(sysconfig.get_path("platlib"))
    for name in ("attr", "attrs", "cffi", "pyroute2"):
        shutil.copytree(site / name, tree / "src" / name, ignore=skip)
    for backend in site.glob("_cffi_backend*.so"):
        shutil.copy(backend, tree / "src")
        _libraries(tree, backend)
    for library in site.glob("cffi.libs/*"):
        (tree / "src" / "cffi.libs").mkdir(exist_ok=True)
        shutil.copy(library, tree / "src" / "cffi.libs")


def _modules(tree: Path, modules: Path) -> None:
    """In the order in which they need one another."""
    subprocess.run(["depmod", "-b", str(modules.parents[2]), modules.name], check=True)
    needs = {}
    for line in (modules / "modules.dep").read_text().splitlines():
        path, _, rest = line.partition(":")
        needs[Path(path).name.split(".")[0]] = (path, rest.split())
    order: list[str] = []
    target = tree / "modules"
    target.mkdir()
    for wanted in MODULES:
        if wanted in needs:
            path, rest = needs[wanted]
            for one in (*reversed(rest), path):
                name = Path(one).name.removesuffix(".xz")
                if name not in order:
                    order.append(name)
                    _unpack(modules / one, target / name)
    (target / "order").write_text("\n".join(order))


def _unpack(source: Path, target: Path) -> None:
    if source.suffix == ".xz":
        with target.open("wb") as out:
            subprocess.run(["xz", "-dc", str(source)], stdout=out, check=True)
    else:
        shutil.copy(source, target)


def _libraries(tree: Path, binary: Path) -> None:
    listed = subprocess.run(
        ["ldd", str(binary)], capture_output=True, text=True, check=False
    ).stdout
    for path in re.findall(r"(/\S+)", listed):
        if Path(path).exists():
            _copy(tree, Path(path))


def _copy(tree: Path, path: Path) -> None:
    target = tree / str(path).lstrip("/")
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(os.path.realpath(path), target)


def boot(kernel: Path, archive: Path, *, seconds: int = 300) -> str:
    """What the guest printed on its console."""
    command = [
        "qemu-system-x86_64", "-M", "q35", "-accel", "tcg", "-cpu", "max", "-m", "1024", "-smp",
        "1", "-nographic", "-no-reboot", "-nodefaults", "-serial", "stdio", "-kernel", str(kernel),
        "-initrd", str(archive), "-append", "console=ttyS0 quiet panic=-1",
    ]  # fmt: skip
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        check=False,
        timeout=seconds,
        stdin=subprocess.DEVNULL,
    )
    return done.stdout
