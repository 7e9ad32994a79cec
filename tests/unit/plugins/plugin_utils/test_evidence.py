# Copyright (c) 2026 oom.forensics contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The spool: names, atomic writing, merging with what was known, and when a cursor may be used."""

import gzip
import json
import os
import stat

import pytest
from ansible_collections.oom.forensics.plugins.module_utils._oom import events as oom
from ansible_collections.oom.forensics.plugins.plugin_utils import _evidence

BOOT = "0123456789abcdef0123456789abcdef"
MACHINE = "fedcba9876543210fedcba9876543210"
KILL = (
    b"[%8d.000001] Memory cgroup out of memory: Killed process %d (web) total-vm:8192kB, anon-rss:7168kB, "
    b"file-rss:64kB, shmem-rss:0kB, UID:1000 pgtables:48kB oom_score_adj:0\n"
)
REQUEST = {
    "sources": ["auto"],
    "paths": [],
    "since": None,
    "until": None,
    "boots": "all",
    "journal_directory": None,
    "max_events": 1000,
    "max_tasks": 20,
    "raw": False,
}


def kills(*seconds, source="kmsg"):
    """Events as the parser makes them: one kill per second of uptime, pid 1000 + second."""
    text = b"".join(KILL % (second, 1000 + second) for second in seconds)
    context = oom.Context(source=source, boot_id=BOOT, machine_id=MACHINE, boot_time=1.79e9, boot_time_error=1.0)
    return list(oom.parse([text], context))


def source(name, first, last, path=None, available=True):
    row = dict.fromkeys(("records", "bytes", "error", "overrun", "missed"))
    return dict(row, source=name, path=path, available=available, first_time=first, last_time=last)


def fresh(events, counter=0, cursor_used=False, machine=MACHINE, sources=(), **changed):
    coverage = {
        "sources": list(sources),
        "boot_id": BOOT,
        "kernel_counter": counter,
        "kills_parsed": len(events),
        "kills_unlogged": max(0, counter - len(events)),
        "journal_persistent": True,
        "ring_buffer_overrun": False,
        "journal_missed": 0,
        "journal_cursor": "s=1",
        "truncated": False,
        "events_total": len(events),
        "events_returned": len(events),
        "advice": [],
        "cgroups": None,
        "engines": [],
    }
    coverage.update(changed)
    return {
        "schema": _evidence.SCHEMA,
        "status": "ok",
        "error": None,
        "collected_at": "2026-11-22T21:50:30.898260Z",
        "host": dict(dict.fromkeys(_evidence.HOST_KEYS), inventory_name="web01", machine_id=machine),
        "request": dict(REQUEST),
        "cursor_used": cursor_used,
        "coverage": coverage,
        "events": events,
        "cgroups": None,
        "names": [],
    }


# --- names


@pytest.mark.parametrize("host", ["web01", "web01.example.org", "a-b_c"])
def test_plain_names_stay(host):
    assert _evidence.directory_name(host) == host


@pytest.mark.parametrize(
    "host", ["..", ".", "", "../../etc", "/etc/passwd", "a/b", "a\0b", "fe80::1%eth0", "ü", "x" * 5000, "a\nb"]
)
def test_no_name_leaves_the_spool(host, tmp_path):
    name = _evidence.directory_name(host)
    assert name
    assert len(name) < 255
    assert not name.startswith(".")
    assert not set(name) & set("/\0\n")
    assert os.path.dirname(os.path.normpath(tmp_path / name)) == str(tmp_path)
    path = _evidence.write(str(tmp_path), host, fresh([]), 1)
    assert os.path.dirname(os.path.dirname(path)) == str(tmp_path)


def test_different_names_never_share_a_directory():
    names = ["a/b", "a%2Fb", "a%2fb", "a_b", "", "%", ".", "%2E", "x" * 5000, "x" * 5001]
    assert len({_evidence.directory_name(name) for name in names}) == len(names)


@pytest.mark.parametrize("host", ["web01", "fe80::1%eth0", "ü/..", ".hidden"])
def test_the_spool_lists_the_names_that_were_written(host, tmp_path):
    _evidence.write(str(tmp_path), host, fresh([]), 1)
    assert _evidence.hosts(str(tmp_path)) == [host]


def test_a_spool_that_is_not_there_has_no_hosts(tmp_path):
    assert _evidence.hosts(str(tmp_path / "none")) == []


# --- writing and reading


