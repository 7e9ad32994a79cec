# Copyright (c) 2026 oom.forensics contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The way of a policy from the plan to what the kernel has, and what becomes of it where something fails or is cut off."""

import multiprocessing
import os
import pathlib
import signal
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).parent))
import policy_lab
from ansible_collections.oom.forensics.plugins.module_utils._host import (
    policy,
    policy_lock,
    policy_record,
    policy_rollback,
    policy_watch,
    policy_work,
)
from ansible_collections.oom.forensics.plugins.module_utils._host.policy_record import RecordError
from ansible_collections.oom.forensics.plugins.module_utils._host.policy_work import PolicyFailure
from ansible_collections.oom.forensics.plugins.module_utils._policy.model import PolicyError
from policy_lab import MIB, rule

WEB = rule("web*", memory_max="64M")


@pytest.fixture
def lab(tmp_path, monkeypatch):
    made = policy_lab.Lab(tmp_path, monkeypatch)
    for name in ("web1", "web2", "web3"):
        made.container(name)
    return made


def outcomes(answer):
    return {change.target.workload["name"]: change.outcome for change in answer.changes}


def message(answer, name):
    return next(change.message for change in answer.changes if change.target.workload["name"] == name)


def limits(lab):
    return [lab.kernel(name) for name in lab.names]


def runs(lab):
    return policy_record.read(lab.store)


def statuses(lab):
    return [entry.status for entry in runs(lab)[-1].entries]


def in_child(work):
    child = multiprocessing.get_context("fork").Process(target=work)
    child.start()
    child.join(60)
    return child.exitcode


def untouched(lab):
    return limits(lab) == ["max"] * 3 and lab.engine.calls == [] and not os.path.exists(lab.store.directory)


# --- plan and check mode


def test_a_plan_touches_nothing(lab):
    answer = policy.planned(lab.host, lab.request(WEB))
    assert outcomes(answer) == {"web1": "planned", "web2": "planned", "web3": "planned"}
    assert (answer.changed, answer.failure, answer.run) == (False, None, None)
    assert answer.limits == {
        "before_bytes": 0,
        "after_bytes": 3 * 64 * MIB,
        "memory_total_bytes": 1024 * MIB,
        "reserve_bytes": 1024 * MIB // 10,
    }
    assert untouched(lab)


def test_check_mode_says_what_applying_would_do_and_touches_nothing(lab):
    foreseen = lab.applied(WEB, rule("nobody", memory_max="1G"), check=True)
    assert (foreseen.changed, foreseen.idle) == (True, ("rule of nobody",))
    assert untouched(lab)
    made = lab.applied(WEB, rule("nobody", memory_max="1G"))
    assert [change._replace(outcome="planned") for change in made.changes] == foreseen.changes
    assert lab.applied(WEB, check=True).changed is False


def test_a_reserve_that_is_no_size_is_refused_before_anything(lab):
    with pytest.raises(PolicyError, match="reserve"):
        lab.applied(WEB, reserve="much")
    assert limits(lab) == ["max"] * 3


# --- apply


def test_apply_and_apply_again(lab):
    answer = lab.applied(WEB)
    assert outcomes(answer) == {"web1": "applied", "web2": "applied", "web3": "applied"}
    assert (answer.changed, answer.failure) == (True, None)
    assert limits(lab) == [str(64 * MIB)] * 3
    (found,) = runs(lab)
    assert (found.id, found.finished is not None, statuses(lab)) == (answer.run, True, ["done"] * 3)
    row = {"before": None, "wanted": 64 * MIB, "expression": "64M", "live": True}
    assert found.entries[0].settings == {"memory_max": row}
    assert found.entries[0].kills == 0
    assert (lab.engine.calls, lab.engine.finished) == (["web1", "web2", "web3"], [["web1", "web2", "web3"]])

    again = lab.applied(WEB)
    assert outcomes(again) == {"web1": "unchanged", "web2": "unchanged", "web3": "unchanged"}
    assert (again.changed, again.run, len(runs(lab)), len(lab.engine.calls)) == (False, None, 1, 3)


def test_what_a_setting_was_is_told_from_what_is_not_known(lab):
    lab.write("web1", "memory.max", 96 * MIB)
    lab.applied(WEB)
    befores = [entry.settings["memory_max"]["before"] for entry in runs(lab)[0].entries]
    assert befores == [96 * MIB, None, None]


