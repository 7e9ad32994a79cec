# Copyright (c) 2026 oom.forensics contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What other programs log of kills, read from real journals and from syslog files."""

import gzip
import os
import pathlib
import shutil
import subprocess

import pytest
from ansible_collections.oom.forensics.plugins.module_utils._host import collect, companions, coverage, run
from ansible_collections.oom.forensics.plugins.module_utils._oom import context
from ansible_collections.oom.forensics.plugins.module_utils._oom.merging import merge

REMOTE = "/lib/systemd/systemd-journal-remote"
FIXTURES = pathlib.Path(__file__).resolve().parents[4] / "fixtures" / "companions"
CONTAINERS = {
    "swap": "docker-8209d3b46f3ace9b5ab8b8249045075eb95affc7e0d2eb3ef398cfd1ff38df5b.scope",
    "pressure": "docker-2fead8193835f23ef7473040e6ab173e4772e8c2c785d263d53306dfc8373d85.scope",
}
# The guest's ground truth (tests/fixtures/companions/README.md), in the order of time.
TRUTH = [
    ("systemd-oomd", CONTAINERS["swap"], []),
    ("systemd-oomd", "lab-pressed.service", []),
    ("systemd-oomd", "oomd-pressed.service", []),
    ("earlyoom", None, [(3440, "early-term")]),
    ("earlyoom", None, [(3470, "early-kill")]),
    ("earlyoom", None, [(3543, "early-x) (1")]),
    ("nohang", "nohang-term.service", [(3634, "nohang-term")]),
    ("systemd-oomd", CONTAINERS["pressure"], []),
    ("systemd-oomd", "oomd-swap2.service", []),
    ("nohang", "nohang-kill.service", [(3833, "nohang-kill")]),
]


def build(folder, export):
    if shutil.which("journalctl") is None or not os.path.exists(REMOTE):
        pytest.skip("journalctl and {0} (systemd-journal-remote) make and read these journals".format(REMOTE))
    folder.mkdir(exist_ok=True)
    command = [REMOTE, "--output", str(folder / "system.journal"), "-"]
    subprocess.run(command, input=export, stderr=subprocess.DEVNULL, check=True)
    return str(folder)


@pytest.fixture(scope="module")
def killed(tmp_path_factory):
    export = forged() + (FIXTURES / "killers.export").read_bytes()
    return build(tmp_path_factory.mktemp("killers"), export)


@pytest.fixture(scope="module")
def engines(tmp_path_factory):
    return build(tmp_path_factory.mktemp("engines"), (FIXTURES / "engines.export").read_bytes())


AT = 1795438930000000
EARLYOOM = 'sending SIGKILL to process 1 uid 0 "init": badness 999, VmRSS 9 MiB'
UNIT_OOM = "sshd.service: A process of this unit has been killed by the OOM killer."
FORGERIES = (
    # logger -t earlyoom; a user's program named so; what a container prints
    {"SYSLOG_IDENTIFIER": "earlyoom", "_COMM": "logger", "_UID": "1000", "MESSAGE": EARLYOOM},
    {"SYSLOG_IDENTIFIER": "earlyoom", "_COMM": "earlyoom", "_UID": "1000", "MESSAGE": EARLYOOM},
    {
        "SYSLOG_IDENTIFIER": "dockerd",
        "_COMM": "dockerd",
        "_UID": "0",
        "_SYSTEMD_UNIT": "docker.service",
        "CONTAINER_NAME": "evil",
        "MESSAGE": "container=" + "0" * 64 + ' exitStatus="{137 x',
    },
    # logger with systemd's own fields, as a user and as root
    {
        "SYSLOG_IDENTIFIER": "systemd",
        "_COMM": "logger",
        "_UID": "1000",
        "UNIT": "sshd.service",
        "MESSAGE_ID": "fe6faa94e7774663a0da52717891d8ef",
        "MESSAGE": UNIT_OOM,
    },
    {
        "SYSLOG_IDENTIFIER": "systemd",
        "_COMM": "logger",
        "_UID": "0",
        "_PID": "77",
        "MESSAGE_ID": "d989611b15e44c9dbf31e3c81256e4ed",
        "MESSAGE": "sshd.service: systemd-oomd killed 1 process(es) in this unit.",
    },
)


