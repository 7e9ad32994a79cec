# Copyright (c) 2026 oom.forensics contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is seen of kills, pressure and hangs while a policy is watched, on copied trees whose files change meanwhile."""

import pytest
from ansible_collections.oom.forensics.plugins.module_utils._host import hierarchies, policy_watch, run
from ansible_collections.oom.forensics.plugins.module_utils._host.coverage import Unreadable
from ansible_collections.oom.forensics.plugins.module_utils._host.policy_record import Entry, Run

BOOT = "1" * 32
WEB, DB = "/docker/" + "4f" * 32, "/docker/" + "5a" * 32
STARTED = "2026-11-22T21:50:30.000000Z"


class Machine:
    """A copied tree, a clock that runs when somebody sleeps, and logs."""

    def __init__(self, root, version):
        self.root, self.version = root, version
        self.now, self.script, self.events, self.reads = 100.0, {}, [], []
        mounts = {1: "m /sys/fs/cgroup/memory cgroup rw,memory 0 0\n", 2: "m /sys/fs/cgroup cgroup2 rw 0 0\n"}
        self.write("/proc/self/mounts", mounts[version])
        self.write("/proc/sys/kernel/random/boot_id", BOOT)
        self.counted(5)

    def write(self, path, text):
        place = self.root / path.lstrip("/")
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text)

    def folder(self, path):
        return "/sys/fs/cgroup" + ("/memory" if self.version == 1 else "") + path

    def counted(self, count):
        self.write("/proc/vmstat", "pgfault 1\noom_kill {0}\n".format(count))

    def cgroup(self, path, count=0):
        name = {1: "memory.oom_control", 2: "memory.events"}[self.version]
        self.write(self.folder(path) + "/" + name, "under_oom 0\noom_kill {0}\n".format(count))
        self.write(self.folder(path) + "/" + {1: "memory.usage_in_bytes", 2: "memory.current"}[self.version], "7\n")

    def stalled(self, path, seconds):
        text = "some avg10=99.00 avg60=9.00 avg300=9.00 total={0}\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=0\n"
        self.write(path, text.format(int(seconds * 1e6)))

    def sleep(self, seconds):
        self.now += seconds
        for moment in sorted(self.script):
            if moment <= self.now:
                self.script.pop(moment)()

    def watch(self, entries, seconds=30, most=60.0, kills=5, boot_id=BOOT):
        found = Run("000001-20261122T215030Z", boot_id, STARTED, kills, tuple(entries), STARTED, None)
        tools = policy_watch.Tools(lambda: self.now, self.sleep, self.read)
        return policy_watch.watch(run.Host(root=str(self.root)), found, seconds, most, tools)

    def read(self, _host, since):
        self.reads.append(since)
        return self.events


@pytest.fixture(params=[1, 2])
def machine(request, tmp_path):
    return Machine(tmp_path, request.param)


@pytest.fixture
def unified(tmp_path):
    return Machine(tmp_path, 2)


def entry(path=WEB, kills=0, label="docker web-1", status="done", manager="docker", identity="4f" * 32, boot_id=BOOT):
    return Entry(manager, identity, label, path, "web", {}, {}, {}, kills, status, boot_id)


def event(victim=WEB, limit=WEB, lines=1, identifier="e1", **other):
    made = {
        "id": identifier,
        "time": "2026-11-22T21:50:31.000000Z",
        "outcome": "killed",
        "victim_cgroup": victim,
        "limit_cgroup": limit,
        "victims": [{"cgroup": victim}],
        "kill_lines": lines,
    }
    return dict(made, **other)


def messages(result):
    return [row["message"] for row in result["violations"]]


def test_nothing_happens_for_the_whole_time(machine):
    machine.cgroup(WEB, 3)
    result = machine.watch([entry(kills=3)])
    assert result["violations"] == []
    assert result["seconds"] == 30
    assert result["kills"] == {"counted": 0, "in_changed": 0, "elsewhere": 0, "unattributed": 0}
    assert result["ended"] == []
    assert machine.reads == [1795384230.0]  # once, at the end: also who is no kernel may have killed


