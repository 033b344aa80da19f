# SPDX-License-Identifier: Apache-2.0
"""Programs, links and failures, on the real kernel."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from pycilium import KernelError, SpecError, VerifierError
from pycilium.libbpf import (
    CgroupHook,
    Hook,
    Link,
    Object,
    ObjectSpec,
    Program,
    TcFilter,
    XdpMode,
    attachments,
    features,
)
from pycilium.net import NetNS, links

pytestmark = pytest.mark.root
CGROUP = Path("/sys/fs/cgroup/unified")


def device(node: NetNS) -> int:
    return links.create_veth("one", "two", ns=node)[0].index


def test_variables_are_set_before_load(spec: ObjectSpec) -> None:
    with spec.load(variables={"settings": {"verdict": 2}}, max_entries={"hash": 7}) as obj:
        assert obj.programs["classify"].test_run(bytes(64)).retval == 2
        assert obj.maps["hash"].max_entries == 7


def test_context_in_and_out(loaded: Object) -> None:
    run = loaded.programs["classify"].test_run(bytes(64), ctx={"mark": 41})
    assert run.ctx["mark"] == 42
    assert run.nanoseconds > 0
    with pytest.raises(SpecError, match=r"ctx\.colour"):
        loaded.programs["classify"].test_run(bytes(64), ctx={"colour": 1})
    with pytest.raises(KernelError, match="interface that this namespace lacks"):
        loaded.programs["classify"].test_run(bytes(64), ctx={"ifindex": 9999})
    with pytest.raises(KernelError, match="below 14 bytes"):
        loaded.programs["classify"].test_run(b"short")


def test_a_disabled_map_and_program(spec: ObjectSpec) -> None:
    with spec.load(disable_maps=["unused"], disable_programs=["reads_unused"]) as obj:
        assert "unused" not in obj.maps
        assert "reads_unused" not in obj.programs


def test_the_verifier_in_one_line(compiled: Callable[[str], Path]) -> None:
    with pytest.raises(VerifierError) as caught:
        ObjectSpec.from_file(compiled("rejected")).load()
    text = str(caught.value)
    assert text.startswith("load careless: ")
    assert "\n" not in text
    assert "outside of the packet" in text or "invalid access to packet" in text
    assert "data[12]" in text
    assert "processed" in caught.value.log


def test_without_capabilities(compiled: Callable[[str], Path]) -> None:
    """One line that names what is missing, and no rumour about memlock."""
    code = f"""
from pycilium import PermissionDeniedError
from pycilium.libbpf import ObjectSpec
try:
    ObjectSpec.from_file({str(compiled("maps"))!r}).load()
except PermissionDeniedError as error:
    print(error)