def exported(fields, usec=AT):
    head = {"__REALTIME_TIMESTAMP": str(usec), "__MONOTONIC_TIMESTAMP": "900000000", "_TRANSPORT": "syslog"}
    head["_BOOT_ID"] = "654be22d92c74d0facdf060843700ea7"
    lines = ["{0}={1}\n".format(name, value) for name, value in list(head.items()) + list(fields.items())]
    return ("".join(lines) + "\n").encode()


def forged():
    return b"".join(exported(dict({"_PID": "4711"}, **fields), AT + place) for place, fields in enumerate(FORGERIES))


def brief(events):
    return [
        (each["killer"], each["workload"]["unit"], [(one["pid"], one["comm"]) for one in each["victims"]])
        for each in events
    ]


def in_order(events):
    return sorted(events, key=lambda each: each["time"])


# --- the journal ----------------------------------------------------------------------------------------------------


def test_every_kill_of_the_guest_and_no_forged_one(killed):
    found = companions.read(run.Host(), journal_directory=killed)
    assert brief(in_order(found.events)) == TRUTH
    assert {each["outcome"] for each in found.events} == {"killed"}
    assert not any("sshd" in (one.unit or "") or one.container_id for one in found.facts)
    assert [each["error"] for each in found.rows] == [None]
    assert found.rows[0]["available"] is True
    assert set(found.rows[0]) == set(coverage.row("journal", None))


def test_systemds_lines_join_the_kills(killed):
    found = companions.read(run.Host(), journal_directory=killed)
    by_unit = {each["workload"]["unit"]: each for each in context.join(merge(found.events), found.facts)}
    said = [(one["source"], one["message"]) for one in by_unit["oomd-pressed.service"]["context"]]
    assert said[0][1].startswith("Killed /lab.slice/lab-oomdp.slice/oomd-pressed.service due to memory pressure for ")
    assert said[1:] == [
        ("systemd", "oomd-pressed.service: systemd-oomd killed 1 process(es) in this unit."),
        ("systemd", "oomd-pressed.service: Main process exited, code=killed, status=9/KILL"),
        ("systemd", "oomd-pressed.service: Failed with result 'oom-kill'."),
    ]


def test_engines_lines_join_the_kernels_kills(engines):
    """Every line of systemd, containerd and Podman belongs to one kill, and each kill has one of systemd."""
    kernel = collect.collect_events(run.Host(), sources=["journal"], journal_directory=engines)["events"]
    found = companions.read(run.Host(), journal_directory=engines)
    assert found.events == []
    events = context.join(kernel, found.facts)
    assert sum(len(each["context"]) for each in events) == len(found.facts) == 25
    sources = [sorted({one["source"] for one in each["context"]}) for each in events]
    assert sources.count(["podman", "systemd"]) == 2
    assert sources.count(["containerd", "systemd"]) == 1
    without = [each["victim_cgroup"] for each in events if not each["context"]]
    assert without == ["/lxc.payload.lxmini"]  # no unit of systemd


def test_only_what_is_asked_for(killed):
    moments = [each.time for each in companions.read(run.Host(), journal_directory=killed).facts]
    middle = 1795439092.0  # before the first kill by earlyoom
    later = companions.read(run.Host(), since=middle, journal_directory=killed)
    assert brief(in_order(later.events)) == TRUTH[3:]
    assert all(one.time >= middle for one in later.facts) and len(later.facts) < len(moments)
    earlier = companions.read(run.Host(), until=middle - 65, journal_directory=killed)
    assert brief(in_order(earlier.events)) == TRUTH[:3]