def test_a_kill_ends_the_watch(machine):
    machine.cgroup(WEB, 3)
    machine.cgroup(DB, 0)

    def kill():
        machine.cgroup(WEB, 4)
        machine.counted(6)

    machine.script[110.0] = kill
    result = machine.watch([entry(kills=3), entry(DB, label="docker db")])
    assert messages(result) == ["1 process of docker web-1 was killed for want of memory since the run began."]
    assert (result["violations"][0]["kind"], result["violations"][0]["path"]) == ("kill", WEB)
    assert result["seconds"] == 10
    assert result["kills"] == {"counted": 1, "in_changed": 1, "elsewhere": 0, "unattributed": 0}


def test_a_kill_between_the_change_and_the_watch_counts(machine):
    machine.cgroup(WEB, 4)
    machine.counted(6)
    result = machine.watch([entry(kills=3)])
    assert (len(result["violations"]), result["seconds"]) == (1, 0)


def test_a_kill_in_a_cgroup_below_counts(machine):
    machine.cgroup(WEB, 0 if machine.version == 1 else 2)
    machine.cgroup(WEB + "/init.scope", 2)
    machine.counted(7)
    assert len(machine.watch([entry()], seconds=0)["violations"]) == 1


def test_a_kill_elsewhere_is_no_violation(machine):
    machine.cgroup(WEB)
    machine.counted(7)
    machine.events = [event("/system.slice/other.service", "/system.slice", lines=2)]
    result = machine.watch([entry()], seconds=3)
    assert result["violations"] == []
    assert result["kills"] == {"counted": 2, "in_changed": 0, "elsewhere": 2, "unattributed": 0}
    assert len(machine.reads) == 2  # once it was explained, only at the end


def test_the_log_tells_of_a_workload_that_was_started_anew(machine):
    machine.cgroup(WEB, 0)
    machine.counted(6)
    machine.events = [event(limit=None)]
    result = machine.watch([entry(kills=0)])
    assert messages(result) == ["1 process of docker web-1 was killed for want of memory since the run began."]


def test_the_limit_may_be_that_of_the_changed_workload(machine):
    machine.cgroup("/shop.slice", 0)
    machine.events = [event("/elsewhere", "/shop.slice")]
    machine.counted(6)
    assert len(machine.watch([entry("/shop.slice")])["violations"]) == 1


@pytest.mark.parametrize(
    "other",
    [
        {"victim": WEB + "0", "limit": "/"},
        {"victim": None, "limit": None},
        {"outcome": "no_victim"},
        {"time": None},
    ],
)
def test_events_that_are_no_kill_of_the_workload(machine, other):
    machine.cgroup(WEB)
    machine.events = [event(**other)]
    assert machine.watch([entry()], seconds=0)["violations"] == []


def test_a_killer_in_user_space_counts_too(machine):
    machine.cgroup(WEB)
    machine.events = [event(lines=0, killer="systemd-oomd")]
    result = machine.watch([entry()], seconds=2)
    assert messages(result) == ["1 process of docker web-1 was killed for want of memory since the run began."]
    assert result["kills"]["counted"] == 0


def test_a_workload_that_ended_beside_kills_that_nobody_knows(machine):
    machine.counted(8)
    result = machine.watch([entry()], seconds=2)
    assert messages(result) == [
        "docker web-1 has ended, and of 3 kills since the run began no log says whose they were."
    ]
    assert result["ended"] == ["docker web-1"]


def test_a_workload_that_ended_is_no_violation(machine):
    result = machine.watch([entry()], seconds=2)
    assert (result["violations"], result["ended"]) == ([], ["docker web-1"])


