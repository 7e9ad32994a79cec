# Copyright (c) 2026 oom.forensics contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The record of what was changed: what is on the disk when a run is cut off, and that nothing of it is guessed."""

import errno
import json
import multiprocessing
import os
import pathlib
import signal
import stat

import pytest
from ansible_collections.oom.forensics.plugins.module_utils._host import policy_lock, policy_record, run
from ansible_collections.oom.forensics.plugins.module_utils._host.policy_record import Entry, RecordError, Store

ID = "4f" * 32


@pytest.fixture
def store(tmp_path):
    return Store(run.Host(), str(tmp_path / "state"))


def entry(identity=ID, wanted=1 << 29, before=None, manager="docker"):
    return Entry(
        manager=manager,
        identity=identity,
        label="docker web-1",
        path="/docker/" + identity,
        rule="web",
        who={"kind": "container", "engine": "docker", "name": "web-1\udc80 {{ x }}", "unit": None},
        before={"memory": before},
        settings={"memory_max": {"before": before, "wanted": wanted, "expression": "512M", "live": True}},
        kills=0,
    )


def recorded(store, *entries, **options):
    """A run with these entries done; its id."""
    with policy_lock.locked(store, 0):
        writer = policy_record.begin(store)
        for each in entries:
            writer.closed(writer.opened(each), options.get("status", "done"))
        if options.get("finished", True):
            writer.ended("finished")
        writer.close()
    return writer.id


def in_child(work):
    """Run in a process of its own, which has to end itself; its exit status."""
    child = multiprocessing.get_context("fork").Process(target=work)
    child.start()
    child.join(30)
    return child.exitcode


def test_there_is_no_run_where_there_is_no_record(store):
    assert policy_record.read(store) == []
    assert policy_record.unfinished([]) is None
    assert not policy_lock.busy(store)
    assert not os.path.exists(store.directory)


def test_a_run_is_read_as_it_was_written(store):
    identifier = recorded(store, entry(), entry(identity="5a" * 32))
    (found,) = policy_record.read(store)
    assert (found.id, found.rolled_back, found.count("done")) == (identifier, None, 2)
    assert found.started < found.finished
    boot_id = pathlib.Path("/proc/sys/kernel/random/boot_id").read_text()
    assert found.boot_id == boot_id.strip().replace("-", "")
    assert found.entries[0] == entry()._replace(status="done", boot_id=found.boot_id)
    assert [number for number, _entry in found.undoable()] == [1, 0]
    assert policy_record.unfinished([found]) is None


def test_the_record_is_for_its_user_alone(store):
    recorded(store, entry())
    assert stat.S_IMODE(os.stat(store.directory).st_mode) == 0o700


def test_a_directory_that_others_may_write_to_is_refused(store):
    os.mkdir(store.directory)
    os.chmod(store.directory, 0o777)
    with pytest.raises(RecordError, match=r"mode 777, so others could write what a rollback does.*\(state_path\)\."):
        recorded(store, entry())
    assert os.listdir(store.directory) == []


def test_a_killed_run_leaves_what_it_began_open(store):
    def work():
        with policy_lock.locked(store, 0):
            writer = policy_record.begin(store)
            writer.closed(writer.opened(entry()), "done")
            writer.opened(entry(identity="5a" * 32))
            os.kill(os.getpid(), signal.SIGKILL)

    assert in_child(work) == -signal.SIGKILL
    (found,) = policy_record.read(store)
    assert policy_record.unfinished([found]) is found
    assert [each.status for each in found.entries] == ["done", "open"]
    assert not policy_lock.busy(store)


def test_an_interrupted_run_goes_on_under_its_name(store):
    identifier = recorded(store, entry(), finished=False)
    with policy_lock.locked(store, 0):
        writer = policy_record.resume(store, policy_record.unfinished(policy_record.read(store)))
        assert writer.opened(entry(identity="5a" * 32)) == 1
        writer.closed(1, "gone")
        writer.ended("finished")
        writer.close()
    (found,) = policy_record.read(store)
    assert (found.id, [each.status for each in found.entries]) == (identifier, ["done", "gone"])
    assert [number for number, _entry in found.undoable()] == [0]


def test_an_entry_is_of_the_boot_in_which_it_was_made(store):
    recorded(store, entry(), finished=False)
    path = only_file(store)
    lines = [json.loads(line) for line in pathlib.Path(path).read_text().splitlines()]
    lines[0]["boot_id"] = "0" * 32
    write(path, lines)
    writer = policy_record.resume(store, policy_record.read(store)[0])
    writer.opened(entry())
    writer.close()
    boots = [each.boot_id for each in policy_record.read(store)[0].entries]
    assert boots[0] == "0" * 32 != boots[1]


