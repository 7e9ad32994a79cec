# Copyright (c) 2026 oom.forensics contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What tracers print, parsed: captured output against the kernel's own reports of the same kills."""

import lzma
import pathlib

import pytest
from ansible_collections.oom.forensics.plugins.module_utils._oom import events, traced, traces

FIXTURES = pathlib.Path(__file__).resolve().parents[4] / "fixtures/traces/debian-12-6.1"
NAMES = [
    "hog",
    'quote"), 1 pa',
    'x"), 1 pages\n',
    "nl\nnext",
    "bad\udcff\udcfe\udcfdutf8",
    "a total-vm=0kB",
    '"), CGROUP 1 (',
    "hog",
    "oddgroup",
]
PIDS = [1425, 1427, 1429, 1431, 1433, 1435, 1437, 1440, 1444]
CGROUPS = ["/oomcap"] * 8 + ["/odd name, x=1"]


def tracefs():
    return traces.tracepoint((FIXTURES / "mark_victim.format").read_text())


CAPTURES = {
    "bcc": ("bcc.out.xz", lambda: traces.BCC),
    "bpftrace": ("bpftrace.out.xz", lambda: traces.BPFTRACE),
    "program": ("program.out.xz", lambda: traces.PROGRAM),
    "tracefs": ("trace_pipe.out.xz", tracefs),
}


def read(name, step=None):
    path, shape = CAPTURES[name]
    data = lzma.decompress((FIXTURES / path).read_bytes())
    reader = traces.Reader(name, shape())
    kills = []
    for start in range(0, len(data), step or len(data)):
        kills.extend(reader.feed(data[start : start + (step or len(data))]))
    return reader, kills


def one(shape, text):
    return traces.Reader("any", shape).feed(text if isinstance(text, bytes) else text.encode())


@pytest.mark.parametrize("step", [None, 1, 7, 100])
@pytest.mark.parametrize("name", sorted(CAPTURES))
def test_captured_output(name, step):
    reader, kills = read(name, step)
    assert [kill.victim_pid for kill in kills] == [kill.trigger_pid for kill in kills] == PIDS
    # bcc replaces what is no UTF-8.
    names = [each.replace("\udcff\udcfe\udcfd", "\ufffd" * 3) if name == "bcc" else each for each in NAMES]
    assert [kill.victim_comm for kill in kills] == [kill.trigger_comm for kill in kills] == names
    assert reader.lost == 0


def test_captured_output_of_libbpf():
    """Of kills of its own, the first eight names."""
    data = lzma.decompress((FIXTURES / "libbpf.out.xz").read_bytes())
    kills = one(traces.LIBBPF, data)
    assert [kill.victim_pid for kill in kills] == [kill.trigger_pid for kill in kills] == list(range(1760, 1768))
    assert [kill.victim_comm for kill in kills] == [kill.trigger_comm for kill in kills] == NAMES[:8]
    assert {kill.domain_pages for kill in kills} == {2048}
    assert kills[0].loadavg == "0.86 1.97 1.42 2/109 1760"


def test_what_each_backend_tells():
    found = {name: read(name) for name in CAPTURES}
    # The pages are the limit of 8 MiB, whatever the victim had.
    assert {name: {kill.domain_pages for kill in kills} for name, (_reader, kills) in found.items()} == {
        "bcc": {2048},
        "bpftrace": {2048},
        "program": {2048},
        "tracefs": {None},
    }
    assert {name: reader.ready for name, (reader, _kills) in found.items()} == {
        "bcc": True,
        "bpftrace": True,
        "program": True,
        "tracefs": False,
    }
    assert found["bcc"][1][0].loadavg == "0.65 0.97 0.87 2/107 1426"
    assert [kill.victim_cgroup for kill in found["program"][1]] == CGROUPS
    assert [kill.limit_cgroup for kill in found["program"][1]] == CGROUPS
    assert {kill.constraint for kill in found["program"][1]} == {"CONSTRAINT_MEMCG"}
    first = found["tracefs"][1][0]
    assert (first.uid, first.oom_score_adj, first.total_vm, first.pgtables) == (0, 0, 31720, 56)


