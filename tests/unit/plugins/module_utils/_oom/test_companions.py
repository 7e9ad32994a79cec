# Copyright (c) 2026 oom.forensics contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Lines of the killers and the engines: each wording a row with what it must give. Forged ones give nothing."""

import json
import time

import pytest
from ansible_collections.oom.forensics.plugins.module_utils._oom import (
    companions,
    context,
    events,
    killers,
    report,
    workload,
)
from ansible_collections.oom.forensics.plugins.module_utils._oom import events as oom
from ansible_collections.oom.forensics.plugins.module_utils._oom.merging import merge
from ansible_collections.oom.forensics.plugins.module_utils._oom.rows import Stamp
from ansible_collections.oom.forensics.plugins.module_utils._oom.times import Context

NOW = 1795438900000000
BOOT = "654be22d92c74d0facdf060843700ea7"
CID = "8209d3b46f3ace9b5ab8b8249045075eb95affc7e0d2eb3ef398cfd1ff38df5b"
KNOWN = Context(source="journal")


def said(program, text, seconds=0.0, boot=BOOT, uid=0, **more):
    stamp = Stamp(realtime_usec=NOW + int(seconds * 1000000), lag_usec=0, boot_id=boot)
    return companions.Said(program, text, stamp, uid, "7", **more)


def kills(program, *lines, **more):
    """The events of lines a second apart."""
    found = killers.Killers(KNOWN._replace(raw=bool(more.pop("raw", False))))
    for second, line in enumerate(lines):
        found.see(said(program, line, second, **more))
    return found.events()


def brief(event):
    victims = [(each["pid"], each["comm"], each["uid"], each["score"]) for each in event["victims"]]
    return event["outcome"], victims, event["victim_cgroup"], event["limit_cgroup"]


# --- killers --------------------------------------------------------------------------------------------------------

OOMD_PRESSURE = "due to memory pressure for /user.slice being 65.15% > 50.00% for > 20s with reclaim activity"
OOMD_SWAP = (
    "due to memory used (30112395264) / total (33382576128) and swap used (21352448000) / total (21352669184) "
    "being more than 90.00%"
)
SHELL = "/user.slice/user-1000.slice/user@1000.service/app.slice/app-shell.scope"
NOHANG = (
    ">>=== STARTING implement_corrective_action() ====>>",
    "Process with highest badness (found in 6ms):",
    "  PID: 12297, name: tail, badness: 727",
)
SENT = ("Implementing a corrective action:", "  Sending SIGTERM to the victim", "OK; total response time: 7ms")