def test_one_refused_change_and_nothing_is_done(lab):
    lab.write("web2", "memory.current", 128 * MIB)
    answer = lab.applied(WEB)
    assert outcomes(answer) == {"web1": "planned", "web2": "refused", "web3": "planned"}
    assert answer.failure.startswith("Nothing was changed. 1 change refused. docker web2: ")
    assert (answer.changed, limits(lab), runs(lab)) == (False, ["max"] * 3, [])
    assert lab.applied(WEB, check=True).failure == answer.failure


def test_a_refused_change_that_is_skipped(lab):
    lab.write("web2", "memory.current", 128 * MIB)
    foreseen = lab.applied(WEB, refused="skip", check=True)
    assert (foreseen.failure, foreseen.changed) == (None, True)
    answer = lab.applied(WEB, refused="skip")
    assert outcomes(answer) == {"web1": "applied", "web2": "refused", "web3": "applied"}
    assert (answer.failure, limits(lab)) == (None, [str(64 * MIB), "max", str(64 * MIB)])


def test_what_the_manager_does_not_take_is_refused_before_anything_is_done(lab):
    answer = lab.applied(rule("web1", memory_max="13M"), rule("web2", memory_max="64M"))
    assert outcomes(answer) == {"web1": "refused", "web2": "planned"}
    assert message(answer, "web1").endswith("memory_max: The engine takes no odd number.")
    assert (lab.engine.calls, runs(lab)) == ([], [])


def test_a_setting_that_is_left_out(lab):
    unsupported = rule("web1", memory_max="64M", memory_min="1M")
    assert outcomes(lab.applied(unsupported)) == {"web1": "refused"}
    answer = lab.applied(unsupported, unsupported="skip")
    assert outcomes(answer) == {"web1": "applied"}
    assert "The engine has no memory_min" in answer.changes[0].left_out[0]


def test_a_manager_that_fails_once_does_not_stop_the_others(lab):
    lab.engine.broken["web2"] = policy_lab.failing()
    answer = lab.applied(WEB)
    assert outcomes(answer) == {"web1": "applied", "web2": "failed", "web3": "applied"}
    assert answer.failure == "1 change failed. docker web2: The engine is angry. Be nice."
    assert (answer.changed, statuses(lab)) == (True, ["done", "open", "done"])
    assert runs(lab)[0].finished is not None
    lab.engine.broken.clear()
    again = lab.applied(WEB)
    assert outcomes(again) == {"web1": "unchanged", "web2": "applied", "web3": "unchanged"}
    assert again.run != answer.run


def test_a_workload_that_ends_between_plan_and_change_is_no_failure(lab):
    lab.engine.broken["web1"] = lambda: lab.remove("web2")
    answer = lab.applied(WEB)
    assert outcomes(answer) == {"web1": "applied", "web2": "vanished", "web3": "applied"}
    assert (answer.failure, statuses(lab)) == (None, ["done", "gone", "done"])
    assert message(answer, "web2") == "web2 is gone."


def test_a_workload_that_ends_behind_its_change_is_no_failure(lab):
    lab.engine.broken["web3"] = lambda: lab.remove("web2")
    answer = lab.applied(WEB)
    assert outcomes(answer) == {"web1": "applied", "web2": "vanished", "web3": "applied"}
    assert (answer.failure, statuses(lab)) == (None, ["done", "done", "done"])


def test_a_kernel_that_has_another_value_afterwards(lab):
    lab.engine.broken["web3"] = lambda: lab.write("web1", "memory.max", 32 * MIB)
    answer = lab.applied(WEB)
    assert outcomes(answer) == {"web1": "failed", "web2": "applied", "web3": "applied"}
    assert message(answer, "web1") == "The kernel does not have what was set: memory_max is 32 MiB, not 64 MiB."
    assert answer.changed is True


def test_a_manager_that_cannot_finish(lab):
    lab.engine.broken["finish"] = policy_lab.failing("Nothing was reloaded.", None)
    answer = lab.applied(WEB)
    assert set(outcomes(answer).values()) == {"failed"}
    assert "docker web1: Nothing was reloaded." in answer.failure