"""
    env = {**os.environ, "PYTHONPATH": str(Path(features.__file__).parents[2])}
    command = ["setpriv", "--bounding-set", "-all", sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=env)
    assert "lacks CAP_BPF and CAP_NET_ADMIN" in done.stdout, done.stderr
    assert "sudo" in done.stdout
    assert "ulimit" not in done.stdout + done.stderr


def test_tcx_order_update_and_query(loaded: Object, node: NetNS) -> None:
    index = device(node)
    first, second = loaded.programs["pass"], loaded.programs["classify"]

    def chain() -> list[str]:
        return [one.program_name for one in node.run(attachments, index, Hook.RX)]

    with node.run(Link.attach_tcx, first, index, Hook.RX) as link:
        assert chain() == ["pass"]
        with node.run(lambda: Link.attach_tcx(second, index, Hook.RX, before=link)):
            assert chain() == ["classify", "pass"]
        with node.run(lambda: Link.attach_tcx(second, index, Hook.RX, after=first)) as other:
            assert chain() == ["pass", "classify"]
            info = other.info()
            assert (info.type, info.ifindex, info.program_id) == ("tcx", index, second.id)
        with pytest.raises(KernelError, match="attached there already"):
            node.run(Link.attach_tcx, first, index, Hook.RX)
        link.update(second)
        assert chain() == ["classify"]
    assert chain() == []


def test_a_pinned_link_outlives_its_handle(loaded: Object, node: NetNS, bpffs: Path) -> None:
    index = device(node)
    link = node.run(Link.attach_tcx, loaded.programs["pass"], index, Hook.TX)
    link.pin(bpffs / "link")
    link.close()
    (held,) = node.run(attachments, index, Hook.TX)
    with Link.from_id(held.link_id) as borrowed:
        assert borrowed.info().id == held.link_id
    with Link.from_pin(bpffs / "link") as again:
        links.delete(index, ns=node)
        with pytest.raises(KernelError, match="severed"):
            again.update(loaded.programs["classify"])
    (bpffs / "link").unlink()


@pytest.mark.parametrize("mode", list(XdpMode))
def test_xdp(loaded: Object, node: NetNS, mode: XdpMode) -> None:
    index = device(node)
    with node.run(Link.attach_xdp, loaded.programs["drop"], index, mode) as link:
        assert link.info().type == "xdp"
        with pytest.raises(KernelError, match="holds the interface"):
            node.run(Link.attach_xdp, loaded.programs["drop"], index, mode)


def test_cgroup_hook(loaded: Object) -> None:
    if not CGROUP.is_dir():
        pytest.skip("no cgroup2 hierarchy")
    where = Path(tempfile.mkdtemp(prefix="pycilium-", dir=CGROUP))
    try:
        hook = CgroupHook.INET4_CONNECT
        with Link.attach_cgroup(loaded.programs["connect4"], where, hook):
            code = f"""
import os, socket
open({str(where / "cgroup.procs")!r}, "w").write(str(os.getpid()))
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.connect(("127.0.0.1", 9)); s.close()
"""
            subprocess.run([sys.executable, "-c", code], check=True)
            assert loaded.maps["lru"][1] == 1
    finally:
        where.rmdir()
    with pytest.raises(SpecError, match="cgroup2"):
        Link.attach_cgroup(loaded.programs["connect4"], "/nothing", hook)
    with pytest.raises(KernelError, match="not in a cgroup2"):
        Link.attach_cgroup(loaded.programs["connect4"], "/tmp", hook)


def test_clsact_filter(loaded: Object, node: NetNS) -> None:
    index = device(node)
    with node.run(TcFilter.attach, loaded.programs["pass"], index, Hook.RX) as one:
        node.run(one.update, loaded.programs["classify"])
        shown = node.run(
            lambda: subprocess.run(
                ["tc", "-j", "filter", "show", "dev", "one", "ingress"],
                capture_output=True,
                check=True,
            )
        )
        names = [f.get("options", {}).get("bpf_name", "") for f in json.loads(shown.stdout)]
        assert any("classify" in name for name in names)
        node.run(one.close)


def test_a_program_by_id_and_pin(loaded: Object, bpffs: Path) -> None:
    original = loaded.programs["pass"]
    with Program.from_id(original.id) as same:
        assert (same.name, same.tag) == (original.name, original.tag)
    original.pin(bpffs / "pass")
    with Program.from_pin(bpffs / "pass") as same:
        assert same.id == original.id
    (bpffs / "pass").unlink()


def test_features_are_probed() -> None:
    assert features.have_bpf()
    assert features.have_batch()
    names = {row.name for row in features.report()}
    assert {"tcx links", "bpffs"} <= names
    assert not features.have_bpffs("/proc")


def test_a_forked_child_keeps_no_link(loaded: Object, node: NetNS) -> None:
    """Descriptors close on exec: a child must not keep a program attached."""
    index = device(node)
    link = node.run(Link.attach_tcx, loaded.programs["pass"], index, Hook.RX)
    assert not os.get_inheritable(link.fd)
    child = subprocess.Popen(["sleep", "5"], close_fds=False)
    try:
        link.close()
        assert node.run(attachments, index, Hook.RX) == []
    finally:
        child.terminate()
        child.wait()