WORDINGS = [
    # systemd-oomd 248 … 257, and newer
    ("systemd-oomd", ["Killed " + SHELL + " " + OOMD_PRESSURE], ("killed", [], SHELL, "/user.slice")),
    ("systemd-oomd", ["Killed /system.slice/a.service " + OOMD_SWAP], ("killed", [], "/system.slice/a.service", None)),
    ("systemd-oomd", ["Marked " + SHELL + " for killing " + OOMD_PRESSURE], ("killed", [], SHELL, "/user.slice")),
    ("systemd-oomd", ["Marked /a.scope for killing " + OOMD_SWAP], ("killed", [], "/a.scope", None)),
    # a cgroup that is named like the rest of the line
    (
        "systemd-oomd",
        ["Killed /a " + OOMD_PRESSURE + " " + OOMD_PRESSURE],
        ("killed", [], "/a " + OOMD_PRESSURE, "/user.slice"),
    ),
    ("systemd-oomd", ["Killed /a for killing " + OOMD_SWAP], ("killed", [], "/a for killing", None)),
    ("systemd-oomd", ["Killed /a\nb " + OOMD_SWAP], ("killed", [], "/a\nb", None)),
    # earlyoom 1.2, 1.3, 1.4 … 1.7, 1.8 and a development version
    ("earlyoom", ["Killing process 123 web server"], ("killed", [(123, "web server", None, None)], None, None)),
    (
        "earlyoom",
        ['killing process 27541 "bash" with signal 15: badness 550, VmRSS 7609 MiB'],
        ("killed", [(27541, "bash", None, 550)], None, None),
    ),
    (
        "earlyoom",
        ['sending SIGTERM to process 12006 "python3": badness 209, VmRSS 2891 MiB'],
        ("killed", [(12006, "python3", None, 209)], None, None),
    ),
    (
        "earlyoom",
        ['sending SIGKILL to process 29410 uid 1000 "cluster": badness 1264, VmRSS 23964 MiB'],
        ("killed", [(29410, "cluster", 1000, 1264)], None, None),
    ),
    (
        "earlyoom",
        ['sending SIGTERM to process 906175 uid 1000 "java": oom_score 1170, VmRSS 43912 MiB, cmdline "java -jar x"'],
        ("killed", [(906175, "java", 1000, 1170)], None, None),
    ),
    (
        "earlyoom",
        ['sending SIGTERM to process 9 uid 0 "a": oom_score 1, oom_score_adj -5, VmRSS 3 MiB, cmdline "a"'],
        ("killed", [(9, "a", 0, 1)], None, None),
    ),
    # names with the line's own marks in them, also cut in two by a newline
    (
        "earlyoom",
        ['sending SIGTERM to process 3 uid 0 "stubborn": x": badness 667, VmRSS 38 MiB'],
        ("killed", [(3, 'stubborn": x', 0, 667)], None, None),
    ),
    (
        "earlyoom",
        ['sending SIGTERM to process 3 uid 0 "a": badness 1,": badness 667, VmRSS 38 MiB'],
        ("killed", [(3, 'a": badness 1,', 0, 667)], None, None),
    ),
    (
        "earlyoom",
        ['sending SIGTERM to process 3 uid 0 "one', 'two": badness 667, VmRSS 38 MiB'],
        ("killed", [(3, "one\ntwo", 0, 667)], None, None),
    ),
    # what became of it
    (
        "earlyoom",
        ['sending SIGTERM to process 9 uid 0 "a": badness 1, VmRSS 3 MiB', "kill failed: Timer expired"],
        ("unknown", [(9, "a", 0, 1)], None, None),
    ),
    (
        "earlyoom",
        ['sending SIGTERM to process 9 uid 0 "a": badness 1, VmRSS 3 MiB', "kill failed: No such process"],
        ("already_exiting", [(9, "a", 0, 1)], None, None),
    ),
    (
        "earlyoom",
        ['sending SIGTERM to process 9 uid 0 "a": oom_score 1, VmRSS 3 MiB, cmdline "a"', "process 9 did not exit"],
        ("unknown", [(9, "a", 0, 1)], None, None),
    ),
    (
        "earlyoom",
        [
            'sending SIGTERM to process 9 uid 0 "a": badness 1, VmRSS 3 MiB',
            "kill failed: Timer expired",
            'sending SIGTERM to process 9 uid 0 "a": badness 2, VmRSS 4 MiB',
            "process exited after 0.1 seconds",
        ],
        ("killed", [(9, "a", 0, 1)], None, None),
    ),
    # nohang 0.2, 0.1, and a victim of an earlier round
    ("nohang", NOHANG + SENT, ("killed", [(12297, "tail", None, 727)], None, None)),
    ("nohang", ["\n".join(NOHANG + SENT)], ("killed", [(12297, "tail", None, 727)], None, None)),
    (
        "nohang",
        [
            "Process with highest badness (found in 6 ms):",
            "  PID: 12297, Name: tail, badness: 727",
            "Implement a corrective action:",
            "  Send SIGTERM to the victim; total response time: 13246 ms",
        ],
        ("killed", [(12297, "tail", None, 727)], None, None),
    ),
    (
        "nohang",
        ["New victim is cached victim 88 (a b)", "  Sending SIGKILL to the victim", "The victim died in 0.2s"],
        ("killed", [(88, "a b", None, None)], None, None),
    ),
    (
        "nohang",
        NOHANG
        + (
            "Victim status (found in 11ms):",
            "  PID:       12297, name: tail, state: R (running), EUID: 1000, SID: 3634 (tail), lifetime: 8.9s",
            "  badness:   727, oom_score:  727, oom_score_adj:  100",
            "  cgroup_v1: ",
            "  cgroup_v2: /user.slice/user-1000.slice/session-2.scope",
        )
        + SENT,
        ("killed", [(12297, "tail", 1000, 727)], "/user.slice/user-1000.slice/session-2.scope", None),
    ),
    (
        "nohang",
        NOHANG + SENT + ("The victim doesn't respond on corrective action in 0.027s",),
        ("unknown", [(12297, "tail", None, 727)], None, None),
    ),
    (
        "nohang",
        NOHANG + ("Implementing a corrective action:", "  Executing the command: systemctl restart x"),
        ("unknown", [(12297, "tail", None, 727)], None, None),
    ),
    (
        "nohang",
        NOHANG + SENT[:2] + ("Selected process died before corrective action",),
        ("already_exiting", [(12297, "tail", None, 727)], None, None),
    ),
    # a name that is cut by a newline, and the name of a round that ended without an action
    (
        "nohang",
        ("Process with highest badness (found in 6ms):", "  PID: 5, name: a", "b, badness: 7") + SENT,
        ("killed", [(5, "a\nb", None, 7)], None, None),
    ),
    (
        "nohang",
        ("TOP printed in 1ms; process with highest badness:", "  PID: 4, name: spared, badness: 9") + NOHANG + SENT,
        ("killed", [(12297, "tail", None, 727)], None, None),
    ),
    # oomd
    (
        "oomd",
        [
            "[../src/oomd/plugins/BaseKillPlugin.cpp:401] Trying to kill /sys/fs/cgroup/system.slice/a.service",
            "[../src/oomd/plugins/BaseKillPlugin.cpp:480] Killed 2: 14628(stress) 14629(a b)",
            "oomd kill: 7.09 2.07 0.46 system.slice/a.service 7345000000 ruleset:[r] detectorgroup:[d] killer:k v2",
        ],
        ("killed", [(14628, "stress", None, None), (14629, "a b", None, None)], "/system.slice/a.service", None),
    ),
    (
        "oomd",
        ["oomd kill: 7.09 2.07 0.46 system.slice/a b 1 ruleset:[x 734 ruleset:[r] detectorgroup:[d] killer:k v2"],
        ("killed", [], "/system.slice/a b 1 ruleset:[x", None),
    ),
    ("oomd", ["oomd kill: 10.00 60.00 600.00 Evil 1999 detector:swap,1MB killer:E "], ("killed", [], "/Evil", None)),
    ("oomd", ["Killed 1: 5(a)[E3] 6(b)"], ("killed", [(6, "b", None, None)], None, None)),
    # a name that would put another process on the list
    ("oomd", ["Killed 1: 9(x) 1(init)"], ("killed", [], None, None)),
]


