# SPDX-License-Identifier: Apache-2.0
"""What the verifier refuses, and what libbpf cannot load: PYC-V1 to PYC-V15, PYC-L1."""

from __future__ import annotations

import errno
import re

from pycilium.doctor.machine import Machine
from pycilium.doctor.rule import Evidence, Probe, Rule, confirmed, likely, ruled_out
from pycilium.failure import Failure
from pycilium.libbpf import verifier


def _refused(failure: Failure, machine: Machine) -> Evidence:  # noqa: ARG001 - a probe
    """The verifier's own verdict is the proof; where it was made, and what it knew there."""
    refusal = verifier.read(failure.log)
    if refusal is None:
        return confirmed("")
    parts = (refusal.register_in_words, f"in {refusal.place}" if refusal.place else "")
    register = refusal.register or "the register"
    return confirmed(", ".join(part for part in parts if part), register=register)


def _said(failure: Failure, machine: Machine) -> Evidence:  # noqa: ARG001 - a probe
    """It was said in so many words."""
    return confirmed("")


def _not_lockdown(failure: Failure, machine: Machine) -> Evidence:
    locked = "[confidentiality]" in (machine.text("/sys/kernel/security/lockdown") or "")
    if locked and re.search(r"bpf_probe_(read|write)", failure.log):
        return ruled_out("lockdown refuses it")
    return _refused(failure, machine)


def _too_complex(failure: Failure, machine: Machine) -> Evidence:
    if re.search(r"too large\. Processed \d+ insn", failure.text):
        return _refused(failure, machine)
    return likely("the log does not say so")


def _rule(code: str, title: str, said: str, probe: Probe, cause: str, fix: str, more: str) -> Rule:
    return Rule(
        code=code,
        title=title,
        operations=("load", "open object"),
        errnos=(errno.E2BIG,) if code == "PYC-V7" else (),
        said=said,
        probe=probe,
        cause=cause,
        fix=fix,
        more=more,
    )


