# Copyright (c) 2026 oom.forensics contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where the parser is quick, it says what it says where it is careful."""

import re

import pytest
from ansible_collections.oom.forensics.plugins.module_utils._oom import (
    events,
    framing,
    lines,
    meminfo,
    patterns,
    report,
    rows,
    skim,
    times,
)

SYSLOG = "Nov 22 21:50:%02d gw kernel: [ 1069.40450%d] "
INDENT = " " * 12


def block(*texts):
    """Lines of one syslog stream: a text that is indented is no record of its own."""
    out = []
    for number, text in enumerate(texts):
        out.append(text if text.startswith(INDENT) else SYSLOG % (number, number % 10) + text)
    return "\n".join(out)


BLOCKS = {
    "plain": ("Mem-Info:", "anon 1", "  dump_stack+0x1/0x2"),
    "continued": ("anon 1", INDENT + "file 2", INDENT + "shmem 3", "Tasks state"),
    "continued deeper": ("anon 1", INDENT + "   file 2", INDENT + "   shmem 3"),
    "continued unevenly": ("anon 1", INDENT + "file 2", INDENT + "    shmem 3"),
    "continued beyond the prefix": ("anon 1", " " * 60 + "file 2", " " * 60 + "shmem 3"),
    "continued with a tab": ("anon 1", INDENT + "\tfile 2"),
    "continued by nothing": ("anon 1", INDENT, "shmem 3"),
    "continued and escaped": ("anon\\x01 1", INDENT + "file\\x01 2"),
    "escaped": ("a\\x1bb", "c\\x0ad"),
    "continued, and a backslash that escapes nothing": ("a\\b 1", INDENT + "file\\ 2"),
    "a prefix in a name": ("x gw kernel: [    1.000000] y invoked oom-killer: gfp_mask=0x0", "Mem-Info:"),
}


@pytest.mark.parametrize("name", sorted(BLOCKS))
def test_blocks_are_cut_as_lines_are(name):
    text = block("first", *BLOCKS[name])
    quick, careful = framing.Lines(), framing.Lines()
    for each in (quick, careful):
        each.rows((block("learn") + "\n").encode())
    at_once = quick._records(text)
    one_by_one = careful._one_by_one(text.split("\n"))
    assert one_by_one.texts[0] == "first"
    if at_once is None:
        assert name == "continued and escaped"
        at_once = quick.rows(text.encode())
    assert at_once.texts == one_by_one.texts
    assert list(at_once.wheres) == list(one_by_one.wheres)


@pytest.mark.parametrize(
    "stray",
    ["Nov 22 21:50:30 gw sshd[1]: hello", "", "  two blanks only", "[ 1069.404502] without the daemon's stamp"],
)
def test_other_lines_are_not_swallowed_by_the_record_before(stray):
    lines_of = framing.Lines()
    lines_of.rows((block("learn") + "\n").encode())
    text = "\n".join([block("one"), stray, block("two")])
    assert lines_of._records(text) is None


def test_a_prefix_of_other_width_is_learned_again():
    lines_of = framing.Lines()
    text = b"Nov 22 21:50:30 gw kernel: [ 1069.404502] a 1\nNov 22 21:50:30 gw kernel: [ 1069.404503] b 2\n"
    other = text.replace(b" gw ", b" gateway ")
    assert [lines_of.rows(each).texts for each in (text, other, text)] == [["a 1", "b 2"]] * 3


def test_lazy_patterns_are_patterns():
    text = patterns.lazy(r"(\d)", re.A)
    assert text.sub("x", "a1") == "ax"
    assert text.search("a1").group(1) == "1"
    assert text.findall("12") == re.compile(r"(\d)").findall("12")
    assert text.groups == 1
    assert patterns.lazy(rb"\d").match(b"1")
    with pytest.raises(re.error):
        patterns.lazy("(").match("")