def test_after_a_reboot_the_counters_began_anew(machine):
    machine.cgroup(WEB, 0)
    machine.counted(0)
    result = machine.watch([entry(kills=9, boot_id="2" * 32)], kills=500, boot_id="2" * 32, seconds=0)
    assert (result["violations"], result["kills"]["counted"]) == ([], 0)
    machine.cgroup(WEB, 1)
    machine.counted(1)
    assert machine.watch([entry(kills=9, boot_id="2" * 32)], kills=500, boot_id="2" * 32, seconds=0)["violations"]


def test_a_kernel_that_does_not_count(machine):
    machine.write("/proc/vmstat", "pgfault 1\n")
    machine.cgroup(WEB)
    machine.events = [event()]
    result = machine.watch([entry(kills=None)], kills=None, seconds=2)
    assert len(result["violations"]) == 1
    assert (result["kills"]["counted"], result["kills"]["unattributed"]) == (None, None)


def test_what_was_rolled_back_is_not_watched(machine):
    machine.cgroup(WEB, 9)
    machine.counted(9)
    assert machine.watch([entry(status="undone"), entry(status="gone")], seconds=0)["violations"] == []


def test_units_of_a_prefix(unified):
    unified.cgroup("/system.slice/docker-1.scope", 0)
    unified.cgroup("/system.slice/docker-.scope", 0)
    unified.cgroup("/system.slice/other.scope", 0)

    def kill():
        unified.cgroup("/system.slice/docker-1.scope", 1)
        unified.cgroup("/system.slice/other.scope", 1)
        unified.counted(7)

    unified.script[103.0] = kill
    result = unified.watch([entry(None, None, "docker-.scope", manager="systemd", identity="docker-.scope")])
    assert [row["path"] for row in result["violations"]] == ["/system.slice/docker-1.scope"]


# What v1 has in memory.oom_control: the OOM killer is off, and somebody waits.
OFF, WAITS = "oom_kill_disable 1\nunder_oom {0}\noom_kill 0\n", "oom_kill_disable {0}\nunder_oom 1\noom_kill 0\n"
HANGS = (
    "Processes of docker web-1 wait for memory that they will not get: the OOM killer is off for {0} "
    "(memory.oom_control), and it is at its limit."
)


@pytest.mark.parametrize("hung", [WEB, WEB + "/init.scope"])
def test_a_workload_that_hangs_because_nobody_may_be_killed(tmp_path, hung):
    machine = Machine(tmp_path, 1)
    for path in sorted({WEB, hung}):
        machine.cgroup(path)
    file = machine.folder(hung) + "/memory.oom_control"
    machine.write(file, OFF.format(0))
    machine.script[104.0] = lambda: machine.write(file, OFF.format(1))
    result = machine.watch([entry()])
    assert messages(result) == [HANGS.format(hung)]
    row = result["violations"][0]
    assert (row["kind"], row["label"], row["path"], result["seconds"]) == ("hang", "docker web-1", WEB, 5)


def test_somebody_who_lets_the_waiting_go_on_in_a_moment(tmp_path):
    machine = Machine(tmp_path, 1)
    machine.cgroup(WEB)
    file = machine.folder(WEB) + "/memory.oom_control"
    machine.write(file, OFF.format(0))
    machine.script[104.0] = lambda: machine.write(file, OFF.format(1))
    machine.script[105.0] = lambda: machine.write(file, OFF.format(0))
    assert messages(machine.watch([entry()])) == []


@pytest.mark.parametrize("control", [OFF.format(0), WAITS.format(0)])
def test_what_is_no_hang(tmp_path, control):
    """Nobody waits; somebody waits, and may be killed."""
    machine = Machine(tmp_path, 1)
    machine.cgroup(WEB)
    machine.write(machine.folder(WEB) + "/memory.oom_control", control)
    assert machine.watch([entry()], seconds=2)["violations"] == []


def pressed(machine, path=None):
    """A pressure file, and a function that adds a second of stall to it at every second of the clock."""
    place = machine.folder(path) + "/memory.pressure" if path else "/proc/pressure/memory"
    machine.stalled(place, 1000)
    return lambda share, moment: machine.stalled(place, 1000 + share * (moment - 100.0))