def only_file(store):
    (name,) = os.listdir(os.path.join(store.directory, "runs"))
    return os.path.join(store.directory, "runs", name)


def write(path, lines):
    with open(path, "w") as stream:
        stream.writelines(json.dumps(line) + "\n" for line in lines)


def test_a_cut_line_is_dropped_and_written_over(store):
    recorded(store, entry(), finished=False)
    with open(only_file(store), "a") as stream:
        stream.write('{"event": "opened", "entry": {"man')
    assert len(policy_record.read(store)[0].entries) == 1
    writer = policy_record.resume(store, policy_record.read(store)[0])
    assert writer.opened(entry()) == 1
    writer.close()
    assert [each.status for each in policy_record.read(store)[0].entries] == ["done", "open"]


@pytest.mark.parametrize(
    "damage",
    [
        b"",
        b"\n",
        b"\x00\xff\n",
        b"null\n",
        b"[]\n",
        b"{}\n",
        b'{"event": "opened"}\n',
        b'{"event": "began", "schema": "oom.forensics/policy-run/9"}\n',
        b"HEAD\n" + b'{"event": "unheard"}\n',
        b"HEAD\n" + b'{"event": "closed", "entry": 0, "status": "done"}\n',
        b"HEAD\n" + b'{"event": "closed", "entry": -1, "status": "done"}\n',
        b"HEAD\n" + b'{"event": "opened", "entry": {"manager": "docker"}}\n',
        b"HEAD\nHEAD\n",
        b"HEAD\n" + b"[" * 100000 + b"\n",
    ],
)
def test_a_damaged_record_is_an_error_that_says_what_to_do(store, damage):
    recorded(store, finished=False)
    path = only_file(store)
    with open(path, "rb") as stream:
        head = stream.read().rstrip(b"\n")
    with open(path, "wb") as stream:
        stream.write(damage.replace(b"HEAD", head))
    with pytest.raises(RecordError) as caught:
        policy_record.read(store)
    said = str(caught.value)
    assert said.startswith(path + " could not be read: ") and said.endswith("roll back, and move it away.")


def test_two_runs_at_once(store):
    with policy_lock.locked(store, 0):
        assert policy_lock.busy(store)
        with pytest.raises(
            RecordError, match=r"Another run .*\(pid {0}\).*within 0.2 s.*lock_timeout".format(os.getpid())
        ), policy_lock.locked(store, 0.2):
            raise AssertionError("two runs have the lock")
    assert not policy_lock.busy(store)
    with policy_lock.locked(store, 0):
        assert policy_lock.busy(store)


def test_the_second_run_waits_for_the_first(store):
    ready, go = multiprocessing.get_context("fork").Pipe()

    def work():
        with policy_lock.locked(store, 0):
            go.send("locked")
            go.recv()

    child = multiprocessing.get_context("fork").Process(target=work)
    child.start()
    assert ready.recv() == "locked"
    with pytest.raises(RecordError, match="pid {0}".format(child.pid)), policy_lock.locked(store, 0):
        raise AssertionError("two runs have the lock")
    ready.send("leave")
    with policy_lock.locked(store, 20):
        child.join(10)
    assert child.exitcode == 0


def test_what_was_declared_last_counts_if_it_was_not_rolled_back(store):
    recorded(store, entry(wanted=1), entry(identity="5a" * 32, wanted=2))
    recorded(store, entry(wanted=3))
    recorded(store, entry(wanted=4), status="undone")
    recorded(store, entry(wanted=5), status="open", finished=False)
    runs = policy_record.read(store)
    declared = policy_record.declared(store, runs)
    assert declared == {
        ("docker", ID, "memory_max"): (3, runs[1].started, "512M"),
        ("docker", "5a" * 32, "memory_max"): (2, runs[0].started, "512M"),
    }


def test_the_newest_runs_are_kept(store):
    names = [recorded(store, entry()) for _number in range(policy_record.KEPT + 3)]
    assert [each.id for each in policy_record.read(store)] == names[-policy_record.KEPT :]


OLD = ("docker", "5a" * 32, "memory_max")


def fill(store):
    """As many newer runs as push the ones before out."""
    for _number in range(policy_record.KEPT):
        recorded(store, entry())


def declared(store):
    return policy_record.declared(store, policy_record.read(store))


