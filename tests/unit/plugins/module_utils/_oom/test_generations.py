# Copyright (c) 2026 oom.forensics contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One report per kernel generation, written from the kernel's format strings where no captured log exists."""

import pytest
from ansible_collections.oom.forensics.plugins.module_utils._oom import events

CID = "ab" * 32
STACK_OLD = (
    "Pid: 7, comm: hog Not tainted 2.6.32-642.el6.x86_64 #1\nCall Trace:\n [<ffffffff8112>] ? dump_header+0x90/0x1b0"
)
STACK = "CPU: 1 PID: 7 Comm: hog Not tainted 4.18.0-147.el8.x86_64 #1\nCall Trace:\n dump_stack+0x5c/0x80"
OLD_MEMCG = (
    "Task in /docker/{0} killed as a result of limit of /docker\n"
    "memory: usage 32768kB, limit 32768kB, failcnt 9\n"
    "memory+swap: usage 32768kB, limit 9007199254740988kB, failcnt 0\n"
    "kmem: usage 100kB, limit 9007199254740988kB, failcnt 0\n"
    "Memory cgroup stats for /docker: cache:0KB rss:0KB mapped_file:0KB\n"
    "Memory cgroup stats for /docker/{0}: cache:4KB rss:32000KB mapped_file:4KB"
).format(CID)
OLD_ROW, NEW_ROW = "[    9]  1000     9     8778     8383", "[      9]  1000     9     8778     8383"
TABLE = {  # header, row
    "2.6.32": "[ pid ]   uid  tgid total_vm      rss cpu oom_adj name\n" + OLD_ROW + "   0       0 my hog",
    "el6": "[ pid ]   uid  tgid total_vm      rss cpu oom_adj oom_score_adj name\n"
    + OLD_ROW
    + "   0       0             0 my hog",
    "3.10": "[ pid ]   uid  tgid total_vm      rss nr_ptes swapents oom_score_adj name\n"
    + OLD_ROW
    + "      25       10             0 my hog",
    "4.4": "[ pid ]   uid  tgid total_vm      rss nr_ptes nr_pmds swapents oom_score_adj name\n"
    + OLD_ROW
    + "      22       3       10             0 my hog",
    "4.15": "[ pid ]   uid  tgid total_vm      rss pgtables_bytes swapents oom_score_adj name\n"
    + OLD_ROW
    + "   102400       10             0 my hog",
    "6.8": "Tasks state (memory values in pages):\n[  pid  ]   uid  tgid total_vm      rss rss_anon rss_file rss_shmem "
    "pgtables_bytes swapents oom_score_adj name\n"
    + NEW_ROW
    + "     8096      287         0   102400       10             0 my hog",
}
SIZES = "total-vm:35112kB, anon-rss:32384kB, file-rss:1148kB"
SUMMARY = (
    "oom-kill:constraint=CONSTRAINT_MEMCG,nodemask=(null),cpuset={0},mems_allowed=0-1,4,oom_memcg=/docker,"
    "task_memcg=/docker/{0},task=my hog,pid=9,uid=1000"
).format(CID)
# name: (lines, reason in kill line, uid, shmem, limit cgroup, victim cgroup, score)
REPORTS = {
    "2.6.32": (
        [
            "hog invoked oom-killer: gfp_mask=0x280da, order=0, oom_adj=0",
            "hog cpuset=/ mems_allowed=0",
            STACK_OLD,
            TABLE["2.6.32"],
            "Out of memory: kill process 9 (my hog) score 1234567 or a child",
            "Killed process 9 (my hog)",
        ],
        "host",
        None,
        None,
        None,
        1234567,
    ),
    "2.6.35": (
        [
            "hog invoked oom-killer: gfp_mask=0x280da, order=0, oom_adj=0",
            STACK_OLD,
            TABLE["2.6.32"],
            "No available memory (MPOL_BIND): kill process 9 (my hog) score 12 or a child",
            "Killed process 9 (my hog) vsz:35112kB, anon-rss:32384kB, file-rss:1148kB",
        ],
        "mempolicy",
        None,
        None,
        None,
        12,
    ),
    "el6": (
        [
            "hog invoked oom-killer: gfp_mask=0xd0, order=0, oom_adj=0, oom_score_adj=0",
            STACK_OLD,
            "Task in /docker/%s killed as a result of limit of /docker" % CID,
            "memory: usage 32768kB, limit 32768kB, failcnt 9",
            TABLE["el6"],
            "Memory cgroup out of memory: Kill process 9 (my hog) score 1000 or sacrifice child",
            "Killed process 9, UID 1000, (my hog) " + SIZES,
        ],
        "memcg",
        1000,
        "/docker",
        "/docker/" + CID,
        1000,
    ),
    "3.10": (
        [
            "hog invoked oom-killer: gfp_mask=0xd0, order=0, oom_score_adj=0",
            "hog cpuset=%s mems_allowed=0" % CID,
            STACK,
            OLD_MEMCG,
            TABLE["3.10"],
            "Memory cgroup out of memory: Kill process 9 (my hog) score 1000 or sacrifice child",
            "Killed process 9 (my hog) " + SIZES,
        ],
        "memcg",
        None,
        "/docker",
        "/docker/" + CID,
        1000,
    ),
    "el7.9": (
        [
            "hog invoked oom-killer: gfp_mask=0xd0, order=0, oom_score_adj=0",
            STACK,
            OLD_MEMCG,
            TABLE["3.10"],
            "Memory cgroup out of memory: Kill process 9 (my hog) score 1000 or sacrifice child",
            "Killed process 9 (my hog), UID 1000, " + SIZES + ", shmem-rss:0kB",
        ],
        "memcg",
        1000,
        "/docker",
        "/docker/" + CID,
        1000,
    ),
    "4.9": (
        [
            "hog invoked oom-killer: gfp_mask=0x24000c0(GFP_KERNEL), nodemask=0, order=0, oom_score_adj=0",
            STACK,
            OLD_MEMCG,
            TABLE["4.4"],
            "Memory cgroup out of memory: Kill process 9 (my hog) score 1000 or sacrifice child",
            "Killed process 9 (my hog) " + SIZES + ", shmem-rss:0kB",
        ],
        "memcg",
        None,
        "/docker",
        "/docker/" + CID,
        1000,
    ),
    "el8.1": (
        [
            "hog invoked oom-killer: gfp_mask=0x6000c0(GFP_KERNEL), nodemask=(null), order=0, oom_score_adj=0",
            STACK,
            OLD_MEMCG,
            TABLE["4.15"],
            "Memory cgroup out of memory: Killed process 9 (my hog) " + SIZES + ", shmem-rss:0kB",
        ],
        "memcg",
        None,
        "/docker",
        "/docker/" + CID,
        None,
    ),
    "5.0": (
        [
            "hog invoked oom-killer: gfp_mask=0x6000c0(GFP_KERNEL), order=0, oom_score_adj=0",
            STACK,
            "memory: usage 32768kB, limit 32768kB, failcnt 9",
            TABLE["4.15"],
            SUMMARY,
            "Memory cgroup out of memory: Kill process 9 (my hog) score 1000 or sacrifice child",
            "Killed process 9 (my hog) " + SIZES + ", shmem-rss:0kB",
        ],
        "memcg",
        1000,
        "/docker",
        "/docker/" + CID,
        1000,
    ),
    "el8.3": (
        [
            "hog invoked oom-killer: gfp_mask=0x6000c0(GFP_KERNEL), order=0, oom_score_adj=0",
            STACK,
            "memory: usage 32768kB, limit 32768kB, failcnt 9",
            TABLE["4.15"],
            SUMMARY,
            "Memory cgroup out of memory: Killed process 9 (my hog) " + SIZES + ", shmem-rss:0kB, UID:1000",
        ],
        "memcg",
        1000,
        "/docker",
        "/docker/" + CID,
        None,
    ),
    "6.19": (
        [
            "hog invoked oom-killer: gfp_mask=0xcc0(GFP_KERNEL), order=0, oom_score_adj=0",
            STACK,
            "memory: usage 32768kB, limit 32768kB, failcnt 9",
            "swap: usage 0kB, limit 9007199254740988kB, failcnt 0",
            "Memory cgroup stats for /docker:",
            "anon 33161216",
            "file 0",
            "some_new_key 5",
            "Memory cgroup min protection 0kB -- low protection 0kB",
            TABLE["6.8"],
            SUMMARY,
            "Memory cgroup out of memory: Killed process 9 (my hog) "
            + SIZES
            + ", shmem-rss:0kB, UID:1000 pgtables:100kB oom_score_adj:0",
        ],
        "memcg",
        1000,
        "/docker",
        "/docker/" + CID,
        None,
    ),
}


