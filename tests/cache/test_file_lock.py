"""The file lock: a second process is refused and told the first one's id; a killed process holds nothing."""

from __future__ import annotations

import errno
import fcntl
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from cache.atomic import file_lock
from schema.errors import RunError
from tests.imports import ROOT

HOLD = """
import sys, time
from pathlib import Path
from cache.atomic import file_lock
with file_lock(Path(sys.argv[1]), "waits"):
    print("held", flush=True)
    time.sleep(600)
"""


def test_the_second_one_is_told_which_process_holds_it_and_a_killed_one_lets_go(tmp_path: Path) -> None:
    command = [sys.executable, "-c", HOLD, str(tmp_path)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout
        assert other.stdout.readline() == "held\n"
        message = rf"^{re.escape(str(tmp_path))}: another process waits \(found process {other.pid} on .+\); wait"
        with pytest.raises(RunError, match=message), file_lock(tmp_path, "waits"):
            pass
        other.send_signal(signal.SIGKILL)
    with file_lock(tmp_path, "waits"):
        pass


def test_the_name_in_it_is_the_holder_s_and_goes_with_the_folder(tmp_path: Path) -> None:
    folder = tmp_path / "a" / "b"
    folder.mkdir(parents=True)
    (folder / "lock").write_text("an older and much longer name " * 5)
    with file_lock(folder, "waits"):
        assert (folder / "lock").read_text().startswith(f"process {os.getpid()} on ")
    with file_lock(folder, "waits"):  # let go at the end of the block
        pass


def test_a_disk_without_locks_locks_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object) -> None:
        raise OSError(errno.ENOLCK, "no locks available")

    monkeypatch.setattr(fcntl, "flock", refused)
    with file_lock(tmp_path, "waits"), file_lock(tmp_path, "waits"):
        pass
