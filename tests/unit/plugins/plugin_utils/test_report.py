# Copyright (c) 2026 oom.forensics contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The table and events.json: what a reader sees of a fleet, and what a hostile name cannot do to a terminal."""

import json
import os
import stat

import pytest
from ansible_collections.oom.forensics.plugins.module_utils._oom import events as oom
from ansible_collections.oom.forensics.plugins.plugin_utils import _evidence, _report, _terminal

LOG = """\
[  100.000001] web invoked oom-killer: gfp_mask=0xcc0(GFP_KERNEL), order=0, oom_score_adj=0
[  100.000002] memory: usage 8192kB, limit 8192kB, failcnt 42
[  100.000003] oom-kill:constraint=CONSTRAINT_MEMCG,nodemask=(null),cpuset=/,mems_allowed=0,oom_memcg=LIMIT,\
task_memcg=VICTIM,task=COMM,pid=4242,uid=1000
[  100.000004] Memory cgroup out of memory: Killed process 4242 (COMM) total-vm:8192kB, anon-rss:7168kB, \
file-rss:1024kB, shmem-rss:512kB, UID:1000 pgtables:48kB oom_score_adj:0
"""
DOCKER = "/docker/" + "4f1c2a" * 10 + "abcd"
NOW = "2999-01-01T00:00:00.000000Z"  # never stale
FIRST, MIDDLE, LAST = ("2026-11-%02dT10:00:00.000000Z" % day for day in (1, 10, 20))


def event(comm="web", limit=DOCKER, victim=DOCKER, boot_time=1.79e9, **changed):
    text = LOG.replace("COMM", comm).replace("LIMIT", limit).replace("VICTIM", victim)
    (found,) = oom.parse([text.encode("utf-8", "surrogateescape")], oom.Context(boot_time=boot_time))
    return dict(found, **changed)


def source(name="journal", first=FIRST, last=LAST, available=True):
    return {"source": name, "path": None, "available": available, "first_time": first, "last_time": last, "error": None}


def coverage(**changed):
    known = {"sources": [source()], "kernel_counter": 0, "kills_unlogged": 0, "advice": [], "truncated": False}
    return dict(known, **changed)


def entry(host="web01", status="ok", events=(), **changed):
    known = {"inventory_name": host, "status": status, "error": None, "collected_at": NOW, "kernel": "6.1"}
    return dict(known, coverage=changed.pop("coverage", coverage()), events=list(events), **changed)


def table(*entries, width=120, max_rows=50):
    made = _report.Table(max_rows)
    for one in entries:
        made.add(one)
    return made.lines(width)


def row(**changed):
    return _report.event_row("web01", event(**changed))


# --- a kill


def test_a_row_has_everything_of_the_kill():
    assert row() == _report.Row(
        host="web01",
        time="2026-09-21 14:15:00",
        victim="web[4242]",
        workload="docker 4f1c2a4f1c2a",
        limit="8 MiB own",
        memory="8.5 MiB",
        note="partial report",
    )


@pytest.mark.parametrize(
    ("changed", "limit"),
    [
        ({}, "8 MiB own"),
        ({"limit": "/system.slice", "victim": "/system.slice/web.service"}, "8 MiB of system.slice"),
        ({"scope": "host", "limit_level": "host"}, "host"),
        ({"scope": "cpuset", "limit_level": "host"}, "host (cpuset)"),
        ({"scope": "unknown", "limit_level": None}, "?"),
        ({"memory": {"usage_bytes": None, "limit_bytes": None, "failcnt": None}}, "? own"),
    ],
)
def test_whose_limit(changed, limit):
    assert row(**changed).limit == limit


POD = "/kubepods.slice/kubepods-pod0a1b2c3d_1111_2222_3333_444455556666.slice"


@pytest.mark.parametrize(
    ("cgroup", "workload"),
    [
        (DOCKER, "docker 4f1c2a4f1c2a"),
        (POD + "/cri-containerd-" + "ab12" * 16 + ".scope", "pod guaranteed 0a1b2c3d/ab12ab12ab12"),
        (POD, "pod guaranteed 0a1b2c3d"),
        ("/system.slice/web.service", "web.service"),
        (DOCKER + "/system.slice/web.service", "web.service in docker 4f1c2a4f1c2a"),
        ("/user.slice/user-1000.slice/session-3.scope", "session-3.scope uid 1000"),
        ("/system.slice", "system.slice"),
        ("/lxc.payload.web", "lxc web"),
        ("/slurm/uid_1000/job_55/step_0", "slurm 55 step_0"),
        ("/some/place", "/some/place"),
        ("/", "/"),
    ],
)
def test_who_was_killed(cgroup, workload):
    assert row(victim=cgroup, limit=cgroup).workload == workload