def test_what_a_manager_remarks_is_told(lab):
    lab.engine.broken["web1"] = lambda: lab.engine.remarks.update(web1="It waits.", web2="It waits too.")
    lab.engine.broken["web3"] = lambda: lab.write("web1", "memory.max", 32 * MIB)
    answer = lab.applied(WEB)
    assert outcomes(answer) == {"web1": "failed", "web2": "applied", "web3": "applied"}
    sentence = "The kernel does not have what was set: memory_max is 32 MiB, not 64 MiB. It waits."
    assert (message(answer, "web1"), message(answer, "web2")) == (sentence, "It waits too.")


def test_what_the_workload_has_after_its_next_start(lab):
    answer = lab.applied(rule("web1", oom_policy="continue", memory_max="64M"))
    assert (outcomes(answer), answer.failure, lab.kernel("web1")) == ({"web1": "pending"}, None, str(64 * MIB))


def test_somebody_else_changes_it_back(lab):
    lab.applied(WEB)
    lab.write("web2", "memory.max", 512 * MIB)
    answer = policy.planned(lab.host, lab.request(WEB))
    steps = {change.target.workload["name"]: change.steps[0] for change in answer.changes}
    assert [steps[name].drifted for name in lab.names] == [False, True, False]
    assert (steps["web2"].declared, steps["web2"].effective) == (64 * MIB, 512 * MIB)


def test_drift_is_told_and_a_share_of_the_peak_rests_after_many_newer_runs(lab):
    half_more, limited = rule("web1", memory_max="peak * 1.5"), rule("web2", memory_max="64M")
    lab.write("web1", "memory.peak", 32 * MIB)
    lab.applied(half_more, limited)
    for number in range(policy_record.KEPT):
        lab.applied(rule("web3", memory_max="{0}M".format(100 + number)))
    lab.write("web1", "memory.peak", 33 * MIB)
    lab.write("web2", "memory.max", 512 * MIB)
    answer = policy.planned(lab.host, lab.request(half_more, limited))
    assert outcomes(answer) == {"web1": "unchanged", "web2": "planned"}
    step = answer.changes[1].steps[0]
    assert (step.drifted, step.declared) == (True, 64 * MIB)


# --- cut off


def killed_at_second_change(lab):
    lab.engine.broken["web2"] = lambda: os.kill(os.getpid(), signal.SIGKILL)
    assert in_child(lambda: lab.applied(WEB)) == -signal.SIGKILL
    lab.engine.broken.clear()


def test_a_run_that_was_killed_goes_on_and_is_rolled_back_as_a_whole(lab):
    killed_at_second_change(lab)
    assert (limits(lab), statuses(lab)) == ([str(64 * MIB), "max", "max"], ["done", "open"])
    (cut,) = runs(lab)
    told = {"run": cut.id, "started": cut.started, "done": 1, "open": 1}
    assert policy.planned(lab.host, lab.request(WEB)).interrupted == told
    assert lab.applied(WEB, check=True).interrupted == told
    assert len(runs(lab)[0].entries) == 2

    answer = lab.applied(WEB)
    assert (answer.run, answer.interrupted) == (cut.id, told)
    assert outcomes(answer) == {"web1": "unchanged", "web2": "applied", "web3": "applied"}
    assert policy.planned(lab.host, lab.request(WEB)).interrupted is None

    back = rolled_back(lab)
    assert (limits(lab), back.run, back.failure) == (["max"] * 3, cut.id, None)


def test_a_killed_run_that_left_nothing_to_do_is_finished(lab):
    lab.engine.broken["web3"] = lambda: (
        lab.write("web3", "memory.max", 64 * MIB),
        os.kill(os.getpid(), signal.SIGKILL),
    )
    assert in_child(lambda: lab.applied(WEB)) == -signal.SIGKILL
    lab.engine.broken.clear()
    answer = lab.applied(WEB)
    assert (answer.changed, set(outcomes(answer).values())) == (False, {"unchanged"})
    assert (statuses(lab), answer.run) == (["done"] * 3, runs(lab)[0].id)
    assert policy_record.unfinished(runs(lab)) is None
    lab.write("web3", "memory.max", 96 * MIB)
    assert policy.planned(lab.host, lab.request(WEB)).changes[2].steps[0].drifted is True
    rolled_back(lab)
    assert limits(lab) == ["max"] * 3