@pytest.mark.parametrize(("program", "lines", "expected"), WORDINGS)
def test_a_wording_is_one_kill(program, lines, expected):
    found = kills(program, *lines)
    assert [brief(each) for each in found] == [expected]
    assert (found[0]["killer"], found[0]["scope"], found[0]["kill_lines"]) == (program, "userspace", 0)


NO_KILLS = [
    ("systemd-oomd", ["Considered 64 cgroups for killing, top candidates were:", "\tPath: /a.scope"]),
    ("systemd-oomd", ["Memory pressure for /user.slice is 74.23% > 20.00% for > 2s with reclaim activity"]),
    ("systemd-oomd", ["oomd attempting to kill 113 with KILL"]),
    ("systemd-oomd", ["Failed to kill any cgroup(s) under /a based on pressure: No such device"]),
    (
        "systemd-oomd",
        ["oomd dry-run: Would have tried to kill /a with recurse=true", "Killed /a " + OOMD_SWAP],
    ),
    ("systemd-oomd", ["Killed /a " + OOMD_SWAP + " or so"]),
    ("earlyoom", ['sending 0 (no-op signal) to process 1 uid 0 "a": badness 1, VmRSS 3 MiB']),
    ("earlyoom", ["sending SIGTERM when mem <= 10.00% and swap <= 10.00%,", "process exited after 0.1 seconds"]),
    (
        "earlyoom",
        [
            'sending SIGTERM to process 2 uid 0 "python3": badness 668, VmRSS 73 MiB',
            "dryrun, not actually sending any signal",
        ],
    ),
    ("earlyoom", ["Low memory! Killing process 3 a"]),
    ("nohang", ["  Sending SIGKILL to the victim", "The victim died in 0.2s"]),
    ("nohang", NOHANG + ("Thresholds is not exceeded now",)),
    ("nohang", ["  [ OK ] Sending SIGTERM to nohang-term: 1"]),
    ("oomd", ["Trying to kill /sys/fs/cgroup/a", "No processed killed from a"]),
    ("oomd", ["OOMD: In dry-run mode; would have tried to kill /sys/fs/cgroup/a"]),
    ("oomd", ["oomd kill: 7.09 2.07 0.46 a 7345 ruleset:[r] detectorgroup:[d] killer:(dry)k v2"]),
    ("oomd", ["Killed 0: 5(a)[E1]"]),
    ("dockerd", ["Killed /a " + OOMD_SWAP]),
    ("systemd", ["a.service: Killed /a " + OOMD_SWAP]),
]


@pytest.mark.parametrize(("program", "lines"), NO_KILLS)
def test_what_is_no_kill(program, lines):
    assert kills(program, *lines) == []


def test_two_victims_are_two_kills():
    line = 'sending SIGTERM to process {0} uid 0 "a": badness 1, VmRSS 3 MiB'
    assert [each["victims"][0]["pid"] for each in kills("earlyoom", line.format(8), line.format(9))] == [8, 9]


def test_the_same_pid_long_after_is_another_process():
    found = killers.Killers(KNOWN)
    for second in (0, 500):
        found.see(said("earlyoom", 'sending SIGTERM to process 8 uid 0 "a": badness 1, VmRSS 3 MiB', second))
    assert len(found.events()) == 2


def test_sizes_are_those_of_the_status():
    status = "  Vm, MiB:   Size: 1401, RSS: 486 (Anon: 485, File: 1, Shmem: 0), Swap: 0"
    (event,) = kills("nohang", *(NOHANG + (status,) + SENT))
    victim = event["victims"][0]
    sizes = [victim[key + "_bytes"] for key in ("total_vm", "anon_rss", "file_rss", "shmem_rss")]
    assert sizes == [1401 << 20, 485 << 20, 1 << 20, 0]