@pytest.mark.parametrize(
    ("changed", "note"),
    [
        ({"outcome": "no_victim", "victims": []}, "no victim"),
        ({"outcome": "panic"}, "kernel panic"),
        ({"group_kill": True}, "group of 1"),
        ({"completeness": {"complete": True}}, ""),
        ({"completeness": {"complete": False}}, "partial report"),
    ],
)
def test_notes(changed, note):
    changed = dict({"completeness": {"complete": True}}, **changed)
    assert row(**changed).note == note


def test_without_a_victim_there_is_no_name_and_no_memory():
    found = row(outcome="no_victim", victims=[])
    assert (found.victim, found.memory) == ("-", "-")


@pytest.mark.parametrize(("usec", "shown"), [(100000001, "boot +100.000 s"), (None, "-")])
def test_a_kill_without_wall_time(usec, shown):
    assert row(time=None, monotonic_usec=usec).time == shown


def test_the_newest_kill_is_last_and_the_older_ones_are_counted():
    kills = [event(comm=f"c{hour}", boot_time=1.79e9 + 3600 * hour) for hour in range(10)]
    lines = table(entry(events=kills[:5]), entry("web02", events=kills[5:]), max_rows=3)
    assert lines[0] == "(7 older kills are not shown; events.json has all of them)"
    assert [line.split()[3].split("[")[0] for line in lines[2:5]] == ["c7", "c8", "c9"]
    assert "10 OOM kills on 2 of 2 hosts." in lines


def test_unlogged_kills_stand_at_the_newest_kill_and_in_the_summary():
    kills = [event(comm="old"), event(comm="new", boot_time=1.79e9 + 60)]
    lines = table(entry(events=kills, coverage=coverage(kernel_counter=5, kills_unlogged=3)))
    assert [line for line in lines if "+3 unlogged" in line and "new[" in line]
    assert not [line for line in lines if "+3 unlogged" in line and "old[" in line]
    assert any("3 kills counted by a kernel but in no log" in line for line in lines)


# --- a host without kills, a host not read


def test_no_kill_comes_with_proof():
    assert table(entry())[0] == "web01  no OOM kill in 2026-11-01 10:00..2026-11-20 10:00; kernel counter 0."


def test_a_counter_that_is_not_zero_is_no_proof():
    text = " ".join(table(entry(coverage=coverage(kernel_counter=2, kills_unlogged=2))))
    assert "kernel counter 2: 2 kills since boot left no line in any log" in text


@pytest.mark.parametrize(
    ("sources", "window"),
    [
        ([source()], "2026-11-01 10:00..2026-11-20 10:00"),
        ([source("journal", FIRST, MIDDLE), source("kmsg", MIDDLE, LAST)], "2026-11-01 10:00..2026-11-20 10:00"),
        # Between the two lies a gap: only the later one counts.
        ([source("journal", FIRST, FIRST), source("kmsg", MIDDLE, LAST)], "2026-11-10 10:00..2026-11-20 10:00"),
        ([source("journal", None, None), source("kmsg", MIDDLE, LAST)], "2026-11-10 10:00..2026-11-20 10:00"),
    ],
)
def test_the_window_has_no_gap(sources, window):
    assert window in table(entry(coverage=coverage(sources=sources)))[0]


def test_old_evidence_says_so():
    assert "(as of 2026-11-01 10:00)" in table(entry(collected_at=FIRST))[0]


def test_a_host_where_nothing_could_be_read_is_not_a_host_without_kills():
    blind = coverage(sources=[source(available=False, first=None, last=None)], kernel_counter=7, advice=["Use become."])
    lines = table(entry(coverage=blind))
    text = " ".join(" ".join(lines).split())
    assert "web01 UNREADABLE: no log could be read" in text
    assert "kernel counted 7" in text
    assert "Use become." in text
    assert "0 OOM kills on 0 of 1 host; 1 host not read." in text


def test_advice_is_shown_in_full_beside_kills_and_beside_none():
    advice = "Add the user to the group systemd-journal: " + "word " * 60 + "end."
    for events in ([], [event()]):
        text = " ".join(" ".join(table(entry(events=events, coverage=coverage(advice=[advice])), width=60)).split())
        assert " ".join(advice.split()) in text


def test_an_unreachable_host_says_what_to_do_and_what_was_known():
    known = entry(status="unreachable", error="no route to host", events=[event()], collected_at=FIRST)
    text = " ".join(" ".join(table(known)).split())
    assert "UNREACHABLE: no route to host. Check it with: ansible -m ansible.builtin.ping 'web01'" in text
    assert "Known from 2026-11-01 10:00: 1 OOM kill." in text
    assert "web[4242]" in text
    assert "1 host not read" in text