def test_what_was_written_is_read_back_by_gzip_and_by_us(tmp_path):
    document = fresh(kills(1, 2, 3))
    path = _evidence.write(str(tmp_path / "spool"), "web01", document, 10)
    with gzip.open(path) as stream:
        assert json.load(stream) == document
    assert _evidence.read(path) == document
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
    assert stat.S_IMODE(os.stat(os.path.dirname(path)).st_mode) == 0o700
    assert stat.S_IMODE(os.stat(tmp_path / "spool").st_mode) == 0o700


def test_the_newest_ones_are_kept_in_order_also_when_the_clock_goes_back(tmp_path, monkeypatch):
    paths = [_evidence.write(str(tmp_path), "web01", fresh([]), 3) for _run in range(3)]
    future = os.path.join(os.path.dirname(paths[0]), "29991231T235959.999998Z.json.gz")
    os.rename(paths[2], future)
    newest = _evidence.write(str(tmp_path), "web01", fresh(kills(1)), 3)
    assert _evidence.documents(str(tmp_path), "web01") == [newest, future, paths[1]]
    assert next(_evidence.known(str(tmp_path), "web01"))["events"]


def test_a_run_that_was_killed_leaves_no_document_and_is_swept_up_later(tmp_path):
    path = _evidence.write(str(tmp_path), "web01", fresh([]), 3)
    directory = os.path.dirname(path)
    for name, age in ((".tmp-old", 7200), (".tmp-young", 0)):
        with open(os.path.join(directory, name), "wb"):
            pass
        when = os.stat(path).st_mtime - age
        os.utime(os.path.join(directory, name), (when, when))
    _evidence.write(str(tmp_path), "web01", fresh([]), 3)
    assert not os.path.exists(os.path.join(directory, ".tmp-old"))
    assert os.path.exists(os.path.join(directory, ".tmp-young"))
    assert len(_evidence.documents(str(tmp_path), "web01")) == 2


def test_a_write_that_fails_leaves_nothing_behind(tmp_path):
    def pieces():
        yield b"half"
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        _evidence.atomically(str(tmp_path / "file"), pieces())
    assert os.listdir(tmp_path) == []


def test_a_spool_that_cannot_be_written_is_one_sentence_and_what_to_do(tmp_path):
    (tmp_path / "spool").write_text("a file")
    with pytest.raises(_evidence.SpoolError) as refused:
        _evidence.write(str(tmp_path / "spool"), "web01", fresh([]), 3)
    assert "web01" in str(refused.value)
    assert "choose another spool" in str(refused.value)


GOOD = gzip.compress(json.dumps(fresh([])).encode())


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "cut off"),
        (b"no gzip", "not gzip data"),
        (GOOD[:-20], "cut off"),
        (GOOD[:-2], "cut off"),
        (GOOD[:40] + b"\xff\xff" + GOOD[42:], ""),
        (gzip.compress(b"{"), "not JSON"),
        (gzip.compress(b"[" * 100000), "not JSON"),
        (gzip.compress(b"\xff"), "not JSON"),
        (gzip.compress(b"[]"), "schema"),
        (gzip.compress(b'{"schema":"other"}'), "schema"),
        (gzip.compress(b'{"schema":"oom.forensics/evidence/1"}'), "has no valid"),
    ],
)
def test_what_is_no_document_is_one_sentence(data, says, tmp_path):
    path = tmp_path / "x.json.gz"
    path.write_bytes(data)
    with pytest.raises(_evidence.SpoolError) as refused:
        _evidence.read(str(path))
    assert str(path) in str(refused.value)
    assert says in str(refused.value)


def test_a_bomb_is_refused_before_it_explodes(monkeypatch):
    monkeypatch.setattr(_evidence, "MAX_BYTES", 10**6)
    with pytest.raises(_evidence.SpoolError) as refused:
        _evidence.unpack(gzip.compress(b" " * 10**8), "the file")
    assert "more than 1000000 bytes" in str(refused.value)