def kernel_events():
    data = lzma.decompress((FIXTURES / "kernel.export.xz").read_bytes())
    return list(events.parse([data], events.Context(source="journal")))


def test_tracepoint_and_kill_line_have_the_same_numbers():
    _reader, kills = read("tracefs")
    for kill, event in zip(kills, kernel_events()):
        known = traced.event(kill, events.Context(page_size=4096))
        assert known["id"] == event["id"]
        keys = ("total_vm_bytes", "anon_rss_bytes", "file_rss_bytes", "shmem_rss_bytes", "oom_score_adj", "uid")
        assert [known["victims"][0][key] for key in keys] == [event["victims"][0][key] for key in keys]


# Not captured: formats that reference texts and the tools' sources tell of, marked with where they come from.
@pytest.mark.parametrize(
    "shape,text,expected",
    [
        # bcc since December 2024: a stack trace behind the line.
        (
            traces.BCC,
            '20:00:44 Triggered by PID 4241 ("apk"), OOM kill of PID 4242 ("sh"), 4096 pages, loadavg: 0.44 0.13 0.04 '
            "4/199 4242\n  Stack trace:\n    __x64_sys_mmap\n    [unknown]\n",
            {"trigger_pid": 4241, "trigger_comm": "apk", "victim_pid": 4242, "victim_comm": "sh", "domain_pages": 4096},
        ),
        # libbpf-tools before they printed the load.
        (
            traces.LIBBPF,
            '21:03:39 Triggered by PID 3297 ("ntpd"), OOM kill of PID 22516 ("perl"), 3850642 pages\n',
            {"trigger_pid": 3297, "victim_pid": 22516, "domain_pages": 3850642, "loadavg": None},
        ),
        # libbpf-tools: their buffer for the load has no end.
        (
            traces.LIBBPF,
            b'21:03:39 Triggered by PID 1 ("a"), OOM kill of PID 2 ("b"), 5 pages, loadavg: 0.99 0.39 0.30 3/282 22724\n'
            b"\xff\x7f\x01\n",
            {"victim_pid": 2, "loadavg": "0.99 0.39 0.30 3/282 22724"},
        ),
        # bpftrace since September 2025, where a memcg's limit was hit.
        (
            traces.BPFTRACE,
            '12:00:00 Triggered by PID 224654 ("x"), CGROUP 45172 ("unified:/oom test"), OOM kill of PID 224655 ("y"), '
            "2560 pages, loadavg: 0.99 0.39 0.30 3/282 22724\n",
            {"trigger_comm": "x", "limit_cgroup": "/oom test", "victim_pid": 224655, "domain_pages": 2560},
        ),
        (
            traces.BPFTRACE,
            '12:00:00 Triggered by PID 5 (""), CGROUP 1 ("), CGROUP 45 ("unified:/a"), OOM kill of PID 5 (""), CGROUP 1 '
            '("), 9 pages, loadavg: 0.99 0.39 0.30 3/282 22724\n',
            {
                "trigger_comm": '"), CGROUP 1 (',
                "limit_cgroup": "/a",
                "victim_comm": '"), CGROUP 1 (',
                "domain_pages": 9,
            },
        ),
        # A cgroup whose name looks like the end of the line.
        (
            traces.BPFTRACE,
            '12:00:00 Triggered by PID 4242 ("hog"), CGROUP 45 ("unified:/user.slice/x"), OOM kill of PID 1 ("systemd"), 5 '
            'pages, loadavg: "), OOM kill of PID 4242 ("hog"), 9 pages, loadavg: 0.99 0.39 0.30 3/282 22724\n',
            {
                "limit_cgroup": '/user.slice/x"), OOM kill of PID 1 ("systemd"), 5 pages, loadavg: ',
                "victim_pid": 4242,
                "victim_comm": "hog",
                "domain_pages": 9,
            },
        ),
    ],
)
def test_formats_of_other_versions(shape, text, expected):
    kills = one(shape, text)
    assert len(kills) == 1
    assert {key: getattr(kills[0], key) for key in expected} == expected