def test_the_newest_are_kept():
    found = killers.Killers(KNOWN, most=3)
    for number in range(10):
        found.see(said("systemd-oomd", "Killed /{0} {1}".format(number, OOMD_SWAP), number))
    assert [each["victim_cgroup"] for each in found.events()] == ["/7", "/8", "/9"]


def test_an_event_has_the_keys_of_the_kernels():
    kernel = list(events.parse([b"Out of memory: Killed process 7 (a) total-vm:1kB, anon-rss:1kB, file-rss:0kB\n"]))[0]
    (event,) = kills("earlyoom", 'sending SIGTERM to process 8 uid 0 "a": badness 1, VmRSS 3 MiB')
    assert list(event) == list(kernel)
    assert [list(each) for each in event["victims"]] == [list(each) for each in kernel["victims"]]
    assert set(event["workload"]) == set(event["limit_workload"]) == set(workload.KEYS)
    assert event["completeness"] == {
        "complete": True,
        "missing": [],
        "suppressed_headers": 0,
        "gaps": 0,
        "truncated": False,
    }
    assert (event["time"], event["time_source"], event["boot_id"]) == ("2026-11-23T13:01:40.000000Z", "journal", BOOT)
    assert event["schema"] == report.SCHEMA


def test_the_words_are_context_and_raw():
    (event,) = kills("systemd-oomd", "Killed /system.slice/a.service " + OOMD_PRESSURE, raw=True)
    assert event["raw"] == "Killed /system.slice/a.service " + OOMD_PRESSURE
    assert [each["message"] for each in event["context"]] == [event["raw"]]
    assert event["context"][0]["source"] == "systemd-oomd"
    assert event["limit_level"] == "ancestor"
    assert event["workload"]["unit"] == "a.service"
    assert kills("systemd-oomd", "Killed /a.service " + OOMD_PRESSURE)[0]["raw"] is None


# --- what only systemd saw ------------------------------------------------------------------------------------------

OF_UNIT = "a.service: systemd-oomd killed 20 process(es) in this unit."


def test_what_only_systemd_saw_is_a_kill_of_a_unit():
    (event,) = kills("systemd", OF_UNIT, unit="a.service")
    assert (event["killer"], event["victim_cgroup"], event["victims"]) == ("systemd-oomd", None, [])
    assert (event["workload"]["kind"], event["workload"]["unit"]) == ("unit", "a.service")


@pytest.mark.parametrize("first", [0, 1])
def test_what_both_saw_is_one_kill(first):
    found = killers.Killers(KNOWN)
    lines = [said("systemd-oomd", "Killed /system.slice/a.service " + OOMD_SWAP), said("systemd", OF_UNIT)]
    for line in lines[first:] + lines[:first]:
        found.see(line)
    assert [each["victim_cgroup"] for each in found.events()] == ["/system.slice/a.service"]


def test_a_users_manager_is_no_witness():
    assert kills("systemd", OF_UNIT, uid=1000) == []


def test_a_unit_that_the_record_does_not_name_is_none():
    assert kills("systemd", OF_UNIT, unit="b.service") == []


# --- merging --------------------------------------------------------------------------------------------------------


def test_a_kill_of_the_kernel_is_never_one_of_user_space():
    """The oldest kernels print a kill line without any size: only the killer tells the two apart."""
    (kernel,) = events.parse([b"<3>[  100.000000] Killed process 8 (a)\n"])
    mine = kills("earlyoom", 'sending SIGTERM to process 8 uid 0 "a": badness 1, VmRSS 3 MiB')
    assert mine[0]["id"] != kernel["id"]
    apart = merge([kernel]) + merge(mine)
    assert [each["killer"] for each in apart] == ["kernel", "earlyoom"]


def syslog(text, *lines):
    found = killers.Killers(Context(source="file", reference=NOW / 1e6 + 3600))
    for line in lines:
        found.see(companions.from_text(text.format(line)))
    return found.events()


@pytest.mark.parametrize(
    ("program", "lines"),
    [
        ("systemd-oomd", ["Killed /system.slice/a.service " + OOMD_SWAP]),
        ("earlyoom", ['sending SIGTERM to process 8 uid 0 "a": badness 1, VmRSS 3 MiB']),
        ("nohang", NOHANG + SENT),
        ("oomd", ["oomd kill: 1.00 6.00 6.00 a 1999 ruleset:[r] detectorgroup:[d] killer:E v2"]),
    ],
)
def test_the_same_kill_from_two_logs_is_one(program, lines):
    one = kills(program, *lines)
    other = syslog("Nov 23 13:01:41 lab " + program + "[7]: {0}", *lines)
    assert one[0]["id"] == other[0]["id"]
    assert (other[0]["time_source"], other[0]["time_error_seconds"]) == ("syslog", 1.0)
    (merged,) = merge(one + other)
    assert {each["source"] for each in merged["origins"]} == {"journal", "file"}
    assert merged["time_source"] == "journal"