def test_a_history_that_outgrows_a_document_loses_its_oldest_kills(tmp_path, monkeypatch):
    document = fresh(kills(*range(1, 40)))
    monkeypatch.setattr(_evidence, "MAX_BYTES", len(json.dumps(document)) // 2)
    written = _evidence.read(_evidence.write(str(tmp_path), "web01", document, 1))
    assert 0 < len(written["events"]) < 39
    assert written["events"][-1]["id"] == document["events"][-1]["id"]
    assert written["coverage"]["truncated"] is True
    assert written["coverage"]["events_returned"] == len(written["events"])


def test_an_unreadable_document_is_passed_over_for_an_older_one(tmp_path):
    _evidence.write(str(tmp_path), "web01", fresh(kills(1)), 5)
    path = _evidence.write(str(tmp_path), "web01", fresh(kills(2)), 5)
    with open(path, "wb") as stream:
        stream.write(b"damaged")
    (document,) = _evidence.known(str(tmp_path), "web01")
    assert document["events"][0]["victims"][0]["pid"] == 1001


# --- merging


def test_the_newest_document_has_everything_and_each_kill_once():
    first, new = _evidence.merged(fresh(kills(10, 20)), None)
    assert new == 2
    assert "cursor_used" not in first
    second, new = _evidence.merged(fresh(kills(20, 30)), first)
    assert new == 1
    assert [event["victims"][0]["pid"] for event in second["events"]] == [1010, 1020, 1030]
    again, new = _evidence.merged(fresh(kills(20, 30)), second)
    assert new == 0
    assert again["events"] == second["events"]


def test_kills_of_earlier_runs_count_against_the_kernel_counter():
    first, _new = _evidence.merged(fresh(kills(10, 20), counter=3), None)
    assert first["coverage"]["kills_unlogged"] == 1
    second, _new = _evidence.merged(fresh(kills(30), counter=4, cursor_used=True), first)
    assert (second["coverage"]["kills_parsed"], second["coverage"]["kills_unlogged"]) == (3, 1)
    assert second["coverage"]["events_total"] == 3


def test_what_a_part_of_the_boot_cannot_tell_stays_unknown():
    """The host says null where only a part of the boot was asked for; only a cursor without a gap makes it whole."""
    whole, _new = _evidence.merged(fresh(kills(10), counter=2), None)
    on = fresh(kills(20), counter=3, cursor_used=True, kills_unlogged=None)
    assert _evidence.merged(on, whole)[0]["coverage"]["kills_unlogged"] == 1
    assert _evidence.merged(on, None)[0]["coverage"]["kills_unlogged"] is None
    part = fresh(kills(20), counter=3, cursor_used=True, kills_unlogged=None)
    part["request"]["since"] = "-1h"
    assert _evidence.merged(part, whole)[0]["coverage"]["kills_unlogged"] is None
    after_part = fresh([], counter=3, cursor_used=True, kills_unlogged=None)
    assert _evidence.merged(after_part, _evidence.merged(part, None)[0])[0]["coverage"]["kills_unlogged"] is None
    rebooted = fresh(kills(5), counter=1, cursor_used=True, kills_unlogged=None)
    before, _new = _evidence.merged(fresh([], boot_id="f" * 32, kills_unlogged=None), None)
    assert _evidence.merged(rebooted, before)[0]["coverage"]["kills_unlogged"] == 0


def test_the_boot_is_the_same_with_and_without_dashes():
    dashed = "01234567-89ab-cdef-0123-456789abcdef"
    first, _new = _evidence.merged(fresh(kills(10), counter=2), None)
    second, _new = _evidence.merged(fresh(kills(20), counter=2, boot_id=dashed), first)
    assert second["coverage"]["kills_unlogged"] == 0


def test_kills_of_another_boot_do_not_count():
    first, _new = _evidence.merged(fresh(kills(10, 20)), None)
    second, _new = _evidence.merged(fresh([], counter=1, boot_id="f" * 32), first)
    assert (second["coverage"]["kills_parsed"], second["coverage"]["kills_unlogged"]) == (0, 1)


def test_kills_that_the_host_saw_and_cut_off_count():
    document, _new = _evidence.merged(
        fresh(kills(20), counter=40, kills_parsed=40, truncated=True, events_total=40), None
    )
    assert (document["coverage"]["kills_unlogged"], document["coverage"]["events_total"]) == (0, 40)


def test_a_counter_that_is_unknown_stays_unknown():
    document, _new = _evidence.merged(fresh(kills(20), kernel_counter=None, boot_id=None, kills_parsed=None), None)
    assert document["coverage"]["kills_unlogged"] is None


MORNING, NOON, EVENING = ("2026-11-22T0%d:00:00.000000Z" % hour for hour in (1, 2, 3))


@pytest.mark.parametrize(
    ("name", "cursor_used", "first", "last", "expected"),
    [
        ("journal", True, NOON, EVENING, (MORNING, EVENING)),  # read on from the cursor: nothing lies between
        ("journal", True, None, None, (MORNING, MORNING)),  # nothing new
        ("journal", False, NOON, EVENING, (NOON, EVENING)),  # vacuumed since: between the two there is a gap
        ("kmsg", True, NOON, EVENING, (NOON, EVENING)),  # the cursor is the journal's
        ("kmsg", False, MORNING, EVENING, (MORNING, EVENING)),  # they touch
    ],
)
def test_a_source_reaches_back_as_far_as_it_was_read_without_a_gap(name, cursor_used, first, last, expected):
    before, _new = _evidence.merged(fresh([], sources=[source(name, MORNING, MORNING)]), None)
    after, _new = _evidence.merged(fresh([], cursor_used=cursor_used, sources=[source(name, first, last)]), before)
    (row,) = after["coverage"]["sources"]
    assert (row["first_time"], row["last_time"]) == expected


def test_with_since_what_lies_before_it_was_not_read():
    before, _new = _evidence.merged(fresh([], sources=[source("journal", MORNING, MORNING)]), None)
    now = fresh([], cursor_used=True, sources=[source("journal", NOON, EVENING)])
    now["request"]["since"] = "-1h"
    after, _new = _evidence.merged(now, before)
    assert after["coverage"]["sources"][0]["first_time"] == NOON


def test_a_source_that_is_gone_covers_nothing():
    before, _new = _evidence.merged(fresh([], sources=[source("kmsg", MORNING, NOON)]), None)
    after, _new = _evidence.merged(fresh([], sources=[source("kmsg", None, None, available=False)]), before)
    assert after["coverage"]["sources"][0]["first_time"] is None


def test_a_journal_with_nothing_new_keeps_its_cursor():
    before, _new = _evidence.merged(fresh([]), None)
    after, _new = _evidence.merged(fresh([], cursor_used=True, journal_cursor=None), before)
    assert after["coverage"]["journal_cursor"] == "s=1"


# --- machines, cursors, failures


def test_a_reinstalled_machine_begins_anew_and_the_old_one_is_found_again(tmp_path):
    _evidence.write(str(tmp_path), "web01", fresh(kills(1)), 5)
    _evidence.write(str(tmp_path), "web01", fresh(kills(2), machine="other"), 5)
    assert _evidence.of_machine(str(tmp_path), "web01", "third") is None
    assert _evidence.of_machine(str(tmp_path), "web01", MACHINE)["events"][0]["victims"][0]["pid"] == 1001
    assert _evidence.of_machine(str(tmp_path), "web01", None)["events"][0]["victims"][0]["pid"] == 1002


@pytest.mark.parametrize(
    ("asked_before", "asked_now", "used"),
    [
        ({}, {}, True),
        ({"since": "-2h"}, {"since": "-2h"}, True),
        ({}, {"since": "-2h"}, True),
        ({"since": "-2h"}, {}, False),
        ({"since": "-1h"}, {"since": "-2h"}, False),
        ({"until": "-1h"}, {"until": "-1h"}, False),
        ({"boots": "current"}, {"boots": "all"}, False),
        ({"sources": ["kmsg"]}, {"sources": ["auto"]}, False),
        ({"journal_directory": "/a"}, {"journal_directory": "/b"}, False),
        ({"max_tasks": 5}, {"max_tasks": 20}, False),
        ({"max_tasks": 50}, {"max_tasks": 20}, True),
        ({"raw": False}, {"raw": True}, False),
        ({"raw": True}, {"raw": False}, True),
    ],
)
def test_a_cursor_is_used_only_if_the_earlier_run_asked_for_no_less(asked_before, asked_now, used):
    document, _new = _evidence.merged(fresh([]), None)
    document["request"].update(asked_before)
    assert _evidence.usable_cursor(document, dict(REQUEST, **asked_now)) == ("s=1" if used else None)


@pytest.mark.parametrize(("most", "used"), [(1000, True), (2000, False)])
def test_after_a_cut_more_events_need_a_full_read(most, used):
    document, _new = _evidence.merged(fresh([], truncated=True), None)
    assert bool(_evidence.usable_cursor(document, dict(REQUEST, max_events=most))) is used


def test_without_earlier_evidence_there_is_no_cursor():
    assert _evidence.usable_cursor(None, REQUEST) is None
    assert _evidence.usable_cursor(_evidence.not_read("web01", "unreachable", "why", None), REQUEST) is None


def test_a_host_that_was_not_read_keeps_what_was_known():
    before, _new = _evidence.merged(fresh(kills(1)), None)
    document = _evidence.not_read("web01", "unreachable", "no route", before)
    assert (document["status"], document["error"]) == ("unreachable", "no route")
    for key in ("events", "coverage", "host", "collected_at", "request"):
        assert document[key] == before[key]
    assert _evidence.usable_cursor(document, REQUEST) == "s=1"


def test_a_host_that_was_never_read_has_every_key():
    document = _evidence.not_read("web01", "failed", "why", None)
    assert set(document) == set(_evidence.merged(fresh([]), None)[0])
    assert set(document["host"]) == set(_evidence.HOST_KEYS)
    assert document["host"]["inventory_name"] == "web01"
    assert document["events"] == []