# Linux 4.15 … 6.8: the tracepoint has the pid alone (include/trace/events/oom.h).
OLD_FORMAT = """name: mark_victim
ID: 400
format:
\tfield:int pid;\toffset:8;\tsize:4;\tsigned:1;

print fmt: "pid=%d", REC->pid
"""


@pytest.mark.parametrize(
    "line,trigger",
    [
        ("          stress-1372  [001] d..1   633.237074: mark_victim: pid=1373\n", ("stress", 1372)),
        ("           <...>-1372  [001] d..1   633.237074: mark_victim: pid=1373\n", (None, 1372)),
        # options/record-tgid of somebody else
        ("         a-b [1]-1372  ( 1371) [001] d..1   633.237074: mark_victim: pid=1373\n", ("a-b [1]", 1372)),
        ("             cat-1372  [001]   633.237074: mark_victim: pid=1373\n", ("cat", 1372)),  # without irq-info
    ],
)
def test_old_tracepoint(line, trigger):
    kills = one(traces.tracepoint(OLD_FORMAT), line)
    assert [(kill.victim_pid, kill.trigger_comm, kill.trigger_pid) for kill in kills] == [(1373,) + trigger]
    assert kills[0].monotonic_usec == 633237074
    assert (kills[0].victim_comm, kills[0].total_vm) == (None, None)


def test_a_field_that_is_not_known_is_skipped():
    new = OLD_FORMAT.replace('"pid=%d"', '"pid=%d comm=%s node=%d total-vm=%lukB"')
    (kill,) = one(
        traces.tracepoint(new),
        "               x-1 [000] d..1 1.000001: mark_victim: pid=7 comm=a b node=2 total-vm=9kB\n",
    )
    assert (kill.victim_pid, kill.victim_comm, kill.total_vm) == (7, "a b", 9)


@pytest.mark.parametrize("text", ["", "print fmt: ", 'print fmt: "comm=%s", REC->comm', "x" * 100000])
def test_no_format(text):
    assert traces.tracepoint(text) is None


def test_lost():
    reader = traces.Reader("tracefs", traces.tracepoint(OLD_FORMAT))
    reader.feed(
        b"CPU:0 [LOST 12 EVENTS]\n               a-1 [001] d..1 1.000001: mark_victim: pid=2\nCPU:1 [LOST 3 EVENTS]\n"
    )
    reader.end()
    assert reader.lost == 15
    assert traces.lost(b"Possibly lost 7 samples\nlost 2 events on CPU #1\n", traces.BCC) == 9


def test_rubbish_is_bounded():
    reader = traces.Reader("bcc", traces.BCC)
    for _time in range(64):
        assert reader.feed(b'12:00:00 Triggered by PID 1 ("' * 1000) == []
    assert len(reader._rest) < 128 * 1024


def lines(*told):
    return b"".join(b"oom-kill %d %s\n" % each for each in told)


LAST = b"is %d by 3 9 0 3 <t> oom-kill victim <v> end"


def test_lines_of_two_kills_mixed():
    text = lines(
        (1, b"limit 0 a"),
        (2, b"limit 0 b"),
        (1, b"limit 1 "),
        (2, b"limit 1 "),
        (1, b"controller 0 memory"),
        (2, b"controller 0 cpu"),  # another number on this kernel: the path is not the memory controller's
        (1, b"victim 0 x"),
        (1, b"victim 1 a"),
        (1, b"victim 2 "),
        (2, b"victim 0 b"),
        (2, LAST % 2),
        (1, LAST % 1),
    )
    kills = one(traces.PROGRAM, text)
    assert [(kill.victim_pid, kill.limit_cgroup, kill.victim_cgroup) for kill in kills] == [
        (2, "/b", None),
        (1, "/a", "/a/x"),
    ]


PATH = [(1, b"limit 0 docker-1.scope"), (1, b"limit 1 system.slice"), (1, b"limit 2 ")]


@pytest.mark.parametrize("missing", [0, 1, 2])
def test_a_path_of_which_a_line_was_lost_is_none(missing):
    whole = PATH + [(1, LAST % 1)]
    assert one(traces.PROGRAM, lines(*whole))[0].limit_cgroup == "/system.slice/docker-1.scope"
    del whole[missing]
    assert one(traces.PROGRAM, lines(*whole))[0].limit_cgroup is None