def test_marked_and_killed_are_one_kill():
    """The id is of the act, whichever words the version of systemd has for it."""
    ids = {
        kills("systemd-oomd", "{0} {1}".format(words, OOMD_SWAP))[0]["id"]
        for words in ("Killed /a", "Marked /a for killing")
    }
    assert len(ids) == 1


def test_two_kills_of_one_unit_stay_two():
    later = "Killed /a " + OOMD_SWAP.replace("30112395264", "30112395265")
    assert len(merge(kills("systemd-oomd", "Killed /a " + OOMD_SWAP, later))) == 2


# --- facts ----------------------------------------------------------------------------------------------------------

FACTS = [
    ("systemd", "a.service: A process of this unit has been killed by the OOM killer.", ("a.service", None, "kernel")),
    ("systemd", "a.scope: The kernel OOM killer killed some processes in this unit.", ("a.scope", None, "kernel")),
    ("systemd", "a.service: Failed with result 'oom-kill'.", ("a.service", None, None)),
    ("systemd", "a.service: Main process exited, code=killed, status=9/KILL", ("a.service", None, None)),
    ("systemd", OF_UNIT, ("a.service", None, "systemd-oomd")),
    ("systemd", "a.service: systemd-oomd killed some process(es) in this unit.", ("a.service", None, "systemd-oomd")),
    (
        "containerd",
        'time="2023-09-01T19:12:33.012922721Z" level=info msg="TaskOOM event container_id:\\"' + CID + '\\""',
        (None, CID, "kernel"),
    ),
    (
        "containerd",
        'time="2026-11-23T12:56:47.36Z" level=info msg="TaskOOM event &TaskOOM{ContainerID:' + CID + ',XXX:[],}"',
        (None, CID, "kernel"),
    ),
    (
        "dockerd",
        'level=warning msg="ShouldRestart failed, container will not be restarted" container='
        + CID
        + ' daemonShuttingDown=false exitStatus="{137 2026-09-05 02:00:00 +0000 UTC}" hasBeenManuallyStopped=true',
        (None, CID, None),
    ),
    (
        "podman",
        "2026-11-23 12:56:11.19 +0000 UTC m=+0.6 container died " + CID + " (image=a, name=b)",
        (None, CID, None),
    ),
    ("kubelet", 'E0101 oom_watcher_linux.go:82] "Got sys oom event" event={"Pid":8}', (None, None, "kernel")),
    ("kubelet", "System OOM encountered, victim process: a, pid: 8", (None, None, "kernel")),
]
NO_FACTS = [
    ("systemd", "a.service: Failed with result 'exit-code'."),
    ("systemd", "a.service: Main process exited, code=killed, status=15/TERM"),
    ("systemd", "Started a.service: A process of this unit has been killed by the OOM killer. Not."),
    ("containerd", 'time="x" level=info msg="shim disconnected" id=' + CID),
    ("dockerd", 'msg="ignoring event" container=' + CID + " topic=/tasks/delete"),
    ("dockerd", "container=" + CID + ' exitStatus="{0 2026-09-05 02:00:00 +0000 UTC}"'),
    ("podman", "a.service: A process of this unit has been killed by the OOM killer."),
]


@pytest.mark.parametrize(("program", "text", "expected"), FACTS)
def test_a_wording_is_a_fact(program, text, expected):
    found = context.fact(said(program, text), KNOWN)
    assert (found.unit, found.container_id, found.killer) == expected
    assert context.entry(found)["message"] == text[:300]
    assert list(context.entry(found)) == ["source", "time", "unit", "container_id", "message"]


@pytest.mark.parametrize(("program", "text"), NO_FACTS)
def test_what_is_no_fact(program, text):
    assert context.fact(said(program, text), KNOWN) is None


def test_podman_tells_the_exit_code_in_a_field():
    text = "container died " + CID + " (image=a, name=b)"
    assert context.fact(said("podman", text, exit_code="0"), KNOWN) is None
    assert context.fact(said("podman", text, exit_code="137"), KNOWN).container_id == CID


# --- who said it ----------------------------------------------------------------------------------------------------

EARLYOOM = 'sending SIGTERM to process 8 uid 0 "a": badness 1, VmRSS 3 MiB'


def record(message=EARLYOOM, **fields):
    base = {"MESSAGE": message, "__REALTIME_TIMESTAMP": str(NOW), "_BOOT_ID": BOOT, "_TRANSPORT": "stdout"}
    return dict(base, **fields)