def test_behind_a_cursor(killed):
    everything = companions.read(run.Host(), journal_directory=killed)
    last = in_order(everything.events)[6]["origins"][0]["last"]
    found = companions.read(run.Host(), cursor=last, journal_directory=killed)
    assert brief(in_order(found.events)) == TRUTH[7:]
    # journalctl takes one of cursor and time: the later
    both = companions.read(run.Host(), cursor=last, since=1795438900.0, journal_directory=killed)
    assert brief(in_order(both.events)) == TRUTH[7:]
    both = companions.read(run.Host(), cursor=last, since=1795439364.0, journal_directory=killed)
    assert brief(in_order(both.events)) == TRUTH[9:]


def test_the_running_boot_alone(killed, monkeypatch):
    for boot, expected in (("654be22d92c74d0facdf060843700ea7", TRUTH), ("0" * 32, [])):
        monkeypatch.setattr(companions.counters, "boot_id", lambda _host, boot=boot: boot)
        found = companions.read(run.Host(), current_boot=True, journal_directory=killed)
        assert brief(in_order(found.events)) == expected


def test_bounded(killed):
    found = companions.read(run.Host(), journal_directory=killed, max_events=2, max_facts=3)
    assert brief(in_order(found.events)) == TRUTH[-2:]
    assert len(found.facts) == 3


def without_search(argv):
    """This journalctl as one that cannot search answers (words of a build without PCRE2; not observed here)."""
    if any(word.startswith("--grep") for word in argv):
        return run.Running(iter(()), lambda: run.Ended(1, "Compiled without pattern matching support\n"))
    return run.popen(argv)


def test_a_journalctl_that_cannot_search(killed):
    found = companions.read(run.Host(stream=without_search), journal_directory=killed)
    assert brief(in_order(found.events)) == TRUTH
    assert len(found.rows) == 1 and found.rows[0]["error"] is None


def test_a_journal_that_is_not_there_or_is_broken(tmp_path):
    (tmp_path / "system.journal").write_bytes(b"LPKSHHRH" + b"\0" * 300)
    for place in (tmp_path, tmp_path / "none"):
        found = companions.read(run.Host(), journal_directory=str(place))
        assert (found.events, found.facts, len(found.rows)) == ([], [], 1)
        assert found.rows[0]["error"]


def test_what_journalctl_prints_may_be_anything():
    lines = (
        b'{"MESSAGE":1}\n[1]\nnot json\n\n{"_PID":"1","MESSAGE":"' + b"x" * 3000000 + b'"}\n\xff\xfe\n' + b"[" * 100000
    )
    host = run.Host(
        stream=lambda argv: run.Running(iter([lines[:7], lines[7:]]), lambda: run.Ended(0, "")),
        which=lambda name: "/bin/" + name,
    )
    found = companions.read(host, journal_directory="/anywhere")
    assert (found.events, found.facts, found.rows[0]["error"]) == ([], [], None)


def test_a_journal_that_this_user_may_not_read():
    said = "Hint: You are currently not seeing messages from other users and the system.\n"
    host = run.Host(
        stream=lambda argv: run.Running(iter([]), lambda: run.Ended(1, said)), which=lambda name: "/bin/" + name
    )
    found = companions.read(host, journal_directory="/anywhere")
    assert "may not" in found.rows[0]["error"] and found.rows[0]["available"] is False


