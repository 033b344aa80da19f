# SPDX-License-Identifier: Apache-2.0
"""Logs that are cut off, damaged, of another schema: what can be read is, and the rest is said."""

from __future__ import annotations

import os
import stat
import threading
import time
from pathlib import Path

import pytest

from pycilium.durable import Lock, Log, replace
from pycilium.errors import ClosedError, ConflictError, KernelError

RECORDS = tuple({"number": number} for number in range(3))


def opened(path: Path) -> Log:
    return Log.open(path, kind="test", schema=1)


@pytest.fixture
def written(tmp_path: Path) -> Path:
    path = tmp_path / "log"
    with opened(path) as log:
        for record in RECORDS:
            log.append(record)
    return path


def test_records_are_read_back(written: Path) -> None:
    with opened(written) as log:
        assert (log.records, log.problems, log.lines) == (RECORDS, (), 3)
        log.rewrite(RECORDS[1:])
        log.append({"number": 9})
    with opened(written) as log:
        assert log.records == (*RECORDS[1:], {"number": 9})
    assert stat.S_IMODE(written.stat().st_mode) == 0o600
    with pytest.raises(ClosedError):
        log.append({})


def test_a_log_that_is_cut_off_anywhere_has_every_record_before(written: Path) -> None:
    whole = written.read_bytes()
    ends = [at + 1 for at, byte in enumerate(whole) if byte == ord("\n")]
    for cut in range(ends[0], len(whole)):
        written.write_bytes(whole[:cut])
        with opened(written) as log:
            complete = sum(end <= cut for end in ends) - 1
            assert (log.records, log.problems) == (RECORDS[:complete], ())
            log.append({"after": cut})
        with opened(written) as log:
            assert log.records == (*RECORDS[:complete], {"after": cut})
    assert not list(written.parent.glob("*damaged*"))


def test_a_damaged_byte_anywhere_costs_one_record_and_is_said(written: Path) -> None:
    whole = written.read_bytes()
    for at in range(len(whole) - 1):
        written.write_bytes(whole[:at] + bytes([whole[at] ^ 0x21]) + whole[at + 1 :])
        with opened(written) as log:
            line = whole[:at].count(b"\n")
            kept = tuple(one for number, one in enumerate(RECORDS, 1) if number != line)
            assert set(map(str, log.records)) <= set(map(str, kept))
            assert len(log.records) >= len(kept) - 1  # a lost newline joins two
            assert "the file is kept as" in log.problems[0]
        with opened(written) as log:
            assert log.problems == ()
        for aside in written.parent.glob("*damaged*"):
            assert aside.read_bytes() != whole
            aside.unlink()


@pytest.mark.parametrize("content", [b"", b"\0" * 300, b"{}\n", b"\xff\xfe\n\n"])
def test_what_is_no_log_is_set_aside(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "log"
    path.write_bytes(content)
    with opened(path) as log:
        assert log.records == ()
        assert "does not say what it is" in log.problems[0]
    assert (tmp_path / "log.damaged-1").read_bytes() == content


@pytest.mark.parametrize(("kind", "schema"), [("other", 1), ("test", 2)])
def test_a_log_of_others_is_left_alone(tmp_path: Path, kind: str, schema: int) -> None:
    path = tmp_path / "log"
    Log.open(path, kind=kind, schema=schema).close()
    before = path.read_bytes()
    with pytest.raises(ConflictError, match=f"a log of {kind} by schema {schema}"):
        opened(path)
    assert path.read_bytes() == before
    assert [one.name for one in tmp_path.iterdir()] == ["log"]


def test_a_replaced_file_keeps_its_directory_and_gets_its_mode(tmp_path: Path) -> None:
    before = tmp_path.stat().st_ino
    replace(tmp_path / "file", b"one")
    replace(tmp_path / "file", b"two", mode=0o644)
    assert (tmp_path / "file").read_bytes() == b"two"
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o644
    assert tmp_path.stat().st_ino == before
    with pytest.raises(KernelError, match="write"):
        replace(tmp_path / "absent" / "file", b"")


def test_a_lock_has_one_holder_and_is_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    held = Lock.acquire(path)
    with pytest.raises(ConflictError, match=f"held by process {os.getpid()}"):
        Lock.acquire(path)
    later = threading.Thread(target=lambda: (time.sleep(0.05), held.close()))
    later.start()
    Lock.acquire(path, wait=10).close()
    later.join()