TRUSTED = [
    ({"_SYSTEMD_UNIT": "earlyoom.service", "_COMM": "earlyoom", "_UID": "61876", "_PID": "9"}, ("earlyoom", 0)),
    ({"_SYSTEMD_UNIT": "earlyoom.service", "_PID": "9"}, ("earlyoom", 0)),
    ({"_SYSTEMD_UNIT": "rc.local.service", "_COMM": "earlyoom", "_UID": "0", "_PID": "9"}, ("earlyoom", 0)),
    ({"_SYSTEMD_UNIT": "systemd-oomd.service", "_COMM": "systemd-oomd", "_UID": "997"}, ("systemd-oomd", 0)),
    ({"_SYSTEMD_UNIT": "nohang-desktop.service", "_COMM": "nohang", "_UID": "0"}, ("nohang", 0)),
    ({"_PID": "1", "_COMM": "systemd", "_UID": "0", "_SYSTEMD_UNIT": "init.scope"}, ("systemd", 0)),
    (
        {
            "_PID": "585",
            "_COMM": "systemd",
            "_UID": "1000",
            "_SYSTEMD_UNIT": "user@1000.service",
            "_SYSTEMD_USER_UNIT": "init.scope",
        },
        ("systemd", 1000),
    ),
    ({"_COMM": "podman", "_UID": "1000", "_SYSTEMD_UNIT": "user@1000.service"}, ("podman", 1000)),
    ({"_COMM": "dockerd", "_UID": "0", "_SYSTEMD_UNIT": "docker.service"}, ("dockerd", 0)),
]
FORGED = [
    # logger -t earlyoom, logger -t systemd, by a user and by root
    {"SYSLOG_IDENTIFIER": "earlyoom", "_COMM": "logger", "_UID": "1000", "_SYSTEMD_UNIT": "session-2.scope"},
    {"SYSLOG_IDENTIFIER": "systemd", "_COMM": "logger", "_UID": "0", "_SYSTEMD_UNIT": "session-2.scope"},
    {"SYSLOG_IDENTIFIER": "systemd-oomd", "_COMM": "logger", "_UID": "0", "_SYSTEMD_UNIT": "user@0.service"},
    # a user's program of the same name
    {"SYSLOG_IDENTIFIER": "earlyoom", "_COMM": "earlyoom", "_UID": "1000", "_SYSTEMD_UNIT": "session-2.scope"},
    {"_COMM": "earlyoom", "_UID": "1000", "_SYSTEMD_UNIT": "user@1000.service", "UNIT": "earlyoom.service"},
    {"_COMM": "systemd", "_UID": "1000", "_SYSTEMD_UNIT": "session-2.scope", "SYSLOG_IDENTIFIER": "systemd"},
    {
        "_COMM": "systemd",
        "_UID": "1000",
        "_SYSTEMD_UNIT": "user@1000.service",
        "_SYSTEMD_USER_UNIT": "evil.service",
        "SYSLOG_IDENTIFIER": "systemd",
    },
    # what a container prints, by the journald log drivers of Docker and Podman
    {"_COMM": "dockerd", "_UID": "0", "_SYSTEMD_UNIT": "docker.service", "CONTAINER_ID_FULL": CID},
    {"_COMM": "conmon", "_UID": "0", "CONTAINER_NAME": "earlyoom", "SYSLOG_IDENTIFIER": "conmon"},
    # the kernel's own words, whatever they are
    {"_TRANSPORT": "kernel", "SYSLOG_FACILITY": "0", "SYSLOG_IDENTIFIER": "kernel"},
    {"_PID": ["1", "9"], "_COMM": "systemd"},
    {},
]


@pytest.mark.parametrize(("fields", "expected"), TRUSTED)
def test_fields_that_journald_writes_name_the_program(fields, expected):
    found = companions.from_journal(record(**fields))
    assert (found.program, found.uid) == expected


@pytest.mark.parametrize("fields", FORGED)
def test_a_forged_record_is_nobodys(fields):
    assert companions.from_journal(record(**fields)) is None


def test_oomd_speaks_through_the_kernels_log():
    text = "oomd kill: 1.00 6.00 6.00 a 1999 ruleset:[r] detectorgroup:[d] killer:E v2"
    fields = {"_TRANSPORT": "kernel", "SYSLOG_FACILITY": "1"}
    assert companions.from_journal(record(text, **fields)).program == "oomd"
    assert companions.from_journal(record("also " + text, **fields)) is None
    assert companions.from_journal(record(text, _TRANSPORT="kernel", SYSLOG_FACILITY="0")) is None


def test_the_time_is_that_of_sending():
    """Under memory pressure journald reads a record seconds late; a claim of more is not believed."""
    fields = {"_SYSTEMD_UNIT": "earlyoom.service"}
    for claimed, expected in ((NOW - 14000000, NOW - 14000000), (NOW + 1, NOW), (NOW - 7200000000, NOW)):
        found = companions.from_journal(record(_SOURCE_REALTIME_TIMESTAMP=str(claimed), **fields))
        assert found.stamp.realtime_usec == expected


def test_bytes_that_are_no_text():
    found = companions.from_journal(record([104, 255, 10], _SYSTEMD_UNIT="earlyoom.service"))
    assert found.text == "h\udcff\n"
    assert companions.from_journal(record([104, 300], _SYSTEMD_UNIT="earlyoom.service")) is None
    assert companions.from_journal(record(None, _SYSTEMD_UNIT="earlyoom.service")) is None