def test_pressure_above_the_bound(unified):
    unified.cgroup(WEB)
    at = pressed(unified, WEB)
    for second in range(1, 40):
        unified.script[100.0 + second] = lambda moment=100.0 + second: at(0.75, moment)
    result = unified.watch([entry()])
    assert messages(result) == ["Processes of docker web-1 waited for memory 75 % of the time; the bound is 60 %."]
    assert (result["violations"][0]["kind"], result["seconds"]) == ("pressure", 10)
    assert result["pressure"] == {
        "source": "cgroup",
        "highest": [{"label": "docker web-1", "path": WEB, "percent": 75.0}],
    }


def test_pressure_that_ended_with_the_change_is_not_the_policys(unified):
    unified.cgroup(WEB)
    pressed(unified, WEB)(0.0, 100.0)  # avg10 says 99 % still
    result = unified.watch([entry()])
    assert (result["violations"], result["pressure"]["highest"][0]["percent"]) == ([], 0.0)


def test_a_burst_of_pressure_in_a_long_watch(unified):
    unified.cgroup(WEB)
    at = pressed(unified, WEB)
    unified.script[115.0] = lambda: at(0.0, 115.0)
    for second in range(1, 11):
        moment = 115.0 + second
        unified.script[moment] = lambda moment=moment: unified.stalled(
            unified.folder(WEB) + "/memory.pressure", 1000 + 0.9 * (moment - 115.0)
        )
    result = unified.watch([entry()], most=50.0)
    assert 5 <= result["seconds"] - 15 <= 7
    assert len(result["violations"]) == 1


def test_a_watch_shorter_than_ten_seconds_judges_what_it_saw(unified):
    unified.cgroup(WEB)
    at = pressed(unified, WEB)
    for second in (1, 2, 3):
        unified.script[100.0 + second] = lambda moment=100.0 + second: at(0.8, moment)
    assert messages(unified.watch([entry()], seconds=3)) == [
        "Processes of docker web-1 waited for memory 80 % of the time; the bound is 60 %."
    ]


def test_without_a_bound_pressure_is_only_told(unified):
    unified.cgroup(WEB)
    at = pressed(unified, WEB)
    unified.script[110.0] = lambda: at(1.0, 110.0)
    result = unified.watch([entry()], seconds=10, most=None)
    assert result["violations"] == []
    assert result["pressure"]["highest"][0]["percent"] == 100.0


def test_where_cgroups_have_no_pressure_the_hosts_counts(tmp_path):
    machine = Machine(tmp_path, 1)
    machine.cgroup(WEB)
    at = pressed(machine)
    machine.script[110.0] = lambda: at(0.7, 110.0)
    result = machine.watch([entry()])
    assert messages(result) == ["Processes of the host waited for memory 70 % of the time; the bound is 60 %."]
    assert result["pressure"] == {"source": "host", "highest": [{"label": None, "path": None, "percent": 70.0}]}
    assert result["violations"][0]["label"] is None


def test_where_nobody_measures_pressure(machine):
    machine.cgroup(WEB)
    assert machine.watch([entry()], seconds=11)["pressure"] == {"source": None, "highest": []}


def test_a_cgroup_that_is_another_one_is_measured_anew(unified):
    unified.cgroup(WEB)
    pressed(unified, WEB)
    unified.script[105.0] = lambda: unified.stalled(unified.folder(WEB) + "/memory.pressure", 3)
    assert unified.watch([entry()])["violations"] == []


def test_a_host_without_cgroups_is_an_error(tmp_path):
    machine = Machine(tmp_path, 2)
    machine.write("/proc/self/mounts", "")
    with pytest.raises(Unreadable):
        machine.watch([entry()])


def test_kills_of_a_cgroup_that_is_gone(machine):
    machine.cgroup(WEB, 3)
    tree = hierarchies.find(run.Host(root=str(machine.root))).memory
    assert policy_watch.kills(tree, WEB) == 3
    assert policy_watch.kills(tree, DB) is None
