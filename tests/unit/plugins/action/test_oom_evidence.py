# Copyright (c) 2026 oom.forensics contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The controller's half: what it sends, keeps and returns. The host's answers are made here; real hosts: tests/system."""

import base64
import gzip
import json
import types

import pytest
from ansible.errors import AnsibleActionFail, AnsibleConnectionFailure, AnsibleError
from ansible_collections.oom.forensics.plugins.action.oom_evidence import ActionModule
from ansible_collections.oom.forensics.plugins.module_utils._host import engines
from ansible_collections.oom.forensics.plugins.module_utils._oom import events as oom
from ansible_collections.oom.forensics.plugins.plugin_utils import _evidence

BOOT = "0" * 32
KILL = (
    b"[%8d.000001] Memory cgroup out of memory: Killed process %d (web) total-vm:8192kB, anon-rss:7168kB, "
    b"file-rss:64kB, shmem-rss:0kB, UID:1000 pgtables:48kB oom_score_adj:0\n"
)


def answer(*seconds, machine="m1", cursor="s=1", counter=0, advice=(), cursor_used=False, **changed):
    """What the module returns for a host with a kill at each of these seconds of uptime."""
    text = b"".join(KILL % (second, 1000 + second) for second in seconds)
    events = list(oom.parse([text], oom.Context(boot_id=BOOT, boot_time=1.79e9)))
    coverage = {
        "sources": [],
        "boot_id": BOOT,
        "kernel_counter": counter,
        "kills_parsed": len(events),
        "kills_unlogged": None if cursor_used else counter - len(events),
        "journal_cursor": cursor,
        "truncated": False,
        "events_total": len(events),
        "events_returned": len(events),
        "advice": list(advice),
        "cgroups": None,
        "engines": [],
    }
    document = {
        "schema": _evidence.SCHEMA,
        "status": "ok",
        "error": None,
        "collected_at": "2026-11-22T21:50:30.898260Z",
        "host": dict(dict.fromkeys(_evidence.HOST_KEYS), machine_id=machine, inventory_name="web01"),
        "coverage": coverage,
        "events": events,
        "cgroups": None,
        "names": [],
        "cursor_used": cursor_used,
    }
    document.update(changed)
    packed = base64.b64encode(gzip.compress(json.dumps(document).encode())).decode()
    return {"changed": False, "document": packed, "invocation": {"module_args": {}}, "warnings": ["w"]}


class Controller:
    """Runs the action as a task does, with a host that answers as told."""

    def __init__(self, spool):
        self.spool = spool
        self.sent = []

    def run(self, reply, check_mode=False, host="web01", **options):
        task = types.SimpleNamespace(
            args=dict({"spool": str(self.spool)}, **options),
            check_mode=check_mode,
            diff=False,
            async_val=0,
            action="oom_evidence",
            environment=None,
        )
        connection = types.SimpleNamespace(_shell=types.SimpleNamespace(tmpdir=None))
        action = ActionModule(task, connection, types.SimpleNamespace(remote_addr=host), None, None, None)
        action.cleanup = lambda force=False: None
        action._load_name = "oom.forensics.oom_evidence"  # the loader does it

        def execute(module_name, module_args, task_vars):
            self.sent.append(module_args)
            if isinstance(reply, Exception):
                raise reply
            return reply

        action._execute_module = execute
        return action.run(task_vars={"inventory_hostname": host})

    def newest(self, host="web01"):
        return _evidence.read(_evidence.documents(str(self.spool), host)[0])


@pytest.fixture
def controller(tmp_path):
    return Controller(tmp_path / "spool")


def pids(document):
    return [event["victims"][0]["pid"] for event in document["events"]]


def test_the_result_says_where_and_how_many_and_nothing_else(controller):
    result = controller.run(answer(1, 2, counter=3))
    path = _evidence.documents(str(controller.spool), "web01")[0]
    assert result == {
        "changed": False,
        "path": path,
        "status": "ok",
        "events_total": 2,
        "events_new": 2,
        "cgroups_total": None,
        "workloads_named": 0,
        "kernel_counter": 3,
        "kills_parsed": 2,
        "kills_unlogged": 1,
        "truncated": False,
        "advice": [],
        "warnings": ["w"],
    }
    assert controller.newest()["host"]["inventory_name"] == "web01"