LINES = [
    ("Feb 16 13:58:29 host earlyoom[1233]: text", ("earlyoom", "text", "1233")),
    ("2026-11-22T21:50:30.898260+00:00 host earlyoom[1233]: text", ("earlyoom", "text", "1233")),
    ("<30>Feb  6 13:58:29 host systemd[1]: a.service: text", ("systemd", "a.service: text", "1")),
    ("<30>1 2026-11-22T21:50:30.898260+00:00 host containerd 9 - - text", ("containerd", "text", "9")),
    ("Mar 15 09:22:41 host containerd: text", ("containerd", "text", "")),
    ("Mar 15 09:22:41 host nohang-desktop[8]:   PID: 1", ("nohang", "  PID: 1", "8")),
    ("Mar 15 09:22:41 host kernel: [   12.345678] oomd kill: x", ("oomd", "oomd kill: x", "")),
    ("Mar 15 09:22:41 host kernel: oomd kill: x", ("oomd", "oomd kill: x", "")),
]


@pytest.mark.parametrize(("line", "expected"), LINES)
def test_a_line_of_syslog(line, expected):
    found = companions.from_text(line)
    assert (found.program, found.text, found.writer) == expected


@pytest.mark.parametrize(
    "line",
    [
        "Feb 16 13:58:29 host systemd[585]: a.service: A process of this unit has been killed by the OOM killer.",
        "Feb 16 13:58:29 host systemd: a.service: A process of this unit has been killed by the OOM killer.",
        "Feb 16 13:58:29 host kernel: [   12.345678] earlyoom[1]: sending SIGTERM",
        "Feb 16 13:58:29 host evil[9]: host earlyoom[1233]: text",
        "earlyoom[1233]: text",
        "Feb 16 13:58:29 host earlyoom-fake[1233]: text",
        "",
    ],
)
def test_a_line_of_somebody_else(line):
    assert companions.from_text(line) is None


# --- join -----------------------------------------------------------------------------------------------------------


def kernel_event(cgroup="/system.slice/a.service", at=0.0, boot=BOOT, pid=8, limit=None, error=None):
    """An event of a kernel's summary and kill line."""
    text = (
        "oom-kill:constraint=CONSTRAINT_MEMCG,nodemask=(null),cpuset=/,mems_allowed=0,oom_memcg={0},task_memcg={1},"
        "task=a,pid={2},uid=0\nMemory cgroup out of memory: Killed process {2} (a) total-vm:1kB, anon-rss:1kB, "
        "file-rss:0kB, shmem-rss:0kB, UID:0 pgtables:1kB oom_score_adj:0\n"
    ).format(limit or cgroup, cgroup, pid)
    lines = "".join("[  100.000000] {0}\n".format(line) for line in text.splitlines())
    (event,) = events.parse([lines.encode()])
    moment = NOW / 1e6 + at
    stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(moment)) + ".%06dZ" % round(moment % 1 * 1e6)
    return dict(event, time=stamp, time_source="journal", time_error_seconds=error, boot_id=boot)


OOM = "{0}: A process of this unit has been killed by the OOM killer."
UNIT_OOM = OOM.format("a.service")


def fact(program="systemd", text=UNIT_OOM, at=0.5, **more):
    return context.fact(said(program, text, at, **more), KNOWN)


def joined(found, facts):
    return [[each["message"] for each in event["context"]] for event in context.join(found, facts)]


JOINS = [
    (kernel_event(), fact(), True),
    (kernel_event(at=2.0), fact(), True),
    (kernel_event(), fact(at=10.5), False),
    (kernel_event(error=14.5), fact(at=-14.0), True),
    (kernel_event(error=99999.0), fact(at=-100.0), False),
    (kernel_event(), fact(text="a.service: Failed with result 'oom-kill'.", at=59.0), True),
    (kernel_event(), fact(text="a.service: Failed with result 'oom-kill'.", at=61.0), False),
    (kernel_event(boot="0" * 32), fact(), False),
    (kernel_event(boot=None), fact(), True),
    (kernel_event("/system.slice/b.service"), fact(), False),
    (kernel_event("/system.slice/aa.service"), fact(), False),
    # a slice and a unit above the victim's cgroup: cgroup v2 counts upwards
    (kernel_event("/a.slice/a-b.slice/c.service"), fact(text=OOM.format("a.slice")), True),
    (kernel_event("/system.slice/a.service/payload"), fact(), True),
    (kernel_event("/b.slice/x.service", limit="/b.slice"), fact(text=OOM.format("b.slice")), True),
    # containers
    (kernel_event("/docker/" + CID), fact("containerd", 'TaskOOM event container_id:"' + CID + '"'), True),
    (kernel_event("/docker/" + CID), fact("containerd", 'TaskOOM event container_id:"' + CID[::-1] + '"'), False),
    (kernel_event("/system.slice/docker-" + CID + ".scope"), fact(text=OOM.format("docker-" + CID + ".scope")), True),
    (
        kernel_event("/machine.slice/libpod-" + CID + ".scope/container"),
        fact("podman", "container died " + CID + " (image=a)"),
        True,
    ),
    (kernel_event(), fact("kubelet", "System OOM encountered, victim process: a, pid: 8"), True),
    (kernel_event(), fact("kubelet", "System OOM encountered, victim process: a, pid: 9"), False),
    # whose words they are
    (kernel_event(), fact(text=OF_UNIT), False),
    (kernel_event(), fact(uid=1000), False),
    (kernel_event(SHELL), fact(text=OOM.format("app-shell.scope"), uid=1000), True),
    (kernel_event(SHELL), fact(text=OOM.format("app-shell.scope"), uid=1001), False),
    (kernel_event(SHELL), fact(text=OOM.format("app-shell.scope")), False),
    (kernel_event(SHELL), fact(text=OOM.format("user@1000.service")), True),
    (
        kernel_event("/machine.slice/libpod-" + CID + ".scope"),
        fact("podman", "container died " + CID + " (image=a)", uid=1000),
        False,
    ),
    (
        kernel_event("/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-" + CID + ".scope"),
        fact("podman", "container died " + CID + " (image=a)", uid=1000),
        True,
    ),
]


