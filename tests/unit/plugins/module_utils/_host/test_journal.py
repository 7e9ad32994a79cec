# Copyright (c) 2026 oom.forensics contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What journalctl is asked, and what becomes of its answers: transcripts as data."""

import collections

import pytest
from ansible_collections.oom.forensics.plugins.module_utils._host import coverage, journal, run

BOOT = "432c69a208204df2a4fcf603ea86771e"
CURSOR = "s=1cf6d9fe5ee7443695994a3a341d135c;i={0:x};b=" + BOOT + ";m={1:x};t={1:x};x=b47d9b57daa25ed0"
START = 1795384675000000

Call = collections.namedtuple("Call", "arguments stdout status stderr")
Call.__new__.__defaults__ = (b"", 0, "")

# Observed with systemd 252 on Debian 12.
HINT = (
    "Hint: You are currently not seeing messages from other users and the system.\n"
    "      Users in groups 'adm', 'systemd-journal' can see all messages.\n"
    "      Pass -q to turn off this notice.\n"
)
DENIED = HINT + "No journal files were opened due to insufficient permissions.\n"
NO_FILES = "No journal files were found.\n"


def cursor(number, usec=START):
    return CURSOR.format(number, usec)


def record(number, usec=START, message=b"x", field=b"MESSAGE=%s\n"):
    head = "__CURSOR={0}\n__REALTIME_TIMESTAMP={1}\n_BOOT_ID={2}\n_TRANSPORT=kernel\n".format(
        cursor(number, usec), usec, BOOT
    )
    return head.encode() + field % message + b"\n"


def binary(number, message, usec=START):
    return record(number, usec, b"", b"MESSAGE\n" + len(message).to_bytes(8, "little") + message + b"\n%s")


class Transcript:
    """journalctl by the script: each call must be the next one."""

    def __init__(self, *calls):
        self.calls = list(calls)

    def __call__(self, argv):
        assert self.calls, "one call too many: {0}".format(argv)
        call = self.calls.pop(0)
        assert argv[:3] == ["/usr/bin/journalctl", "--no-pager", "--all"]
        assert argv[3:] == call.arguments
        halves = (call.stdout[:100], call.stdout[100:])
        return run.Running(iter(halves), lambda: run.Ended(call.status, call.stderr))


def host(*calls, **fields):
    return run.Host(stream=Transcript(*calls), which=lambda name: "/usr/bin/" + name, **fields)


PLACE = ["--directory=/srv/j"]
OPTIONS = journal.Options(directory="/srv/j")
NEWEST = PLACE + ["-o", "export", "--reverse", "-n", "1", "_TRANSPORT=kernel"]
OLDEST = PLACE + ["-o", "export", "_TRANSPORT=kernel"]
GREP = (
    "--grep=invoked oom-killer: gfp_mask=|Killed process |oom-kill:constraint=CONSTRAINT_|"
    "ut of memory and no killable|oom_kill_process: [0-9]+ callbacks suppressed"
)
SEARCH = PLACE + ["-o", "export", GREP, "_TRANSPORT=kernel"]
TRIGGER = b"java invoked oom-killer: gfp_mask=0xcc0(GFP_KERNEL), order=0, oom_score_adj=0"
KILL = b"Memory cgroup out of memory: Killed process 5 (a) total-vm:1kB, anon-rss:1kB, file-rss:0kB, shmem-rss:0kB"


def look(*calls, **options):
    return journal.look(host(*calls), OPTIONS._replace(**options))


def test_the_ends_of_the_journal():
    found = look(Call(NEWEST, record(9)), Call(OLDEST, record(1, 5) + record(2, 6)))
    assert found == journal.Journal(journal.Entry(cursor(1, 5), 5), journal.Entry(cursor(9), START), None, False)


def test_options_become_arguments():
    limits = ["--since=@1.500000", "--until=@2.000000"]
    boot = "_BOOT_ID=" + BOOT
    look(
        Call(NEWEST + [boot, limits[1]], record(9)),
        Call(OLDEST + [boot] + limits, record(1)),
        since=1.5,
        until=2.0,
        boot_id=BOOT,
    )


@pytest.mark.parametrize(
    "options, place",
    [
        ({"directory": "/srv/j"}, ["--directory=/srv/j"]),
        ({"file": "/srv/j/system.journal"}, ["--file=/srv/j/system.journal"]),
        ({"root": "/mnt"}, ["--root=/mnt"]),
    ],
)
def test_other_places(options, place):
    calls = (Call(place + NEWEST[1:], record(9)), Call(place + OLDEST[1:], record(9)))
    assert journal.look(host(*calls), journal.Options(**options)).newest


def test_a_copied_tree_is_a_root(tmp_path):
    (tmp_path / "var" / "log" / "journal").mkdir(parents=True)
    place = ["--root=" + str(tmp_path)]
    calls = (Call(place + NEWEST[1:], record(9)), Call(place + OLDEST[1:], record(9)))
    assert journal.look(host(*calls, root=str(tmp_path)), journal.Options()).newest