def test_the_result_stays_small_whatever_the_host_says(controller):
    result = controller.run(answer(*range(1, 300), advice=["a" * 300] * 100))
    assert len(json.dumps(result)) < 4096
    assert len(controller.newest()["coverage"]["advice"]) == 100


def test_the_second_run_reads_on_from_the_cursor_and_adds_what_is_new(controller):
    controller.run(answer(1, 2, counter=2))
    assert "cursor" not in controller.sent[0]
    result = controller.run(answer(3, counter=3, cursor="s=2", cursor_used=True))
    assert (controller.sent[1]["cursor"], controller.sent[1]["cursor_machine_id"]) == ("s=1", "m1")
    assert (result["events_total"], result["events_new"], result["kills_unlogged"]) == (3, 1, 0)
    assert pids(controller.newest()) == [1001, 1002, 1003]
    result = controller.run(answer(counter=3, cursor="s=2", cursor_used=True))
    assert (result["events_total"], result["events_new"]) == (3, 0)


def test_a_cursor_of_the_user_wins(controller):
    controller.run(answer(1))
    controller.run(answer(2), cursor="mine")
    assert controller.sent[1]["cursor"] == "mine"
    assert "cursor_machine_id" not in controller.sent[1]


def test_another_machine_under_the_same_name_begins_anew(controller):
    controller.run(answer(1))
    controller.run(answer(2, machine="m2"))
    assert pids(controller.newest()) == [1002]
    controller.run(answer(3, machine="m1"))
    assert pids(controller.newest()) == [1001, 1003]


@pytest.mark.parametrize(
    ("reply", "status", "error"),
    [
        (AnsibleConnectionFailure("no route\n to host"), "unreachable", "no route to host"),
        (AnsibleError("cannot make a temporary directory"), "failed", "cannot make a temporary directory"),
        ({"failed": True, "msg": "MODULE FAILURE", "module_stderr": "sudo: no"}, "failed", "MODULE FAILURE sudo: no"),
        ({"unreachable": True, "msg": "gone"}, "unreachable", "gone"),
        ({"failed": True, "msg": "x" * 100000}, "failed", "x" * 500),
    ],
)
def test_a_host_that_was_not_read_leaves_a_document_and_the_failure_stands(controller, reply, status, error):
    controller.run(answer(1))
    if isinstance(reply, Exception):
        with pytest.raises(type(reply)):
            controller.run(reply)
    else:
        assert controller.run(reply) == reply
    document = controller.newest()
    assert (document["status"], document["error"]) == (status, error)
    assert pids(document) == [1001]
    # And the next run goes on as if nothing had been.
    controller.run(answer(2, cursor_used=True))
    assert controller.sent[-1]["cursor"] == "s=1"
    assert (controller.newest()["status"], pids(controller.newest())) == ("ok", [1001, 1002])


def test_check_mode_reads_and_writes_nothing(controller):
    result = controller.run(answer(1), check_mode=True)
    assert (result["path"], result["events_total"]) == (None, 1)
    assert "nothing was written" in result["msg"]
    with pytest.raises(AnsibleConnectionFailure):
        controller.run(AnsibleConnectionFailure("x"), check_mode=True)
    assert not controller.spool.exists()


@pytest.mark.parametrize(
    "options",
    [{"since": "soon"}, {"keep": 0}, {"max_events": 0}, {"boots": "some"}, {"sources": ["dmesg"]}, {"nonsense": 1}],
)
def test_a_wrong_option_fails_before_the_host_is_contacted(controller, options):
    with pytest.raises(AnsibleActionFail) as refused:
        controller.run(answer(1), **options)
    assert next(iter(options)) in str(refused.value) or str(next(iter(options.values()))) in str(refused.value)
    assert controller.sent == []