def stamped(lines):
    texts = "\n".join(lines).split("\n")
    return "".join("[ %4d.%06d] %s\n" % (100, number, text) for number, text in enumerate(texts)).encode()


@pytest.mark.parametrize("generation", sorted(REPORTS))
def test_generation(generation):
    lines, scope, uid, limit, victim_cgroup, score = REPORTS[generation]
    (event,) = events.parse([stamped(lines)])
    assert (len(event["victims"]), len(event["tasks"])) == (1, 1)
    victim, task = event["victims"][0], event["tasks"][0]
    assert (victim["pid"], victim["comm"], victim["uid"], victim["score"]) == (9, "my hog", uid, score)
    assert (event["scope"], event["outcome"], event["kill_lines"]) == (scope, "killed", 1)
    assert (event["limit_cgroup"], event["victim_cgroup"]) == (limit, victim_cgroup)
    assert event["trigger"]["comm"] == "hog" and event["trigger"]["pid"] == 7 and event["trigger"]["order"] == 0
    if generation != "2.6.32":
        assert victim["anon_rss_bytes"] == 32384 * 1024
        assert event["page_size"] == 4096
    assert (task["pid"], task["uid"], task["name"]) == (9, 1000, "my hog")
    if event["page_size"]:
        assert task["rss_bytes"] == 8383 * 4096
    if generation in ("3.10", "el7.9", "4.9"):
        assert task["pgtables_bytes"] == 25 * 4096 and task["swap_bytes"] == 10 * 4096
        assert event["cgroup_stat"]["rss"] == 32000 * 1024
        assert event["memory_swap"] == {"usage_bytes": 32768 * 1024, "limit_bytes": None, "failcnt": 0}
    if generation == "6.19":
        assert task["rss_anon_bytes"] == 8096 * 4096 and event["cgroup_stat"]["some_new_key"] == 5
        assert event["cgroup_version"] == 2