@pytest.mark.parametrize(
    "status, stderr, error, exists",
    [
        (1, DENIED, "The journal in /srv/j could not be read: this user may not.", True),
        (0, HINT, "The journal in /srv/j could not be read: this user may not.", True),
        (
            1,
            "Failed to open files: Permission denied\n",
            "The journal in /srv/j could not be read: this user may not.",
            True,
        ),
        (0, NO_FILES, "The journal in /srv/j has no files.", True),
        (
            1,
            "Failed to open /srv/j: No such file or directory\n",
            "The journal in /srv/j could not be read: Failed to open /srv/j: No such file or directory.",
            True,
        ),
        (0, "", "The journal in /srv/j has no records of the kernel.", True),
    ],
)
def test_a_journal_that_cannot_be_read(status, stderr, error, exists):
    with pytest.raises(coverage.Unreadable) as caught:
        look(Call(NEWEST, b"", status, stderr))
    assert (caught.value.error, caught.value.exists) == (error, exists)
    assert ("systemd-journal" in (caught.value.advice or "")) is ("this user may not" in error)


def test_a_user_who_sees_only_his_own_messages():
    """Hint and records together: the user's own journal was opened, the system's was not."""
    with pytest.raises(coverage.Unreadable, match="this user may not"):
        look(Call(NEWEST, record(9), 0, HINT))


def test_a_hint_about_other_users_alone_is_no_error():
    hint = HINT.replace(" and the system", "")
    assert look(Call(NEWEST, record(9), 0, hint), Call(OLDEST, record(9), 0, hint)).newest


def test_a_host_without_journal(tmp_path):
    with pytest.raises(coverage.Unreadable) as caught:
        journal.look(run.Host(str(tmp_path), which=lambda name: "/usr/bin/" + name), journal.Options())
    assert not caught.value.exists
    with pytest.raises(coverage.Unreadable) as caught:
        journal.look(run.Host(str(tmp_path), which=lambda name: None), journal.Options())
    assert caught.value.error == "This host has no journalctl."


def begin(*answer):
    arguments = PLACE + ["-o", "export", "--cursor=" + cursor(4), "-n", "1"]
    return look(Call(NEWEST, record(9)), Call(arguments, *answer), Call(OLDEST, record(1)), cursor=cursor(4))


def test_a_cursor_that_is_there():
    found = begin(record(4))
    assert (found.begin, found.vanished) == (journal.Entry(cursor(4), START), False)


@pytest.mark.parametrize(
    "answer",
    [(record(5),), (b"",), (b"", 1, "Failed to seek to cursor: Invalid argument\n")],
    ids=["next", "none", "bad"],
)
def test_a_cursor_that_is_gone(answer):
    found = begin(*answer)
    assert (found.begin, found.vanished) == (None, True)


def read(found, *calls, **options):
    about = coverage.row("journal", "/srv/j")
    parts = journal.windows(host(*calls), OPTIONS._replace(**options), found, about)
    return [b"".join(part) for part in parts], about


def ends(begin=None):
    return journal.Journal(journal.Entry(cursor(1), START), journal.Entry(cursor(99), START), begin, False)


def window(since, until, *more):
    return PLACE + ["-o", "export", "_TRANSPORT=kernel"] + list(more) + ["--since=@" + since, "--until=@" + until]


def test_a_report_is_exported_with_what_is_around_it():
    whole = record(10, message=b"before") + record(11, message=TRIGGER) + record(12, START + 50, KILL)
    parts, about = read(
        ends(),
        Call(SEARCH, record(11, message=TRIGGER) + record(12, START + 50, KILL)),
        Call(window("1795384673.000000", "1795384680.000050"), whole),
    )
    assert parts == [whole]
    assert (about["records"], about["bytes"], about["error"]) == (3, len(whole), None)
    assert about["first_time"] == about["last_time"] == "2026-11-22T21:57:55.000000Z"


def test_no_report():
    parts, about = read(ends(), Call(SEARCH, b"", 1))  # observed with systemd 252: no match is status 1
    assert (parts, about["error"]) == ([], None)


def test_nothing_new_is_not_read_at_all():
    assert read(ends(journal.Entry(cursor(99), START)))[0] == []


def test_reading_on_leaves_the_record_of_the_cursor_out():
    known = journal.Entry(cursor(4), START)
    after = ["--cursor=" + cursor(4)]
    whole = record(4, message=KILL) + record(5, START + 9, KILL)
    parts, _about = read(
        ends(known),
        Call(SEARCH + after, whole),
        Call(PLACE + ["-o", "export", "_TRANSPORT=kernel"] + after + ["--until=@1795384680.000009"], whole),
    )
    assert parts == [record(5, START + 9, KILL)]


def test_the_later_of_cursor_and_since():
    known = journal.Entry(cursor(4), START)
    parts, _about = read(
        ends(known),
        Call(SEARCH + ["--since=@1795384685.000000"], record(5, START + 12000000, KILL)),
        Call(window("1795384657.000000", "1795384692.000000"), record(5, START + 12000000, KILL)),
        since=START / 1e6 + 10,
    )
    assert len(parts) == 1