def test_the_bytes_of_needles():
    common, own = skim._bytes_of(skim.NEEDLES)
    assert common
    for needle in skim.NEEDLES:
        assert common | own[needle] == set(needle)
    assert skim._bytes_of((b"abc", b"xyc")) == ({99}, {b"abc": {97, 98}, b"xyc": {120, 121}})


@pytest.mark.parametrize("needle", skim.NEEDLES + skim.JSON_NEEDLES)
@pytest.mark.parametrize("filler", [b"DROP=1 ", b"is said in colours ", bytes(range(32, 127))])
def test_a_needle_is_found_wherever_a_chunk_ends(needle, filler):
    """In texts with none, some and all bytes of the needles."""
    padding = (filler * 16 + b"\n") * 4000
    data = padding + b"x " + needle + b" y\n" + padding
    begin = len(padding)
    for cut in list(range(begin - 2, begin + len(needle) + 4)) + [len(data)]:
        chunks = [data[:cut], data[cut:]]
        found = b"".join(skim.blocks(chunks, lambda: skim.COLD, (needle,)))
        assert needle in found, cut


def test_numbers_that_are_no_decimals_do_not_raise():
    """str.isdigit() says yes to a superscript, int() does not take it."""
    odd = "\u00b2"
    text = "\n".join(
        [
            "[    1.000001] a invoked oom-killer: gfp_mask=0x0, order=0, oom_score_adj=0",
            "[    1.000002] Mem-Info:",
            "[    1.000003] active_anon:1 inactive_anon:1 isolated_anon:0",
            "[    1.000004] Node 0 DMA free:4kB min:4kB",
            "[    1.000005] lowmem_reserve[]: 0 %s 5" % odd,
            "[    1.000006] Memory cgroup stats for /a:",
            "[    1.000007] anon %s" % odd,
            "[    1.000008] file 3",
            "[    1.000009] [  pid  ]   uid  tgid total_vm      rss oom_score_adj name",
            "[    1.000010] [      7]     0     7       %s        1             0 x" % odd,
            "[    1.000011] Killed process 7 (x) total-vm:4kB, anon-rss:4kB, file-rss:0kB",
        ]
    )
    (event,) = events.parse([text.encode("utf-8")])
    assert event["cgroup_stat"] == {"file": 3}
    assert event["tasks"] == []
    assert len(event["host_memory"]["zones"][0]["lowmem_reserve_bytes"]) == 2


TAIL = " total-vm:8kB, anon-rss:4kB, file-rss:0kB, shmem-rss:0kB, UID:0 pgtables:52kB oom_score_adj:-5"


@pytest.mark.parametrize("comm", ["a", "", "a) (b", ") total-vm:1kB", "a\nb", "Killed process"])
@pytest.mark.parametrize("reason", ["", "Out of memory: ", "Memory cgroup out of memory: "])
def test_regular_kill_lines(comm, reason):
    quick = lines.kill(reason + "Killed process 12 (" + comm + ")" + TAIL)
    careful = lines.kill(reason + "Killed process 12 (" + comm + ")," + TAIL)  # a comma that no kernel here prints
    assert quick == careful
    assert quick.comm == comm and quick.whole
    assert quick[5:10] == (4, 0, 0, 52, -5)


def test_days_are_the_inverse_of_dates():
    for day in list(range(-720000, 720000, 997)) + list(range(10956, 11500)):
        assert times._days(*times._civil(day)) == day


@pytest.mark.parametrize(
    "date", [(2023, 2, 29), (1900, 2, 29), (2024, 4, 31), (2024, 0, 1), (2024, 13, 1), (2024, 1, 0)]
)
def test_dates_that_are_none(date):
    with pytest.raises(ValueError):
        times._utc(*(date + (0, 0, 0)))