def test_a_child_is_killed_in_place_of_the_chosen():
    (event,) = events.parse(
        [
            b"Out of memory: Kill process 5 (parent) score 900 or sacrifice child\nKilled process 6 (child) total-vm:4kB, anon-rss:0kB, file-rss:0kB\n"
        ]
    )
    assert [(victim["pid"], victim["role"]) for victim in event["victims"]] == [(6, "child")]


def test_a_threads_pid_in_the_summary():
    summary = "oom-kill:constraint=CONSTRAINT_NONE,nodemask=(null),cpuset=/,mems_allowed=0,global_oom,task_memcg=/a,task=dockerd,pid=3914,uid=0"
    kill = "Out of memory: Killed process 3910 (dockerd) total-vm:4kB, anon-rss:0kB, file-rss:0kB, shmem-rss:0kB, UID:0 pgtables:4kB oom_score_adj:0"
    (event,) = events.parse([stamped([summary, kill])])
    assert event["victims"][0]["pid"] == 3910 and event["victim_cgroup"] == "/a" and event["scope"] == "host"


def test_a_lone_kill_line_and_a_lone_summary():
    kill = (
        b"Memory cgroup out of memory: Killed process 9 (a) total-vm:4kB, anon-rss:0kB, file-rss:0kB, shmem-rss:0kB\n"
    )
    (event,) = events.parse([kill])
    assert event["scope"] == "memcg" and event["limit_cgroup"] is None
    assert event["completeness"]["missing"] == ["trigger", "stack", "limits", "tasks"]
    (event,) = events.parse([SUMMARY.encode() + b"\n"])
    assert event["outcome"] == "unknown" and event["victims"] == [] and event["limit_cgroup"] == "/docker"


def test_suppressed_reports_are_counted_at_the_next():
    lines = ["oom_kill_process: 30 callbacks suppressed"] + REPORTS["6.19"][0]
    (event,) = events.parse([stamped(lines)])
    assert event["completeness"]["suppressed_headers"] == 30


def test_already_exiting_is_no_kill():
    lines = REPORTS["6.19"][0][:-1] + [
        "Memory cgroup out of memory: OOM victim 9 (my hog) is already exiting. Skip killing the task"
    ]
    (event,) = events.parse([stamped(lines)])
    assert (event["outcome"], event["victims"], event["kill_lines"]) == ("already_exiting", [], 0)


@pytest.mark.parametrize(
    "text",
    [
        "OOM killer enabled.",
        "OOM killer disabled.",
        "Huh VM_FAULT_OOM leaked out to the #PF handler. Retrying PF",
        "hog: page allocation failure: order:4, mode:0x40cc0(GFP_KERNEL|__GFP_COMP), nodemask=(null)",
        "Would have killed process 9 (a). But continuing instead.",
        "Purging GPU memory, 4096 bytes freed, 0 bytes still pinned.",
        "lowmemorykiller: Killing 'a' (9), adj 900,",
        "CPU: 1 PID: 7 Comm: hog Not tainted 6.1.0 #1\nHardware name: x\nMem-Info:\nactive_anon:1 inactive_anon:2 isolated_anon:0",
    ],
)
def test_what_is_no_oom_kill(text):
    assert list(events.parse([stamped([text])])) == []