def test_what_a_killed_process_made_in_part_and_the_next_one_in_full_is_done(lab):
    both = rule("web1", memory_max="64M", memory_high="32M")
    lab.engine.broken["web1"] = lambda: (
        lab.write("web1", "memory.max", 64 * MIB),
        os.kill(os.getpid(), signal.SIGKILL),
    )
    assert in_child(lambda: lab.applied(both)) == -signal.SIGKILL
    lab.engine.broken.clear()
    lab.applied(both)
    assert statuses(lab) == ["done"] * 2
    lab.write("web1", "memory.max", 96 * MIB)
    steps = policy.planned(lab.host, lab.request(both)).changes[0].steps
    assert {step.setting: step.drifted for step in steps} == {"memory_max": True, "memory_high": False}


def test_what_a_killed_process_made_in_part_and_nobody_wants_any_more_stays_open(lab):
    lab.engine.broken["web1"] = lambda: (
        lab.write("web1", "memory.max", 64 * MIB),
        os.kill(os.getpid(), signal.SIGKILL),
    )
    assert in_child(lambda: lab.applied(rule("web1", memory_max="64M", memory_high="32M"))) == -signal.SIGKILL
    lab.engine.broken.clear()
    lab.applied(rule("web1", memory_max="64M", memory_high="16M"))
    assert statuses(lab) == ["open", "done"]
    rolled_back(lab)
    assert (lab.kernel("web1"), statuses(lab)) == ("max", ["undone"] * 2)


def test_a_killed_run_can_be_rolled_back_at_once(lab):
    killed_at_second_change(lab)
    answer = rolled_back(lab)
    assert (outcomes(answer), limits(lab)) == ({"web1": "rolled_back", "web2": "rolled_back"}, ["max"] * 3)
    assert policy_record.unfinished(runs(lab)) is None


def test_values_of_before_the_first_of_several_changes_come_back(lab):
    lab.write("web1", "memory.max", 96 * MIB)
    killed_at_second_change(lab)
    lab.applied(rule("web*", memory_max="128M"))
    back = rolled_back(lab)
    assert (limits(lab), back.failure) == ([str(96 * MIB), "max", "max"], None)
    assert sorted(outcomes(back).items()) == [("web1", "rolled_back"), ("web2", "rolled_back"), ("web3", "rolled_back")]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_lets_the_change_in_hand_be_done(lab, number):
    handlers = signal.getsignal(number)
    lab.engine.broken["web2"] = lambda: os.kill(os.getpid(), number)
    answer = lab.applied(WEB)
    assert outcomes(answer) == {"web1": "applied", "web2": "applied", "web3": "planned"}
    assert answer.failure.startswith("{0} ended the run after 2 of 3 changes.".format(signal.Signals(number).name))
    assert (answer.changed, lab.engine.finished, statuses(lab)) == (True, [["web1", "web2"]], ["done", "done"])
    assert policy_record.unfinished(runs(lab)).id == answer.run
    assert signal.getsignal(number) == handlers
    lab.engine.broken.clear()
    assert outcomes(lab.applied(WEB)) == {"web1": "unchanged", "web2": "unchanged", "web3": "applied"}


def test_a_record_that_cannot_be_written_ends_the_run_before_the_next_change(lab, monkeypatch):
    def fill_the_disk():
        monkeypatch.setattr(policy_record.Writer, "_sync", full)

    def full(writer):
        raise RecordError("The disk is full.")

    lab.engine.broken["web1"] = fill_the_disk
    answer = lab.applied(WEB)
    assert outcomes(answer) == {"web1": "applied", "web2": "planned", "web3": "planned"}
    assert answer.failure == "The disk is full. The run has ended after 1 of 3 changes."
    monkeypatch.undo()
    assert policy_record.unfinished(runs(lab)) is not None


def test_a_change_of_which_the_end_cannot_be_recorded_was_made(lab, monkeypatch):
    def full(writer, number, status):
        raise RecordError("The disk is full.")

    with monkeypatch.context() as patched:
        patched.setattr(policy_record.Writer, "closed", full)
        answer = lab.applied(WEB)
    assert outcomes(answer) == {"web1": "applied", "web2": "planned", "web3": "planned"}
    assert (answer.changed, statuses(lab)) == (True, ["open"])
    rolled_back(lab)
    assert limits(lab) == ["max"] * 3


def test_without_a_place_for_the_record_nothing_is_changed(lab):
    blocked = lab.store._replace(directory=str(lab.root / "host" / "proc" / "meminfo" / "state"))
    with pytest.raises(RecordError, match="without it nothing is changed"):
        policy.applied(lab.host, lab.request(WEB)._replace(store=blocked))
    assert (limits(lab), lab.engine.calls) == (["max"] * 3, [])