PREFIXES = [
    "Nov 22 21:50:30 gw kernel: [ 1069.404502] ",
    "2024-01-02T03:04:05.123456+01:00 gw kernel: ",
    "1700000000.123456 gw kernel: ",
    "1700000000.123456 gw kernel: [ 1069.404502] ",
    "6,339,5140900,-,caller=T1;",
    "[ 1069.404502] [T12] ",
    "[Tue Nov 22 21:50:30 2022] ",
    "",
]


@pytest.mark.parametrize("prefix", PREFIXES)
def test_parts_of_a_prefix(prefix):
    whole = rows.stamp(prefix)
    assert rows.place(prefix) == (whole.position, whole.sequence)
    assert rows.monotonic(prefix) == whole.monotonic_usec
    assert rows.place(whole) == (whole.position, whole.sequence)
    assert rows.monotonic(whole) == whole.monotonic_usec


def test_numbers_longer_than_the_kernels_do_not_raise():
    """int() refuses more than 4300 digits (Python 3.11 and newer)."""
    header = "[  pid  ]   uid  tgid total_vm      rss oom_score_adj name"
    row = "[      7]     0     7        1        1             %s x"
    text = "\n".join(
        ["a invoked oom-killer: gfp_mask=0x0, order=0, oom_score_adj=0", header, row % "0", row % ("1" * 5000)]
    )
    (event,) = events.parse([text.encode()])
    assert [task["pid"] for task in event["tasks"]] == [7]


def test_a_journal_time_that_is_no_decimal_does_not_raise():
    kill = '"MESSAGE":"Out of memory: Killed process 7 (x) total-vm:4kB, anon-rss:4kB, file-rss:0kB"'
    record = '{"_TRANSPORT":"kernel","__REALTIME_TIMESTAMP":"17953\u00b2",%s}\n' % kill
    (event,) = events.parse([record.encode("utf-8")])
    assert event["victims"][0]["pid"] == 7 and event["time"] is None


def test_columns_of_one_key_are_summed():
    columns = lines.table_header("[ pid ]   uid  tgid total_vm      rss nr_ptes nr_pmds swapents oom_score_adj name")
    row = "[    9]  1000     9     8778     8383      22       3       10             0 my hog"
    (task,), total = lines.table(columns, [row, "no row"], 4096, None)
    assert total == 1
    assert task["pgtables_bytes"] == 25 * 4096
    assert list(task) == [key for key in lines.TASK_KEYS if key != "name"] + ["name"]


def test_no_task_is_kept_where_none_is_wanted_and_all_are_counted():
    columns = lines.table_header("[ pid ]   uid  tgid total_vm      rss nr_ptes swapents oom_score_adj name")
    rows = ["[  842]     0   842     3204      900      12        0             0 sh"] * 3
    assert lines.table(columns, rows, 4096, 0) == ([], 3)


@pytest.mark.parametrize(
    "line, expected",
    [
        ("7 pages RAM", 28672),
        ("7 pages RAM \t", 28672),
        ("7  pages RAM", None),
        ("7 pages RAM too", None),
        ("7\u00b2 pages RAM", None),
    ],
)
def test_page_lines(line, expected):
    memory = meminfo.host_memory(["active_anon:1 inactive_anon:1 isolated_anon:0", line], 4096)
    assert memory["ram_bytes"] == expected


@pytest.mark.parametrize(
    "text, shown", [("a b", "a b"), ("\u00e9", "\u00e9"), ("\udcff\u00e9", "\\xff\u00e9"), (None, None)]
)
def test_printable(text, shown):
    assert report.printable(text) == shown


def test_the_page_size_comes_from_the_row_of_the_victim_alone():
    texts = ["[  pid  ]   uid  tgid total_vm      rss oom_score_adj name"]
    texts += [
        "[    712]     0   712      100        1             0 7",
        "[     71]     0    71        1        1        0 x",
    ]
    sections = report._sections(texts, "\n".join(texts))
    kill = lines.kill("Killed process 71 (x) total-vm:64kB, anon-rss:4kB, file-rss:0kB")
    assert report._page_size(sections, texts, kill) == 65536