def test_a_users_imitation_is_no_event():
    kill = "Out of memory: Killed process 1 (init) total-vm:4kB, anon-rss:0kB, file-rss:0kB, shmem-rss:0kB, UID:0 pgtables:4kB oom_score_adj:0"
    syslog = "Nov 22 21:50:30 host kernel: quiet\nNov 22 21:50:31 host evil[7]: %s\nNov 22 21:50:31 host evil: %s\n" % (
        kill,
        kill,
    )
    assert list(events.parse([syslog.encode()])) == []
    export = (
        "__CURSOR=a\n__REALTIME_TIMESTAMP=1795384675713189\n_TRANSPORT=syslog\nSYSLOG_IDENTIFIER=kernel\nMESSAGE=%s\n\n"
        % kill
    )
    assert list(events.parse([export.encode()])) == []
    assert len(list(events.parse([export.replace("_TRANSPORT=syslog", "_TRANSPORT=kernel").encode()]))) == 1


def test_a_forged_record_inside_a_message():
    """A user's message may hold newlines and what looks like a kernel record: the export format gives its length."""
    forged = b"x\n\n__CURSOR=b\n_TRANSPORT=kernel\nMESSAGE=Out of memory: Killed process 1 (init) total-vm:4kB, anon-rss:0kB, file-rss:0kB\n\n"
    record = b"__CURSOR=a\n_TRANSPORT=journal\nMESSAGE\n" + len(forged).to_bytes(8, "little") + forged + b"\n\n"
    assert list(events.parse([record])) == []


@pytest.mark.parametrize(
    "wrap",
    [
        lambda line: "2026-11-22T21:50:30.898260123Z stderr F " + line,
        lambda line: (
            '{"log":"%s\\n","stream":"stderr","time":"2026-11-22T21:50:30.898260123Z"}' % line.replace('"', '\\"')
        ),
        lambda line: "<4>Nov 22 21:50:30 host kernel: [  100.000001] " + line,
        lambda line: "<4>1 2026-11-22T21:50:30.898260+00:00 host kernel - - - " + line,
        lambda line: "Nov 22 21:50:30.898260 host kernel: " + line,
        lambda line: "Sun 2026-11-22 21:50:30 UTC host kernel: " + line,
        lambda line: "1795384230.898260 host kernel: " + line,
        lambda line: "[ 1539.898260 <    0.000017>] " + line,
        lambda line: "[ 1539.898260][ T9987] " + line,
        lambda line: "kern  :err   : [ 1539.898260] " + line,
        lambda line: "> > [ 1539.898260] " + line,
        lambda line: "4,8902,1444529888,-,caller=T99;" + line,
        lambda line: line + "\r",
        lambda line: "[Di Aug 12 03:54:03 2025] " + line,
    ],
)
def test_transports(wrap):
    lines = "\n".join(REPORTS["6.19"][0]).split("\n")
    reference = next(events.parse([stamped(lines)]))
    (event,) = events.parse(["\n".join(map(wrap, lines)).encode() + b"\n"])
    for key in (
        "id",
        "limit_cgroup",
        "victim_cgroup",
        "victims",
        "cgroup_stat",
        "tasks",
        "trigger",
        "outcome",
        "raw_sha256",
    ):
        assert event[key] == reference[key], key


@pytest.mark.parametrize("caller", ["[ T%d] ", "4,1,%d,-,caller=T%d;"])
def test_callers_that_interleave(caller):
    first, second = (
        "\n".join(REPORTS["6.19"][0]).split("\n"),
        "\n".join(REPORTS["el8.3"][0]).replace("pid=9,", "pid=8,").replace("process 9", "process 8").split("\n"),
    )
    lines = []
    for number in range(max(len(first), len(second))):
        for name, source in ((11, first), (22, second)):
            if number < len(source):
                prefix = caller % ((number, name) if "caller=" in caller else name)
                lines.append((prefix if "caller=" in caller else "[  100.%06d]%s" % (number, prefix)) + source[number])
    found = list(events.parse(["\n".join(lines).encode()]))
    assert sorted(event["victims"][0]["pid"] for event in found) == [8, 9]
    assert all(not event["completeness"]["missing"] for event in found)