@pytest.mark.parametrize(
    "reply",
    [
        {"changed": False},
        {"document": "no base64!"},
        {"document": "AAAA"},
        {"document": None},
        answer(1, coverage=None),
        answer(1, events=[{}]),
    ],
)
def test_an_answer_that_is_no_document_fails_in_one_sentence(controller, reply):
    with pytest.raises(AnsibleActionFail) as refused:
        controller.run(reply)
    assert "web01" in str(refused.value)
    assert not controller.spool.exists()


def test_a_host_cannot_say_that_it_was_not_read(controller):
    controller.run(answer(1, status="unreachable", error="forged"))
    assert (controller.newest()["status"], controller.newest()["error"]) == ("ok", None)


def test_only_as_many_documents_as_asked_for_are_kept(controller):
    for second in range(1, 6):
        controller.run(answer(second), keep=2)
    assert len(_evidence.documents(str(controller.spool), "web01")) == 2
    assert len(controller.newest()["events"]) == 5


def test_a_hostile_inventory_name_stays_in_the_spool(controller):
    controller.run(answer(1), host="../../../tmp/x")
    assert [path.name for path in controller.spool.iterdir()] == ["%2E.%2F..%2F..%2Ftmp%2Fx"]


CONTAINER = "4f1c" * 16
REPORT = (
    b"[%8d.000001] oom-kill:constraint=CONSTRAINT_MEMCG,nodemask=(null),cpuset=x,mems_allowed=0,oom_memcg=/docker/"
    + CONTAINER.encode()
    + b",task_memcg=/docker/"
    + CONTAINER.encode()
    + b",task=web,pid=%d,uid=0\n"
)


def killed_in_container(second):
    text = REPORT % (second, 1000 + second) + KILL % (second, 1000 + second)
    return list(oom.parse([text], oom.Context(boot_id=BOOT, boot_time=1.79e9)))


def name_row(seen, key=CONTAINER, name="web"):
    row = dict.fromkeys(engines.KEYS)
    return dict(row, key=key, engine="docker", id=key, name=name, name_source="engine", last_seen=seen)


def names_of(document):
    return [(event["workload"]["name"], event["workload"]["name_source"]) for event in document["events"]]


def test_a_kill_keeps_its_containers_name_when_the_container_is_gone(controller):
    controller.run(answer(1, names=[name_row("2026-11-22T21:50:30.000000Z")]))
    result = controller.run(answer(2, events=killed_in_container(2)))
    assert result["workloads_named"] == 1
    assert names_of(controller.newest())[-1] == ("web", "cache")


def test_what_the_host_says_today_wins_over_an_earlier_name(controller):
    controller.run(answer(1, names=[name_row("2026-11-22T21:50:30.000000Z")]))
    controller.run(answer(1, names=[name_row("2026-11-23T21:50:30.000000Z", name="renamed")]))
    assert [row["name"] for row in controller.newest()["names"]] == ["renamed"]


def test_of_too_many_names_the_latest_seen_are_kept(controller, monkeypatch):
    monkeypatch.setattr(_evidence, "MAX_NAMES", 2)
    old = [name_row("2026-11-20T00:00:00.000000Z", key=digit * 64) for digit in "ab"]
    controller.run(answer(1, names=old))
    controller.run(answer(1, names=[name_row("2026-11-21T00:00:00.000000Z", key="c" * 64)]))
    assert [row["key"][0] for row in controller.newest()["names"]] == ["b", "c"]


def test_the_result_says_how_many_cgroups_there_are_and_not_which(controller):
    coverage = json.loads(gzip.decompress(base64.b64decode(answer(1)["document"])))["coverage"]
    numbers = {"cgroups_total": 7, "cgroups_returned": 7, "vanished": 0, "unreadable": 0}
    coverage["cgroups"] = dict(numbers, error=None, advice=["Be root.", "Do this."])
    coverage["engines"] = [{"engine": "docker", "error": "denied", "advice": "Be root."}]
    result = controller.run(answer(1, coverage=coverage))
    assert result["cgroups_total"] == 7
    assert result["advice"] == ["Be root.", "Do this."]