def test_what_removed_runs_have_declared_is_carried_forward(store):
    recorded(store, entry(identity="5a" * 32, wanted=None))
    recorded(store, entry(identity="5a" * 32, wanted=7))
    (_removed, last) = policy_record.read(store)
    recorded(store, entry(identity="5a" * 32, wanted=8), status="undone")
    recorded(store, entry(identity="5a" * 32, wanted=9), status="open")
    for _again in range(2):
        fill(store)
        assert declared(store)[OLD] == (7, last.started, "512M")
    recorded(store, entry(identity="5a" * 32, wanted=None))
    assert declared(store)[OLD].value is None
    recorded(store, entry(identity="5a" * 32, wanted=1), status="undone")
    fill(store)
    assert declared(store)[OLD].value is None


def test_only_the_newest_of_what_removed_runs_have_declared_is_carried(store, monkeypatch):
    monkeypatch.setattr(policy_record, "MOST_CARRIED", 2)
    names = ["{0:064x}".format(number) for number in range(3)]
    recorded(store, *[entry(identity=each) for each in names])
    recorded(store, entry(identity=names[0]))
    fill(store)
    assert {identity for _manager, identity, _setting in declared(store)} == {ID, names[0], names[2]}


def test_a_removal_that_was_cut_off_loses_nothing(store, monkeypatch):
    recorded(store, entry(identity="5a" * 32, wanted=7))
    for _number in range(policy_record.KEPT - 1):
        recorded(store, entry())
    for call in ("rename", "unlink"):
        with monkeypatch.context() as patched:
            patched.setattr(policy_record.os, call, no_space)
            with pytest.raises(RecordError, match="No space left on device"):
                recorded(store, entry())
        assert declared(store)[OLD].value == 7
    assert policy_record.read(store)[-1].entries == ()  # the second one had begun
    recorded(store, entry())
    assert len(policy_record.read(store)) == policy_record.KEPT
    assert declared(store)[OLD].value == 7


def no_space(*_arguments):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "{}", '{"schema": "x/9", "declared": 1}', "é", "[" * 100000])
def test_what_cannot_be_read_of_removed_runs_is_as_if_there_were_none(store, text):
    """It only tells drift, and the next removal writes it anew."""
    recorded(store, entry(identity="5a" * 32))
    fill(store)
    pathlib.Path(store.directory, "declared.json").write_text(text)
    assert set(declared(store)) == {("docker", ID, "memory_max")}
    recorded(store, entry(identity="5a" * 32))
    fill(store)
    assert OLD in declared(store)


@pytest.mark.parametrize("rows", [1, [1], [{}], [{"manager": [], "identity": "x", "setting": "y"}]])
def test_damaged_declarations(store, rows):
    os.mkdir(store.directory)
    told = {"schema": policy_record.CARRIED_SCHEMA, "declared": rows}
    pathlib.Path(store.directory, "declared.json").write_text(json.dumps(told))
    assert declared(store) == {}


def test_the_newest_run_is_the_last_one_even_if_the_clock_was_set_back(store, monkeypatch):
    first = recorded(store, entry())
    monkeypatch.setattr(policy_record.time, "time", lambda: 86400.0)
    second = recorded(store, entry())
    assert "19700102" in second
    assert [each.id for each in policy_record.read(store)] == [first, second]


def test_what_lies_beside_the_runs_is_left_alone(store):
    recorded(store, entry())
    for name in ("notes.txt", "000001-20261122T215030Z.jsonl.new", "x.jsonl"):
        with open(os.path.join(store.directory, "runs", name), "w") as stream:
            stream.write("x")
    assert len(policy_record.read(store)) == 1


def test_a_place_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("x")
    place = Store(run.Host(), str(tmp_path / "file" / "state"))
    said = r"could not be written: .*without it nothing is changed.*\(state_path\)\."
    with pytest.raises(RecordError, match=said), policy_lock.locked(place, 0):
        raise AssertionError("there is no such place")


def test_a_full_disk_ends_a_run_before_the_change(store, monkeypatch):
    with policy_lock.locked(store, 0):
        writer = policy_record.begin(store)

        def write_some(descriptor, data):
            if len(data) > 20:
                return real(descriptor, data[:20])
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        real = os.write
        monkeypatch.setattr(policy_record.os, "write", write_some)
        with pytest.raises(RecordError, match="No space left on device"):
            writer.opened(entry())
        monkeypatch.undo()
        writer.close()
    assert policy_record.read(store)[0].entries == ()


def test_a_link_is_no_lock(store, tmp_path):
    os.mkdir(store.directory)
    (tmp_path / "precious").write_text("kept")
    os.symlink(str(tmp_path / "precious"), os.path.join(store.directory, "lock"))
    with pytest.raises(RecordError, match="could not be written"):
        recorded(store, entry())
    assert (tmp_path / "precious").read_text() == "kept"