RULES = (
    _rule(
        "PYC-V1",
        "Read beyond the end of the packet",
        r"invalid access to packet|offset is outside of the packet",
        _refused,
        "the packet is read where nothing has shown that it is long enough",
        "compare before that line: if (pointer + size > data_end) return ...;",
        "The comparison must be on the pointer that is read through. After a call that may change "
        "the packet, both data and data_end must be read again and compared again.",
    ),
    _rule(
        "PYC-V2",
        "A pointer that may be NULL, or is no longer a pointer",
        r"R\d+ invalid mem access '(?P<state>\w*or_null|inv|scalar)'",
        _refused,
        "memory is read through a value that is not known to be a pointer",
        "after a map lookup, test it first: if (!value) return ...;",
        "'map_value_or_null' is a lookup that was not tested. 'scalar', on older kernels 'inv', "
        "is a "
        "number: the pointer was lost in arithmetic, or never was one. Kernels before 5.10.10 lose "
        "pointers that the compiler spilled to the stack.",
    ),
    _rule(
        "PYC-V3",
        "A helper that this hook does not have",
        r"(?:program of this type cannot use(?: helper)?|unknown func) (?P<helper>\w+)#\d+",
        _not_lockdown,
        "{helper} is not there for this type of program on this kernel",
        "move the call to a hook that has it, or use another helper",
        "bpftool feature probe lists the helpers of each type. Linux before 6.4 says 'unknown "
        "func' "
        "where later ones say 'program of this type cannot use'.",
    ),
    _rule(
        "PYC-V4",
        "The kernel is older than the helper",
        r"invalid func unknown#(?P<number>\d+)|unknown#(?P<other>\d+)",
        _refused,
        "the program calls a helper that this kernel does not know",
        "use a newer kernel, or leave the call out: load with a variable that is 0",
        "The number counts the helpers of linux/bpf.h.",
    ),
    _rule(
        "PYC-V5",
        "The licence does not allow the helper",
        r"cannot call GPL.restricted function from non-GPL compatible program",
        _refused,
        "the helper is for programs under the GPL only",
        'char _license[] SEC("license") = "Dual BSD/GPL";',
        "The kernel compares the text: 'GPL', 'GPL v2', 'Dual BSD/GPL', 'Dual MIT/GPL', 'Dual "
        "MPL/GPL'.",
    ),
    _rule(
        "PYC-V6",
        "A loop without an end",
        r"infinite loop detected|back-edge from insn",
        _refused,
        "the verifier cannot see that the loop ends",
        "count to a constant: for (int i = 0; i < 16; i++), or use bpf_loop (Linux 5.17)",
        "'back-edge' is what kernels before 5.3 say: those accept no loop that is not unrolled.",
    ),
    _rule(
        "PYC-V7",
        "Too much for the verifier",
        r"BPF program is too large\. Processed (?P<count>\d+) insn",
        _too_complex,
        "the verifier gave up: it is the paths that are too many, not the instructions",
        "fewer branches in loops; a function that is not static; bpf_loop; smaller bounds",
        "The limit is 1,000,000 instructions walked. It can be crossed by a kernel update alone, "
        "because what the verifier prunes differs. A parser loop with three branches at a variable "
        "offset reaches it at 64 turns.",
    ),
    _rule(
        "PYC-V8",
        "A reference is not given back",
        r"Unreleased reference id=(?P<reference>\d+)",
        _refused,
        "a path ends without giving back a socket or a record of the ring",
        "on every path: bpf_ringbuf_submit or _discard, bpf_sk_release",
        "The log names the instruction that took the reference.",
    ),
    _rule(
        "PYC-V9",
        "A return value that the hook does not have",
        r"At program exit the register R0 has",
        _refused,
        "the program returns a number that its hook does not allow",
        "cgroup programs return 0 or 1; tc and XDP programs any number",
        "A value that comes from a map or a variable has to be compared first.",
    ),
    _rule(
        "PYC-V10",
        "A field of the context that is closed",
        r"invalid bpf_context access off=(?P<offset>\d+)",
        _refused,
        "this field of the context cannot be read or written here, or not at this size",
        "read it whole, as declared: __u32 value = ctx->field; keep clang from widening it with a "
        "volatile read",
        "linux/bpf.h has the fields; which of them are open depends on the type of program.",
    ),
    _rule(
        "PYC-V11",
        "The compiler moved arithmetic on the context",
        r"dereference of modified ctx ptr",
        _refused,
        "the context is read at an offset that was added before",
        "read the field through a volatile pointer, at a constant offset",
        'clang joins two accesses with one computed base. asm volatile("" : "+r"(ctx)) before '
        "each read keeps them apart.",
    ),
    _rule(
        "PYC-V12",
        "Memory that was never written",
        r"invalid (?:indirect )?read from stack",
        _refused,
        "a helper is given bytes of the stack that were never written, often a struct's padding",
        "struct key key = {{}}; with the padding as a field of its own",
        "Linux 6.3 and later accept it from privileged programs; a key with chance padding would "
        "still find nothing.",
    ),
    _rule(
        "PYC-V13",
        "A length without a bound",
        r"unbounded memory access|invalid zero-sized read|R\d+ min value is negative",
        _refused,
        "the length or offset is not known to be within its bounds",
        "right before the use: length &= 0xff; or if (length > sizeof(buffer)) return ...;",
        "The compiler may compare one copy of a value and use another: keep both next to each "
        "other.",
    ),
    _rule(
        "PYC-V14",
        "The kernel's function has changed",
        r"func '(?P<function>[^']+)' doesn't have (?P<argument>\d+)-th argument",
        _refused,
        "{function} has fewer arguments in this kernel",
        "hook a tracepoint, whose arguments stay; pycilium's datapath hooks no kernel function",
        "Functions of the kernel are not an interface and change between versions.",
    ),
    _rule(
        "PYC-V15",
        "What the program attaches to is not there",
        r"failed to find kernel BTF type ID of '(?P<name>[^']+)': -\d+",
        _said,
        "this kernel has no {name}",
        "grep {name} /proc/kallsyms, and take the name that is there",
        "It may be inlined, built as a module that is not loaded, or have a suffix.",
    ),
    _rule(
        "PYC-L1",
        "A section name that libbpf does not know",
        r"failed to guess program type from ELF section '(?P<section>[^']+)'"
        r"|missing BPF prog type, check ELF section name '(?P<name>[^']+)'",
        _said,
        "libbpf does not know what a section of this name holds",
        'SEC("xdp") or SEC("tc"); pycilium attaches SEC("tc") programs to TCX',
        "libbpf 1.0 ended free names such as 'xdp_prog1'; 'tcx/ingress' needs libbpf 1.3.",
    ),
)