def test_two_runs_at_once(lab):
    killed_at_second_change(lab)
    with policy_lock.locked(lab.store, 0):
        with pytest.raises(RecordError, match="Another run of a memory policy"):
            lab.applied(WEB)
        with pytest.raises(RecordError, match="Another run of a memory policy"):
            rolled_back(lab)
        assert policy.planned(lab.host, lab.request(WEB)).interrupted is None  # it goes on
    assert (lab.engine.calls, limits(lab)) == ([], [str(64 * MIB), "max", "max"])


def test_a_damaged_record_stops_everything(lab):
    lab.applied(WEB)
    (name,) = os.listdir(os.path.join(lab.store.directory, "runs"))
    with open(os.path.join(lab.store.directory, "runs", name), "ab") as stream:
        stream.write(b"garbage\n")
    for act in (
        lambda: policy.planned(lab.host, lab.request(WEB)),
        lambda: lab.applied(rule("web1", memory_max="96M")),
        lambda: policy.verified(lab.host, lab.store, None, 0, None),
        lambda: rolled_back(lab),
    ):
        with pytest.raises(RecordError, match="line 9 is none that a run writes"):
            act()
    assert limits(lab) == [str(64 * MIB)] * 3


# --- roll back


def rolled_back(lab, identifier=None, check=False, **which):
    return policy_rollback.rolled_back(lab.host, lab.store, policy_rollback.Wanted(identifier, **which), 0, check)


def test_everything_gets_back_what_it_had(lab):
    lab.write("web1", "memory.max", 96 * MIB)
    run_id = lab.applied(WEB).run
    foreseen = rolled_back(lab, check=True)
    assert (foreseen.changed, set(outcomes(foreseen).values())) == (True, {"planned"})
    assert limits(lab) == [str(64 * MIB)] * 3
    answer = rolled_back(lab)
    assert (answer.changed, answer.failure, answer.run) == (True, None, run_id)
    assert limits(lab) == [str(96 * MIB), "max", "max"]
    assert lab.engine.calls[3:] == ["web3", "web2", "web1"]
    again = rolled_back(lab)
    assert (again.changed, again.changes, len(lab.engine.calls)) == (False, [], 6)
    assert rolled_back(lab, check=True).changed is False


def test_a_second_rollback_leaves_the_run_before_alone(lab):
    first = lab.applied(WEB).run
    lab.applied(rule("web*", memory_max="128M"))
    rolled_back(lab)
    assert rolled_back(lab).changed is False
    assert limits(lab) == [str(64 * MIB)] * 3
    assert rolled_back(lab, first).changed is True
    assert limits(lab) == ["max"] * 3


def test_a_run_below_a_newer_one_is_not_rolled_back(lab):
    first = lab.applied(WEB).run
    second = lab.applied(rule("web2", memory_max="128M")).run
    with pytest.raises(
        PolicyFailure, match="{0} cannot be rolled back before run {1}.*docker web2 too".format(first, second)
    ):
        rolled_back(lab, first)
    assert lab.kernel("web2") == str(128 * MIB)


def test_an_older_run_that_no_newer_one_touches(lab):
    first = lab.applied(rule("web1", memory_max="64M")).run
    lab.applied(rule("web2", memory_max="64M"))
    assert rolled_back(lab, first).changed is True
    assert limits(lab) == ["max", str(64 * MIB), "max"]


def test_only_what_is_newer_than_a_run_is_rolled_back(lab):
    assert policy.planned(lab.host, lab.request(WEB)).last_run is None
    first = lab.applied(WEB).run
    assert policy.planned(lab.host, lab.request(WEB)).last_run == first
    assert rolled_back(lab, newer_than=first).changed is False
    assert limits(lab) == [str(64 * MIB)] * 3
    lab.applied(rule("web1", memory_max="128M"))
    assert rolled_back(lab, newer_than=first).changed is True
    assert rolled_back(lab, newer_than="").changed is False  # the newest is rolled back already


def test_a_run_that_still_goes_on_is_waited_for_before_it_is_rolled_back(lab):
    with policy_lock.locked(lab.store, 0), pytest.raises(RecordError, match="Another run of a memory policy"):
        rolled_back(lab, newer_than="")
    assert rolled_back(lab, newer_than="").changed is False