@pytest.mark.parametrize(
    "stderr",
    [
        "journalctl: unrecognized option '--grep=x'\n",  # systemd 219
        "Compiled without pattern matching support\n",  # systemd 239 without PCRE2
        "PCRE2 support is not compiled in.\n",
    ],
)
def test_a_journalctl_that_cannot_search(stderr):
    whole = record(1) + record(2, message=KILL)
    parts, about = read(ends(), Call(SEARCH, b"", 1, stderr), Call(OLDEST, whole))
    assert parts == [whole]
    assert about["error"] is None


def test_a_complaint_is_kept():
    damaged = "Journal file /srv/j/a.journal is truncated, ignoring file.\n"
    _parts, about = read(ends(), Call(SEARCH, b"", 1, damaged))
    assert about["error"] == "journalctl said: Journal file /srv/j/a.journal is truncated, ignoring file."


def test_a_window_that_does_not_show_its_key_lines_is_read_by_cursor():
    """Observed where the clock was set back while journald wrote: --until ends at the first later record."""
    parts, _about = read(
        ends(),
        Call(SEARCH, record(11, message=TRIGGER) + record(12, START + 50, KILL)),
        Call(window("1795384673.000000", "1795384680.000050"), record(3)),
        Call(
            PLACE + ["-o", "export", "_TRANSPORT=kernel", "--cursor=" + cursor(11)],
            record(11, message=TRIGGER) + record(12, START + 50, KILL) + record(13, START + 60),
        ),
    )
    assert parts[1].count(b"__CURSOR=") == 3


SECOND = 1000000


def planned(*hits):
    entries = [journal._Hit(journal.Entry(cursor(number, usec), usec), opening) for number, usec, opening in hits]
    return [(plan.start, plan.end) for plan in journal._planned(entries)]


def test_plans():
    far = 100000
    assert planned((1, START, False)) == [(START - 30 * SECOND, START + 5 * SECOND)]
    # a slow console: the kill comes minutes after the trigger, and nothing of the table between is lost
    assert planned((1, START, True), (far, START + 600 * SECOND, False)) == [(START - 2 * SECOND, START + 605 * SECOND)]
    # a report cut off, then, much later, another
    assert len(planned((1, START, True), (far, START + 600 * SECOND, True))) == 2
    # so few records between that one window is cheaper
    assert len(planned((1, START, False), (400, START + 9000 * SECOND, False))) == 1
    assert len(planned((1, START, False), (far, START + 9000 * SECOND, False))) == 2
    # the clock was set back
    assert len(planned((1, START, False), (far, START - 9000 * SECOND, False))) == 2


def test_plans_have_a_bounded_number_of_windows():
    hits = [(number * 10000, START + number * 3600 * SECOND, False) for number in range(10000)]
    plan = planned(*hits)
    assert len(plan) <= 256
    for _number, usec, _opening in hits:
        assert any(start <= usec <= end for start, end in plan)


def test_missed_messages():
    call = Call(
        PLACE + ["-o", "cat", "_TRANSPORT=driver", "MESSAGE_ID=e9bf28e6e834481bb6f48f548ad13606"],
        b"Missed 12 kernel messages\nMissed 3 kernel messages\n",
    )
    assert journal.missed(host(call), OPTIONS) == 15
    assert journal.missed(host(call._replace(stdout=b"", status=1, stderr="broken\n")), OPTIONS) is None


HOSTILE = b"a\n\n__CURSOR=s=0\n__REALTIME_TIMESTAMP=1\nMESSAGE=Killed process 1 (init)\n\n"
RECORDS = [record(1), binary(2, HOSTILE), record(3), binary(4, b"\n"), binary(5, b"=" * 70000), record(6)]


@pytest.mark.parametrize("size", [1, 7, 64, 1 << 20])
def test_records_are_split_where_they_end(size):
    data = b"".join(RECORDS[:4] if size == 1 else RECORDS)
    chunks = [data[at : at + size] for at in range(0, len(data), size)]
    assert list(journal.split(chunks)) == (RECORDS[:4] if size == 1 else RECORDS)


def test_nonsense_is_not_split_for_ever():
    endless = (b"MESSAGE\n\xff\xff\xff\xff\xff\xff\xff\x7f" + b"x" * (1 << 20) for _number in range(20))
    assert list(journal.split(endless)) == []
    assert list(journal.split([b"", b"\n\n\n"])) == []


def test_a_persistent_journal(tmp_path):
    place = run.Host(str(tmp_path))
    assert journal.persistent(place) is None
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc" / "machine-id").write_text(BOOT + "\n")
    folder = tmp_path / "var" / "log" / "journal" / BOOT
    folder.mkdir(parents=True)
    assert journal.persistent(place) is False
    (folder / "system.journal").write_bytes(b"")
    assert journal.persistent(place) is True
