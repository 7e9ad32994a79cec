# Copyright (c) 2026 oom.forensics contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documents of hosts that somebody took over: everything that the controller relies on is checked."""

import copy
import gzip
import json

import pytest
from ansible_collections.oom.forensics.plugins.module_utils._host import cgroup_memory, engines
from ansible_collections.oom.forensics.plugins.module_utils._oom import events as oom
from ansible_collections.oom.forensics.plugins.module_utils._oom.workload import identify
from ansible_collections.oom.forensics.plugins.plugin_utils import _audit, _evidence, _report, _rules, _terminal
from ansible_collections.oom.forensics.plugins.plugin_utils._shape import wrong

TEXT = (
    b"[  100.000001] Memory cgroup out of memory: Killed process 4242 (web) total-vm:8192kB, anon-rss:7168kB, "
    b"file-rss:64kB, shmem-rss:0kB, UID:1000 pgtables:48kB oom_score_adj:0\n"
)
SOURCE = {
    "source": "kmsg",
    "path": "/dev/kmsg",
    "available": True,
    "first_time": "2026-11-22T01:00:00.000000Z",
    "last_time": "2026-11-22T02:00:00.000000Z",
}
COVERAGE = {
    "sources": [SOURCE],
    "boot_id": "0" * 32,
    "kernel_counter": 1,
    "kills_parsed": 1,
    "kills_unlogged": 0,
    "journal_cursor": None,
    "truncated": False,
    "events_total": 1,
    "events_returned": 1,
    "advice": ["Do something."],
    "cgroups": {
        "cgroups_total": 1,
        "cgroups_returned": 1,
        "vanished": 0,
        "unreadable": 0,
        "error": None,
        "advice": ["Be root."],
    },
    "engines": [{"engine": "docker", "error": None, "advice": None}],
}
PATH = "/docker/" + "4f1c" * 16
CGROUP = dict(
    cgroup_memory.describe(1, {"memory.usage_in_bytes": b"4096\n", "memory.memsw.limit_in_bytes": b"8192\n"}),
    path=PATH,
    depth=2,
    kind="container",
    workload=identify(PATH),
)
NAME = dict(
    dict.fromkeys(engines.KEYS), key="4f1c" * 16, id="4f1c" * 16, name="web", last_seen="2026-11-22T21:50:30.000000Z"
)
GOOD = {
    "schema": _evidence.SCHEMA,
    "status": "ok",
    "error": None,
    "collected_at": "2026-11-22T21:50:30.898260Z",
    "host": {
        "machine_id": "1",
        "kernel": "6.1",
        "memory_total_bytes": 4096,
        "memory_available_bytes": 4096,
        "swap_total_bytes": 0,
        "swap_free_bytes": 0,
        "commit_limit_bytes": None,
        "committed_bytes": None,
        "sysctls": {"vm_panic_on_oom": 0},
        "userspace_oom_killers": ["earlyoom"],
        "critical_processes": [{"name": "sshd", "pid": 1, "unit": None, "oom_score_adj": -1000}],
    },
    "coverage": COVERAGE,
    "events": list(oom.parse([TEXT], oom.Context(boot_time=1.79e9))),
    "cgroups": [CGROUP],
    "names": [NAME],
    "request": {"since": None, "until": None},
    "cursor_used": False,
}


def paths(value, path=()):
    """Every place in a document, the outermost first."""
    yield path
    parts = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in parts:
        yield from paths(item, (*path, key))


def at(document, path, change):
    """A copy of the document with one place changed."""
    changed = {"whole": copy.deepcopy(document)}
    target, last = changed, "whole"
    for key in path:
        target, last = target[last], key
    change(target, last)
    return changed["whole"]


def replace(value):
    return lambda target, key: target.__setitem__(key, value)


def remove(target, key):
    del target[key]


def test_a_good_document_passes():
    assert wrong(GOOD) is None


@pytest.mark.parametrize(
    ("path", "value", "where"),
    [
        (("events", 0, "time"), "yesterday", "events[0].time"),
        (("events", 0, "victims", 0, "pid"), "1", "events[0].victims[0].pid"),
        (("events", 0, "victims", 0, "pid"), True, "events[0].victims[0].pid"),
        (("events", 0, "id"), "../../x", "events[0].id"),
        (("coverage", "sources", 0, "first_time"), 5, "coverage.sources[0].first_time"),
        (("coverage", "advice"), "text", "coverage.advice"),
        (("host", "machine_id"), ["x"], "host.machine_id"),
        (("events",), {}, "events"),
        (("events", 0, "workload", "labels"), "a=b", "events[0].workload.labels"),
        (("cgroups", 0, "memory_max"), "8388608", "cgroups[0].memory_max"),
        (("cgroups", 0, "path"), None, "cgroups[0].path"),
        (("names", 0, "last_seen"), "today", "names[0].last_seen"),
        (("status",), "fine", "status"),
    ],
)
def test_what_is_wrong_is_named(path, value, where):
    assert wrong(at(GOOD, path, replace(value))) == where


def survives(document):
    """Whether the controller gets through a document, or refuses it in one sentence."""
    try:
        fresh = _evidence.unpack(gzip.compress(json.dumps(document).encode(), 1), "It")
    except _evidence.SpoolError as refused:
        return str(refused)
    fresh.update(request=GOOD["request"], cursor_used=False, status="ok")
    if fresh["coverage"] is None:
        return "nothing to report"
    merged, _new = _evidence.merged(fresh, None)
    merged, _new = _evidence.merged(fresh, merged)
    entry = {key: merged.get(key) for key in ("status", "error", "collected_at", "coverage", "events")}
    table = _report.Table(5)
    table.add(dict(entry, inventory_name="web01"))
    told = [str(finding["message"]) for finding in _audit.audit(merged, RULES, NOW, "info").findings]
    return "\n".join(table.lines(80) + [_terminal.visible(text) for text in told])


NOW = "2026-11-22T21:50:30.898260Z"
RULES = _rules.load(None)
HOSTILE = (None, True, -1, 2**70, 1.5, "", "x\x1b[2J", "\ud800", [], [None], {}, {"a": {}})


@pytest.mark.parametrize("path", list(paths(GOOD))[1:], ids=lambda path: ".".join(map(str, path)))
def test_no_single_change_stops_the_controller(path):
    if path[0] in ("request", "cursor_used"):  # the controller's own
        return
    for change in (remove, *map(replace, HOSTILE)):
        text = survives(at(GOOD, path, change))
        assert "\x1b" not in text
        text.encode("utf-8")


def packed(text):
    return gzip.compress(text.encode(), 1)


@pytest.mark.parametrize(
    "number", ["NaN", "Infinity", "-Infinity", "1e999", "9" * 21, "[" * 40 + "1" + "]" * 40, "[" * 5000 + "]" * 5000]
)
def test_what_arithmetic_cannot_bear_is_refused(number):
    text = json.dumps(dict(GOOD, extra="HERE")).replace('"HERE"', number)
    with pytest.raises(_evidence.SpoolError, match="It is n"):
        _evidence.unpack(packed(text), "It")


def test_names_in_the_spool_that_are_no_time_are_passed_over(tmp_path):
    folder = tmp_path / "web01"
    folder.mkdir()
    for name in ("99991231T235959.999999Z.json.gz", "20261399T000000.000000Z.json.gz"):
        (folder / name).write_bytes(b"")
    path = _evidence.write(str(tmp_path), "web01", GOOD, 10)
    assert _evidence.documents(str(tmp_path), "web01")[0] == path
