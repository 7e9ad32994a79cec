# Copyright (c) 2026 oom.forensics contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Commands and small files, with real processes and real trees."""

import os
import sys

import pytest
from ansible_collections.oom.forensics.plugins.module_utils._host import run

PYTHON = sys.executable


def test_output_status_and_complaint_of_a_command():
    code = "import sys; sys.stdout.write('a' * 3000000); sys.stderr.write('first\\nsecond\\n'); sys.exit(3)"
    running = run.popen([PYTHON, "-c", code])
    assert sum(map(len, running.chunks)) == 3000000
    ended = running.end()
    assert ended == run.Ended(3, "first\nsecond\n")
    assert run.complaint(ended) == "first"
    assert running.end().status == 3


def test_a_command_runs_untranslated_and_without_pager(monkeypatch):
    monkeypatch.setenv("LC_ALL", "de_DE.UTF-8")
    monkeypatch.setenv("SYSTEMD_LOG_LEVEL", "debug")
    code = "import os; print(*(os.environ[name] for name in ('LC_ALL', 'SYSTEMD_PAGER', 'SYSTEMD_LOG_LEVEL')), sep=',')"
    running = run.popen([PYTHON, "-c", code])
    assert b"".join(running.chunks) == b"C,,info\n"
    assert running.end().status == 0


def test_an_abandoned_command_is_ended():
    running = run.popen([PYTHON, "-c", "import time\nwhile True: print('x' * 1000)"])
    assert next(running.chunks)
    assert running.end().status != 0


def test_a_command_that_ignores_its_closed_pipe_is_killed():
    code = "import sys, time; sys.stdout.write('x'); sys.stdout.flush(); time.sleep(600)"
    running = run.popen([PYTHON, "-c", code])
    assert next(running.chunks) == b"x"
    assert running.end().status == -9


def test_a_command_that_prints_too_slowly_is_left_with_what_it_printed():
    code = "import sys, time; sys.stdout.write('x'); sys.stdout.flush(); time.sleep(600)"
    running = run.hurried(run.Host(), 0.5).stream([PYTHON, "-c", code])
    assert next(running.chunks) == b"x"
    with pytest.raises(run.OverdueError):
        next(running.chunks)
    assert running.end().status == -9


def test_a_command_that_is_fast_enough_is_read_to_its_end():
    code = "import sys; sys.stdout.write('a' * 3000000)"
    running = run.hurried(run.Host(), 60).stream([PYTHON, "-c", code])
    assert sum(map(len, running.chunks)) == 3000000
    assert running.end().status == 0


def test_a_recorded_transcript_is_never_hurried():
    recorded = run.Host(stream=lambda argv: None)
    assert run.hurried(recorded, 1) is recorded


def test_a_command_that_is_not_there():
    running = run.popen(["/nonexistent/journalctl"])
    assert list(running.chunks) == []
    assert running.end() == run.Ended(127, "/nonexistent/journalctl: no such file")


def test_small_files_below_a_root(tmp_path):
    host = run.Host(str(tmp_path))
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc" / "vmstat").write_text("nr_free_pages 12\noom_kill 3\nbroken\nodd x\n")
    assert run.pairs(host, "/proc/vmstat") == {"nr_free_pages": 12, "oom_kill": 3}
    assert run.read_text(host, "/proc/absent") is None
    assert run.read_text(host, "/proc") is None
    assert run.names(host, "/proc") == ["vmstat"]
    assert run.names(host, "/absent") == []
    assert not run.live(host)
    assert run.live(run.Host())


def test_a_file_is_opened_below_a_directory_without_following_links(tmp_path):
    host = run.Host(str(tmp_path))
    (tmp_path / "home" / "a").mkdir(parents=True)
    (tmp_path / "home" / "a" / "file").write_text("hers")
    os.symlink("a", str(tmp_path / "home" / "b"))
    os.symlink("file", str(tmp_path / "home" / "a" / "link"))
    before = sorted(os.listdir("/proc/self/fd"))
    found = run.descend(host, "/home", "a/file")
    assert os.read(found, 10) == b"hers"
    assert not os.get_inheritable(found)
    os.close(found)
    os.close(run.descend(host, "/home", "a"))
    for path in ("b/file", "a/link", "b", "a/absent", "absent/file", "a/file/x"):
        with pytest.raises(OSError):
            run.descend(host, "/home", path)
    with pytest.raises(OSError):
        run.descend(host, "/home/a/file", "x")
    assert sorted(os.listdir("/proc/self/fd")) == before


def test_a_pipe_below_a_directory_is_not_waited_for(tmp_path):
    os.mkfifo(str(tmp_path / "pipe"))
    os.close(run.descend(run.Host(str(tmp_path)), "/", "pipe"))