def test_a_rollback_below_what_is_in_use_is_refused_as_a_whole(lab):
    lab.write("web1", "memory.max", 32 * MIB)
    lab.applied(WEB)
    lab.write("web1", "memory.current", 40 * MIB)
    for check in (True, False):
        answer = rolled_back(lab, check=check)
        assert outcomes(answer) == {"web3": "planned", "web2": "planned", "web1": "refused"}
        assert answer.failure.startswith(
            "Nothing was changed. 1 change refused. docker web1: It would get back what it"
        )
        assert "memory_max of 32 MiB is below the 40 MiB that it uses" in answer.failure
        assert answer.failure.endswith("Force below_usage, or wait until it uses less.")
        assert (answer.changed, limits(lab)) == (False, [str(64 * MIB)] * 3)
    assert rolled_back(lab, force=("below_usage",)).changed is True
    assert limits(lab) == [str(32 * MIB), "max", "max"]


def test_a_rollback_of_a_prefix_asks_what_its_units_use(lab, monkeypatch):
    monkeypatch.setitem(policy_work.MANAGERS, "systemd", lab.engine)
    with policy_lock.locked(lab.store, 0):
        writer = policy_record.begin(lab.store)
    row = {"before": 32 * MIB, "wanted": 64 * MIB, "expression": "64M", "live": True}
    names = {"manager": "systemd", "identity": "lab-.scope", "label": "lab-.scope", "rule": "all", "who": {}}
    entry = policy_record.Entry(path=None, before={"name": "web1"}, settings={"memory_max": row}, kills=None, **names)
    writer.closed(writer.opened(entry), "done")
    writer.ended("finished")
    assert rolled_back(lab, check=True).failure is None
    for file, text in {"memory.current": 40 * MIB, "memory.max": 64 * MIB}.items():
        lab.put("/sys/fs/cgroup/system.slice/lab-1.scope/" + file, "{0}\n".format(text))
    assert "memory_max of 32 MiB is below the 40 MiB that it uses" in rolled_back(lab).failure
    assert rolled_back(lab, check=True, force=("below_usage",)).failure is None


def test_what_somebody_has_changed_since_is_told(lab):
    lab.applied(WEB)
    lab.write("web1", "memory.max", 512 * MIB)
    answer = rolled_back(lab, check=True)
    assert message(answer, "web1") == (
        "It gets back what it had before the run. Somebody has since changed memory_max to 512 MiB."
    )
    assert message(answer, "web2") == "It gets back what it had before the run."
    assert [change.steps[0].drifted for change in answer.changes] == [False, False, True]


def test_check_mode_knows_what_has_ended(lab):
    lab.applied(WEB)
    lab.remove("web2")
    foreseen = rolled_back(lab, check=True)
    assert outcomes(foreseen) == {"web3": "planned", "web2": "vanished", "web1": "planned"}
    lab.remove("web1")
    lab.remove("web3")
    assert rolled_back(lab, check=True).changed is False
    assert rolled_back(lab).changed is False


def test_there_is_no_such_run(lab):
    run_id = lab.applied(WEB).run
    with pytest.raises(
        PolicyFailure, match=r"There is no run ../../etc on this host; the newest ones are: {0}\.".format(run_id)
    ):
        rolled_back(lab, "../../etc")


def test_nothing_was_ever_applied(lab):
    answer = rolled_back(lab, check=True)
    assert (answer.changed, answer.run, answer.changes) == (False, None, [])
    assert not os.path.exists(lab.store.directory)
    assert rolled_back(lab).changed is False
    assert not os.path.exists(lab.store.directory)


def test_a_rollback_that_fails_in_part_can_be_repeated(lab):
    lab.applied(WEB)
    lab.engine.broken["web2"] = policy_lab.failing()
    answer = rolled_back(lab)
    assert outcomes(answer) == {"web3": "rolled_back", "web2": "failed", "web1": "rolled_back"}
    assert answer.failure == "1 change failed. docker web2: The engine is angry. Be nice."
    assert runs(lab)[0].rolled_back is None
    lab.engine.broken.clear()
    again = rolled_back(lab)
    assert (outcomes(again), limits(lab)) == ({"web2": "rolled_back"}, ["max"] * 3)
    assert runs(lab)[0].rolled_back is not None


