# Copyright (c) 2026 oom.forensics contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where a drill looks for its kill, and what it says of it."""

import time

import pytest
from ansible_collections.oom.forensics.plugins.module_utils._host import drill, drill_search


def event(pid, comm=drill.COMM):
    return {
        "id": "e{0}".format(pid),
        "victims": [{"pid": pid, "comm": comm}],
        "origins": [{"source": "kmsg", "path": "/dev/kmsg"}],
    }


def coverage(**row):
    return {"sources": [dict({"path": None, "available": True, "error": None}, **row)]}


@pytest.fixture
def no_merge(monkeypatch):
    monkeypatch.setattr(drill_search._events, "merge", lambda found: list(found)[:1])


def test_search_polls_until_the_kill_is_there(no_merge):
    answers = {
        "journal": [{"events": [], "coverage": coverage(available=False, error="journalctl: not found")}],
        "kmsg": [
            {"events": [event(7), event(5, "other")], "coverage": coverage(path="/dev/kmsg")},
            {"events": [event(7), event(5)], "coverage": coverage(path="/dev/kmsg")},
        ],
        "files": [{"events": [event(5)], "coverage": coverage(path="/var/log/kern.log")}],
    }
    result = drill_search.search(lambda sources, **_rest: answers[sources[0]].pop(0), 5, time.monotonic())
    rows = {row["source"]: row for row in result["found"]}
    assert [(row["source"], row["found"], row["event_id"]) for row in result["found"]] == [
        ("journal", False, None),
        ("kmsg", True, "e5"),
        ("files", True, "e5"),
    ]
    assert rows["journal"]["error"] == "journalctl: not found"
    assert rows["kmsg"]["path"] == "/dev/kmsg" and rows["kmsg"]["milliseconds"] >= 50
    assert result["event"]["id"] == "e5"
    assert answers["journal"] == answers["kmsg"] == []


def test_search_ends(no_merge):
    asked = []

    def collect(sources, **_rest):
        asked.append(sources)
        return {"events": [event(6)], "coverage": coverage(path="/dev/kmsg")}

    result = drill_search.search(collect, 5, time.monotonic(), ["kmsg"], seconds=0.2)
    assert result == {
        "found": [
            {
                "source": "kmsg",
                "path": "/dev/kmsg",
                "found": False,
                "milliseconds": None,
                "event_id": None,
                "error": None,
            }
        ],
        "event": None,
    }
    assert 2 <= len(asked) < 20 and set(asked) == {("kmsg",)}


KILLED = {"pid": 5, "cgroup": "/d", "limit_bytes": 16 << 20, "killed": True, "exit_status": None, "signal": 9}


@pytest.mark.parametrize(
    "changed,text",
    [
        (
            {"found": [dict(drill_search._row("kmsg"), found=True, milliseconds=12), drill_search._row("files")]},
            "was killed; found in kmsg after 12 ms",
        ),
        ({"found": [drill_search._row("kmsg")]}, "was killed; found in no log source"),
        (
            {"killed": False, "exit_status": 3, "signal": None},
            "was not killed by the kernel: it reached 4 times its limit",
        ),
        ({"killed": False}, "was not killed by the kernel: signal 9"),
    ],
)
def test_summary(changed, text):
    assert drill_search.summary(dict(KILLED, **changed)) == "pid 5 in /d with a limit of 16777216 bytes " + text