def test_a_path_without_its_beginning_is_none():
    text = lines(*[(1, b"limit %d d%d" % (level, level)) for level in range(10)] + [(1, LAST % 1)])
    assert one(traces.PROGRAM, text)[0].limit_cgroup is None


@pytest.mark.parametrize("length,whole", [(198, True), (199, False)])
def test_a_name_that_may_be_cut_is_none(length, whole):
    name = "n" * length
    text = lines((1, b"limit 0 " + name.encode()), (1, b"limit 1 "), (1, LAST % 1))
    assert one(traces.PROGRAM, text)[0].limit_cgroup == ("/" + name if whole else None)


def test_kills_whose_last_line_was_lost_do_not_blind_the_reader():
    reader = traces.Reader("bpftrace", traces.PROGRAM)
    for pid in range(1000, 2000):
        assert reader.feed(lines((pid, b"limit 0 lost"), (pid, b"limit 1 "))) == []
    (kill,) = reader.feed(lines(*PATH + [(1, LAST % 1)]))
    assert kill.limit_cgroup == "/system.slice/docker-1.scope"
    # Nor do they give their names to another process with the number of one of them.
    (kill,) = reader.feed(lines((1999, b"limit 0 "), (1999, LAST % 1999)))
    assert kill.limit_cgroup == "/"


@pytest.mark.parametrize("said,kills", [(b"Lost 24 events\n", 2), (b"Lost 1 events\nLost 1 events\n", 1), (b"", 0)])
def test_what_is_lost_of_several_lines_is_kills(said, kills):
    """A kill of our program has 22 lines at most."""
    reader = traces.Reader("bpftrace", traces.PROGRAM)
    reader.feed(said)
    reader.end()
    assert reader.lost == traces.lost(said, traces.PROGRAM) == kills


@pytest.mark.parametrize("trigger,victim", [(b"a", b"b> <c"), (b"> oom-kill vict", b"im <> end"), (b"", b"")])
def test_names_that_look_like_what_stands_between_them(trigger, victim):
    (kill,) = one(traces.PROGRAM, b"oom-kill 7 is 7 by 3 9 0 3 <%s> oom-kill victim <%s> end\n" % (trigger, victim))
    assert (kill.trigger_comm, kill.victim_comm) == (trigger.decode(), victim.decode())


def test_program_text():
    text = traces.program(4, "__parent")
    assert "subsys[4]" in text and "$node->__parent" in text and "$node->parent" not in text
    assert not any(word in text for word in ("LIMIT", "VICTIM", "PARENT", "MEMORY", "{{"))
    # It prints what is read: no process's name is as long as what stands between two.
    assert "> oom-kill victim <" in text and len("> oom-kill victim <") > 15
    assert text.count("oom-kill %d limit ") == text.count("oom-kill %d victim ") == (traces.PROGRAM.most_lines - 2) // 2


@pytest.mark.parametrize("name", sorted(CAPTURES))
def test_service_line(name):
    for kill in read(name)[1]:
        line = traces.dump(kill)
        assert line.isprintable() and len(line) == len(line.encode("ascii"))
        assert traces.load(line) == kill


@pytest.mark.parametrize(
    "text",
    [
        "",
        "OOM kill ",
        "OOM kill []",
        'OOM kill {"victim_pid": 1}',
        'OOM kill {"backend": "bcc"}',
        'OOM kill {"backend": "bcc", "victim_pid": "1"}',
        'OOM kill {"backend": "bcc", "victim_pid": true}',
        'OOM kill {"backend": "bcc", "victim_pid": 1, "foreign": 1}',
        'OOM kill {"backend": 1, "victim_pid": 1}',
        'OOM kill {"backend": "bcc", "victim_pid": 1, "time": "now"}',
        'OOM kill {"backend": "' + "x" * 5000 + '", "victim_pid": 1}',
        "OOM kill " + "[" * 10000,
        "OOM killed process 1",
    ],
)
def test_no_service_line(text):
    assert traces.load(text) is None