@pytest.mark.parametrize(("event", "one", "belongs"), JOINS)
def test_which_event_a_fact_belongs_to(event, one, belongs):
    assert joined([event], [one]) == [[one.message] if belongs else []]


def test_a_fact_joins_the_nearest_event_only():
    found = [kernel_event(at=second, pid=10 + int(second)) for second in (0.0, 4.0, 8.0)]
    assert joined(found, [fact(at=4.5)]) == [[], [UNIT_OOM], []]


def test_facts_of_systemd_oomd_join_its_own_kill_not_the_kernels():
    mine = kills("systemd-oomd", "Killed /system.slice/a.service " + OOMD_SWAP)
    both = context.join([kernel_event()] + mine, [fact(text=OF_UNIT), fact()])
    assert [each["message"] for each in both[0]["context"]] == [UNIT_OOM]
    assert [each["message"] for each in both[1]["context"]][1:] == [OF_UNIT]


def test_the_context_is_in_order_bounded_and_without_doubles():
    facts = [fact(text=UNIT_OOM, at=1.0 + number / 10.0) for number in range(40)] * 2
    (event,) = context.join([kernel_event()], facts)
    times = [each["time"] for each in event["context"]]
    assert times == sorted(set(times)) and len(times) == 20


def test_events_are_not_changed():
    event = kernel_event()
    context.join([event], [fact()])
    assert event["context"] == []


def test_an_event_of_unknown_time_stays_as_it_is():
    assert joined([dict(kernel_event(), time=None)], [fact()]) == [[]]


def test_many_are_joined_in_linear_time():
    found = [kernel_event(at=number * 0.001, pid=number) for number in range(300)]
    facts = [fact(at=number * 0.001) for number in range(8000)]
    begun = time.perf_counter()
    context.join(found, facts)
    assert time.perf_counter() - begun < 5.0


def test_everything_is_json():
    found = kills("earlyoom", 'sending SIGTERM to process 8 uid 0 "\udcff\x00": badness 1, VmRSS 3 MiB')
    json.dumps(context.join(found, [fact()])).encode("utf-8")


def test_a_kernel_kill_and_a_kill_by_user_space_of_one_process_stay_two():
    kernel = next(iter(oom.parse([b"[  9.000001] Out of memory: Killed process 3440 (early-term), UID 0\n"])))
    other = dict(kernel, killer="earlyoom", kill_lines=0)
    assert [each["killer"] for each in merge([kernel, other, dict(other)])] == ["kernel", "earlyoom"]


def test_copies_of_a_kill_share_what_was_said_of_it():
    kernel = next(iter(oom.parse([b"[  9.000001] Out of memory: Killed process 3440 (early-term), UID 0\n"])))
    said = [{"source": "systemd", "time": None, "unit": "a.service", "container_id": None, "message": "x"}]
    (joined,) = merge([dict(kernel, context=said), kernel, dict(kernel, context=said)])
    assert joined["context"] == said


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('sending SIGTERM to process 7 uid 0 "mysqld": badness 9, cmdline "mysqld --password=hunter2"', None),
        ("x container died " + "ab" * 32 + " (image=a/b:1, name=web, db.password=hunter2)", "(image=a/b:1, name=web)"),
        ("x container died " + "ab" * 32 + " (db.password=hunter2, image=hunter2, name=web)", "(name=web)"),
    ],
)
def test_what_may_hold_a_password_is_not_shown(text, expected):
    shown = context.shown(text)
    assert "hunter2" not in shown
    assert shown.endswith(expected or "badness 9")