def test_names_that_cut_a_line_in_two(tmp_path):
    """Standard output is logged by line: `--grep` must let both halves through."""
    earlyoom = {"_COMM": "earlyoom", "_SYSTEMD_UNIT": "earlyoom.service", "_PID": "5"}
    nohang = {"_COMM": "nohang", "_SYSTEMD_UNIT": "nohang.service", "_PID": "6"}
    said = [(earlyoom, 'sending SIGTERM to process 8 uid 0 "a'), (earlyoom, 'b": badness 1, VmRSS 3 MiB')]
    said += [(nohang, "Process with highest badness (found in 6ms):"), (nohang, "  PID: 9, name: c")]
    said += [(nohang, "d, badness: 7"), (nohang, "  Sending SIGTERM to the victim")]
    export = b"".join(exported(dict(who, MESSAGE=text), AT + place) for place, (who, text) in enumerate(said))
    found = companions.read(run.Host(), journal_directory=build(tmp_path, export))
    assert brief(in_order(found.events)) == [("earlyoom", None, [(8, "a\nb")]), ("nohang", None, [(9, "c\nd")])]


# --- syslog files ---------------------------------------------------------------------------------------------------

NOWHERE = {"which": lambda name: None}


def lines_of_syslog():
    return (FIXTURES / "killers.syslog").read_bytes()


def placed(root, name, data, modified=1795439400):
    path = root / "var" / "log" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    os.utime(str(path), (modified, modified))
    return path


@pytest.mark.parametrize("name", ["syslog", "messages", "daemon.log", "daemon.log.1.gz"])
def test_syslog_where_there_is_no_journal(tmp_path, name):
    noise = b"Nov 23 13:00:00 oomlab kernel: [    1.000000] usb 1-1: new device\n" * 20000
    placed(tmp_path, name, noise + lines_of_syslog() + noise)
    found = companions.read(run.Host(root=str(tmp_path), **NOWHERE))
    assert brief(in_order(found.events)) == TRUTH
    assert {each["time_source"] for each in found.events} == {"syslog"}
    assert {each["origins"][0]["path"] for each in found.events} == {"/var/log/" + name}
    assert [(each["path"], each["available"]) for each in found.rows] == [
        ("journal", False),
        ("/var/log/" + name, True),
    ]
    assert found.rows[1]["records"] == 40000 + lines_of_syslog().count(b"\n")


def test_the_journal_and_syslog_have_the_same_kills(killed, tmp_path):
    placed(tmp_path, "syslog", lines_of_syslog())
    one = companions.read(run.Host(), journal_directory=killed)
    other = companions.read(run.Host(root=str(tmp_path), **NOWHERE))
    assert {each["id"] for each in one.events} == {each["id"] for each in other.events}
    merged = merge(one.events + other.events)
    assert brief(merged) == TRUTH
    assert all(len(each["origins"]) == 2 for each in merged)


def test_named_files_only(tmp_path):
    path = placed(tmp_path, "any-name", lines_of_syslog())
    found = companions.read(run.Host(), log_paths=[str(path), str(tmp_path / "none")])
    assert brief(in_order(found.events)) == TRUTH
    assert [bool(each["error"]) for each in found.rows] == [True, False]


def test_a_host_with_nothing(tmp_path):
    found = companions.read(run.Host(root=str(tmp_path), **NOWHERE))
    assert (found.events, found.facts) == ([], [])
    assert "no log file of a syslog daemon" in found.rows[1]["error"]


def test_all_of_it_is_in_what_a_host_is_asked_for(killed, engines):
    found = collect.collect_events(run.Host(), journal_directory=killed, sources=["journal"])
    by_user_space = [event for event in found["events"] if event["killer"] != "kernel"]
    assert brief(by_user_space) == TRUTH
    assert [row["source"] for row in found["coverage"]["companions"]] == ["companions"]
    assert "companions" not in [row["source"] for row in found["coverage"]["sources"]]
    found = collect.collect_events(run.Host(), journal_directory=engines, sources=["journal"])
    said = {event["victims"][0]["comm"]: {each["source"] for each in event["context"]} for event in found["events"]}
    assert said["victim-child"] == {"systemd"}
    assert (
        collect.collect_events(run.Host(), journal_directory=engines, sources=["kmsg"])["coverage"]["companions"] == []
    )