def test_times():
    line = "Nov 22 21:50:30 host kernel: " + REPORTS["el8.3"][0][-1]
    (event,) = events.parse([line.encode()])
    assert (event["time"], event["time_source"]) == (None, None)  # no year, no reference
    (event,) = events.parse([line.encode()], events.Context(reference=1795384230.0))
    assert (event["time"], event["time_source"], event["time_error_seconds"]) == (
        "2026-11-22T21:50:30.000000Z",
        "syslog",
        1.0,
    )
    (event,) = events.parse([line.encode()], events.Context(reference=1767225600.0))  # 2026-01-01: last November
    assert event["time"].startswith("2025-11-22")
    (event,) = events.parse(
        [b"[  100.500000] " + line[29:].encode()], events.Context(boot_time=1795384000.0, boot_time_error=0.2)
    )
    assert (event["time"], event["time_source"], event["time_error_seconds"]) == (
        "2026-11-22T21:48:20.500000Z"[:0] + event["time"],
        "boot_time",
        0.2,
    )
    assert event["time"] == "2026-11-22T21:48:20.500000Z"


def test_merge_keeps_the_fullest_and_all_origins():
    full = stamped(REPORTS["6.19"][0])
    tail = full[full.rfind(b"\n", 0, -1) + 1 :]
    one = list(events.parse([full], events.Context(source="journal")))
    two = list(events.parse([tail], events.Context(source="kmsg")))
    for order in (one + two, two + one):
        (event,) = events.merge(order)
        assert event["completeness"]["complete"] and event["id"] == one[0]["id"] == two[0]["id"]
        assert {origin["source"] for origin in event["origins"]} == {"journal", "kmsg"}


def test_merge_keeps_apart_what_differs_in_boot():
    full = stamped(REPORTS["6.19"][0])
    one = list(events.parse([full], events.Context(boot_id="a" * 32)))
    two = list(events.parse([full], events.Context(boot_id="b" * 32)))
    first, second = events.merge(one + two)
    assert second["id"] == first["id"] + "-2"


PREFIXES = {
    "dmesg": "[  100.%06d] ",
    "journal short": "Nov 22 21:50:30 host kernel: ",
    "syslog": "Nov 22 21:50:30 host kernel: [  100.%06d] ",
    "kmsg": "4,%d,100,-;",
    "short-monotonic": "[  100.%06d] host kernel: ",
    "printk caller": "[  100.%06d][  T9] ",
}
FORGED = [
    "[ 1.234567] x",
    "[ T123] x",
    "<3>[ 1.0] x",
    "h kernel: x",
    "Nov 22 21:50:30",
    "4,1,2,-;x",
    "> x",
    '{"log":"x"}',
    "x kernel[1]: y",
    "__CURSOR=a",
    "Killed process ",
    "Out of memory:",
    "a\x1b[31mred",
    "oom-kill:const",
    "Comm: x Not tai",
]


@pytest.mark.parametrize("name", FORGED)
@pytest.mark.parametrize("transport", sorted(PREFIXES))
def test_names_that_forge_a_prefix(transport, name):
    prefix = PREFIXES[transport]
    lines = "\n".join(REPORTS["6.19"][0]).replace("my hog", name).replace("hog", name).split("\n")
    text = "".join((prefix % number if "%" in prefix else prefix) + line + "\n" for number, line in enumerate(lines))
    (event,) = events.parse([text.encode()])
    assert (event["trigger"]["comm"], event["victims"][0]["comm"], event["tasks"][0]["name"]) == (name, name, name)
    assert event["completeness"]["missing"] == [] and event["victim_cgroup"] == "/docker/" + CID


def test_gaps_are_lost_records_not_foreign_ones():
    """A record of another caller or of the reaper is no gap; a missing sequence number is one."""
    texts = "\n".join(REPORTS["6.19"][0]).split("\n")
    texts.insert(5, "oom_reaper: reaped process 4 (old), now anon-rss:0kB, file-rss:0kB, shmem-rss:0kB")
    records = ["4,%d,100,-,caller=T7;%s\n" % (number, text) for number, text in enumerate(texts)]
    records[8] = records[8].replace("caller=T7", "caller=T8")
    (event,) = events.parse(["".join(records).encode()])
    assert event["completeness"]["gaps"] == 0
    del records[10:12]
    (event,) = events.parse(["".join(records).encode()])
    assert event["completeness"]["gaps"] == 2 and not event["completeness"]["complete"]