def test_a_rollback_that_was_killed_can_be_repeated(lab):
    lab.applied(WEB)
    lab.engine.broken["web2"] = lambda: os.kill(os.getpid(), signal.SIGKILL)
    assert in_child(lambda: rolled_back(lab)) == -signal.SIGKILL
    lab.engine.broken.clear()
    assert statuses(lab) == ["done", "done", "undone"]
    assert outcomes(rolled_back(lab)) == {"web1": "rolled_back", "web2": "rolled_back"}
    assert limits(lab) == ["max"] * 3


def test_what_a_cut_off_process_has_not_put_into_force_is_put_into_force(lab):
    """Its changes are all done and recorded, and its managers were not told that this was all."""
    lab.engine.broken["finish"] = lambda: os.kill(os.getpid(), signal.SIGKILL)
    assert in_child(lambda: lab.applied(WEB)) == -signal.SIGKILL
    lab.engine.broken["finish"] = policy_lab.failing("Nothing was reloaded.", None)
    assert lab.applied(WEB).failure == "Nothing was reloaded."
    assert policy_record.unfinished(runs(lab)) is not None
    lab.engine.broken.clear()
    answer = lab.applied(WEB)
    assert (answer.failure, answer.changed, policy_record.unfinished(runs(lab))) == (None, False, None)
    assert lab.engine.finished == [lab.names] * 2

    lab.engine.broken["finish"] = lambda: os.kill(os.getpid(), signal.SIGKILL)
    assert in_child(lambda: rolled_back(lab)) == -signal.SIGKILL
    lab.engine.broken["finish"] = policy_lab.failing("Nothing was reloaded.", None)
    assert rolled_back(lab).failure == "Nothing was reloaded."
    lab.engine.broken.clear()
    assert (rolled_back(lab).failure, runs(lab)[0].rolled_back is not None) == (None, True)


def test_a_rollback_that_a_signal_ends(lab):
    lab.applied(WEB)
    lab.engine.broken["web3"] = lambda: os.kill(os.getpid(), signal.SIGTERM)
    answer = rolled_back(lab)
    assert answer.failure.startswith("SIGTERM ended the run after 1 of 3 changes.")
    assert outcomes(answer) == {"web3": "rolled_back", "web2": "planned", "web1": "planned"}
    lab.engine.broken.clear()
    rolled_back(lab)
    assert limits(lab) == ["max"] * 3


def test_what_has_ended_needs_no_rollback(lab):
    lab.applied(WEB)
    lab.remove("web2")
    answer = rolled_back(lab)
    assert outcomes(answer) == {"web3": "rolled_back", "web2": "vanished", "web1": "rolled_back"}
    assert (answer.failure, statuses(lab)) == (None, ["undone", "gone", "undone"])
    assert runs(lab)[0].rolled_back is not None


def test_a_rollback_that_does_not_reach_the_kernel(lab):
    lab.applied(rule("web1", memory_max="64M"))
    lab.engine._update = lambda name, settings: None
    answer = rolled_back(lab)
    assert answer.failure == (
        "1 change failed. docker web1: The kernel does not have what was set: memory_max is 64 MiB, not no limit."
    )


def test_what_was_rolled_back_is_not_declared_any_more(lab):
    lab.applied(WEB)
    rolled_back(lab)
    answer = policy.planned(lab.host, lab.request(WEB))
    assert [change.steps[0].has_declared for change in answer.changes] == [False] * 3


# --- verify


def test_there_is_nothing_to_verify(lab):
    with pytest.raises(PolicyFailure, match="No policy was applied on this host"):
        policy.verified(lab.host, lab.store, None, 0, None)
    assert not os.path.exists(lab.store.directory)
    lab.applied(WEB)
    rolled_back(lab)
    with pytest.raises(PolicyFailure, match="was rolled back, so there is nothing to verify"):
        policy.verified(lab.host, lab.store, None, 0, None)


def test_a_kill_since_the_run_fails_the_verification(lab, monkeypatch):
    monkeypatch.setattr(policy_watch.collect, "collect_events", lambda host, **options: {"events": []})
    run_id = lab.applied(WEB).run
    answer = policy.verified(lab.host, lab.store, None, 0, 60)
    assert (answer.failure, answer.run, answer.watched["violations"]) == (None, run_id, [])
    lab.write("web2", "memory.events", "oom_kill 2")
    lab.put("/proc/vmstat", "oom_kill 2\n")
    answer = policy.verified(lab.host, lab.store, run_id, 0, 60)
    assert answer.failure == "2 processes of docker web2 were killed for want of memory since the run began."
    assert answer.changed is False