def test_a_host_without_evidence_and_one_with_damaged_evidence_are_rows(tmp_path):
    path = _evidence.write(str(tmp_path), "bad", _evidence.not_read("bad", "failed", "x", None), 1)
    with open(path, "wb") as stream:
        stream.write(b"damaged")
    lines = table(*_report.entries(str(tmp_path), ["bad", "none"]))
    text = " ".join(" ".join(lines).split())
    assert "UNREADABLE" in text
    assert path in text
    assert "MISSING: There is no evidence of this host" in text


def test_many_quiet_hosts_are_counted_and_hosts_not_read_are_all_there():
    quiet = [entry(f"quiet{number}") for number in range(100)]
    down = [entry(f"down{number}", status="unreachable", error="x") for number in range(100)]
    lines = table(*quiet, *down, max_rows=10)
    assert "(90 more hosts without OOM kills not shown)" in lines
    assert sum(line.startswith("down") for line in lines) == 100


# --- hostile text


@pytest.mark.parametrize(
    "comm",
    [
        "\x1b[2Jx",
        "a\rb",
        "a\tb",
        "a\x00b",
        "a\x9bb",
        "\u202egnp.exe",
        "\u2066x",
        "\u200bx",
        "\u2028x",
        "a\nb",
        "\x7f",
        "\udcff",
    ],
)
def test_nothing_reaches_the_terminal_as_a_control(comm):
    victim = dict(event()["victims"][0], comm=comm)
    lines = table(entry("h" + comm, events=[event(victims=[victim])]), entry("h2", status="failed", error="e" + comm))
    for line in lines:
        assert line.isprintable(), ascii(line)


def test_wide_and_combining_characters_keep_the_columns():
    names = ["plain", "日本語日本語", "e\u0301e\u0301", "ｗｉｄｅ"]
    kills = [event(victims=[dict(event()["victims"][0], comm=name)]) for name in names]
    lines = table(entry(events=kills))[:5]
    places = {_terminal.width_of(line[: line.index("docker")]) for line in lines[1:]}
    assert len(places) == 1


@pytest.mark.parametrize("width", [_report.LEAST_WIDTH, 79, 80, 120, 200])
def test_every_line_fits_the_terminal(width):
    long = "/kubepods.slice/" + "x" * 300 + "/" + "y" * 300
    victim = dict(event()["victims"][0], comm="日本語日本語日本")
    lines = table(
        entry("h" * 90, events=[event(limit=long, victim=long, victims=[victim])]),
        entry("q" * 90),
        entry("d" * 90, status="failed", error="e" * 500),
        width=width,
    )
    assert max(map(_terminal.width_of, lines)) <= width


@pytest.mark.parametrize(
    ("text", "width", "expected"),
    [
        ("one two three", 7, ["one two", "three"]),
        ("one", 3, ["one"]),
        ("abcdef", 4, ["abcd", "ef"]),
        ("a bcdefgh", 4, ["a", "bcde", "fgh"]),
        ("日本語", 4, ["日本", "語"]),
        ("", 5, []),
        ("  a   b ", 5, ["a b"]),
    ],
)
def test_wrapping(text, width, expected):
    assert _terminal.wrapped(text, width) == expected


@pytest.mark.parametrize(
    ("text", "width", "at_left", "expected"),
    [
        ("abcdef", 6, False, "abcdef"),
        ("abcdef", 5, False, "abcd…"),
        ("abcdef", 5, True, "…cdef"),
        ("日本語", 5, False, "日本…"),
        ("日本語", 4, False, "日…"),
    ],
)
def test_cutting(text, width, at_left, expected):
    assert _terminal.cut(text, width, at_left) == expected


# --- events.json


def test_events_json_is_one_document_with_every_host(tmp_path):
    hosts = [entry("web01", events=[event()]), entry("web02", status="unreachable", error="x", coverage=None)]
    path = tmp_path / "new" / "events.json"
    _report.write_json(str(path), iter(hosts))
    document = json.loads(path.read_text())
    assert document["schema"] == "oom.forensics/events/1"
    assert document["hosts"] == hosts
    assert document["generated_at"].endswith("Z")
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
    assert os.listdir(tmp_path / "new") == ["events.json"]


def test_without_hosts_it_is_still_a_document(tmp_path):
    _report.write_json(str(tmp_path / "events.json"), iter(()))
    assert json.loads((tmp_path / "events.json").read_text())["hosts"] == []


def test_it_replaces_its_own_kind_and_nothing_else(tmp_path):
    path = tmp_path / "events.json"
    _report.write_json(str(path), iter([entry()]))
    _report.write_json(str(path), iter(()))
    assert json.loads(path.read_text())["hosts"] == []
    path.write_text('{"my": "file"}')
    with pytest.raises(_evidence.SpoolError) as refused:
        _report.write_json(str(path), iter(()))
    assert "choose another events_path" in str(refused.value)
    assert path.read_text() == '{"my": "file"}'
