# Copyright (c) 2026 oom.forensics contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""systemd as a keeper of memory settings: what it is asked, what its answers mean, what it is told."""

import json
import os
import pathlib
import sys

import pytest
from ansible_collections.oom.forensics.plugins.module_utils._host import policy_systemd
from ansible_collections.oom.forensics.plugins.module_utils._host.policy_calls import ManagerError, VanishedError
from ansible_collections.oom.forensics.plugins.module_utils._policy.model import SETTINGS, Survives

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from container_hosts import MIB, cgroups_of, make, v1, v2  # noqa: E402

FIXTURES = pathlib.Path(__file__).resolve().parents[4] / "fixtures" / "policy"
SHOW = [
    "/usr/bin/systemctl",
    "show",
    "--property=Id,LoadState,Transient,ControlGroup,DropInPaths,MainPID,NeedDaemonReload,MemoryHigh,MemoryLow,MemoryMax,"
    "MemoryMin,MemorySwapMax,OOMPolicy,OOMScoreAdjust",
    "--",
]
SET = ["/usr/bin/systemctl", "set-property", "--runtime", "--"]
BOOTED = {"/run/systemd/system/booted": ""}
# Said by systemd 252.
GONE = "Failed to set unit properties on tr.service: Unit tr.service not found.\n"
DENIED = "Failed to set unit properties on tr.service: Access denied\n"

LASTING = "/etc/systemd/system/probe.service.d/50-oom-forensics.conf"
RUNTIME = "/run/systemd/system/probe.service.d/60-oom-forensics.conf"
OVERRIDE = "/etc/systemd/system/probe.service.d/override.conf"
HEADER = "# The module oom.forensics.memory_policy wrote this file, and will rewrite or remove it.\n"

SYSTEM = "/system.slice"
PROBE = SYSTEM + "/probe.service"
CGROUPS = {
    SYSTEM: v2(),
    PROBE: v2(limit=100 * MIB, high=49999872, low="max"),
    PROBE + "/init.scope": v2(),
    SYSTEM + "/gone.service": v2(),
    SYSTEM + "/ssh.service": v2(),
    SYSTEM + "/system-serial\\x2dgetty.slice": v2(),
    SYSTEM + "/tr.service": v2(limit=64 * MIB),
    "/dev-hugepages.mount": v2(swap=None),
    "/init.scope": v2(),
    "/shop.slice": v2(limit=300 * MIB, high=200 * MIB, low=16 * MIB, least=8 * MIB, swap=0),
    "/shop.slice/probe2.service": v2(),
    "/user.slice/user-0.slice/session-5.scope": v2(),
    "/user.slice/user-0.slice/user@0.service": v2(),
}


def output(name):
    return (FIXTURES / name / "show.txt").read_bytes()


def machine(folder, *calls, files=None):
    """A host with the units of the transcript, and their targets by name."""
    names = sorted({path.rpartition("/")[2] for path in CGROUPS})
    listed = [(SHOW + names, output("systemd-252"))]
    host = make(folder, 2, CGROUPS, listed + list(calls), dict(BOOTED, **(files or {})))
    cgroups = [cgroup for cgroup in cgroups_of(host) if cgroup["path"] in CGROUPS]
    found, row = policy_systemd.targets(host, cgroups)
    assert row == {"manager": "systemd", "available": True, "workloads": len(found), "error": None, "advice": None}
    return host, {each.identity: each for each in found}


def text_of(host, path):
    place = pathlib.Path(host.root + path)
    return place.read_text() if place.exists() else None


def refusals(target):
    return {setting: each.refusal for setting, each in target.abilities.items() if each.refusal}


# --- seeing


def test_a_service(tmp_path):
    found = machine(tmp_path, files={"/proc/243/oom_score_adj": -600})[1]["probe.service"]
    assert (found.manager, found.label, found.path, found.unit) == ("systemd", "probe.service", PROBE, "probe.service")
    assert found.stored == {
        "memory_max": 100 * MIB,
        "memory_high": 50000001,
        "memory_low": None,
        "memory_min": 0,
        "memory_swap_max": None,
        "oom_policy": "kill",
        "oom_group": True,
        "oom_score_adjust": -600,
    }
    assert found.effective == {
        "memory_max": 100 * MIB,
        "memory_high": 49999872,
        "memory_low": None,
        "memory_min": 0,
        "memory_swap_max": None,
        "oom_group": False,
        "oom_score_adjust": -600,
    }
    assert (found.usage.current, found.usage.peak, found.usage.reclaimable) == (MIB, 2 * MIB, 12800)
    assert (found.critical, found.infrastructure, found.kept) == (False, False, ())


def test_only_units_of_the_hosts_own_systemd_are_targets(tmp_path):
    """Neither a cgroup inside of a unit that is called as one of the host, nor one that is gone by now."""
    found = machine(tmp_path)[1]
    inside = [PROBE + "/init.scope", SYSTEM + "/gone.service"]
    assert sorted(each.path for each in found.values()) == sorted(path for path in CGROUPS if path not in inside)


def test_what_can_be_done_for_a_service(tmp_path):
    abilities = machine(tmp_path)[1]["probe2.service"].abilities
    assert sorted(abilities) == sorted(SETTINGS)
    assert [setting for setting in SETTINGS if not abilities[setting].live] == ["oom_score_adjust"]
    assert {each.refusal for each in abilities.values()} == {None}
    assert {each.how for each in abilities.values()} == {
        "/etc/systemd/system/probe2.service.d/50-oom-forensics.conf",
    }
    assert {each.survives for each in abilities.values()} == {Survives(True, None, True)}


def test_what_does_not_last_ends_with_the_host(tmp_path):
    host = make(tmp_path, 2, CGROUPS, [(SHOW + ["shop.slice"], output("systemd-252"))], BOOTED)
    cgroups = [cgroup for cgroup in cgroups_of(host) if cgroup["path"] == "/shop.slice"]
    ((found,), _row) = policy_systemd.targets(host, cgroups, lasting=False)
    assert found.abilities["memory_max"].how == "/run/systemd/system/shop.slice.d/60-oom-forensics.conf"
    assert found.abilities["memory_max"].survives == Survives(True, None, False)


def test_a_slice_has_limits_and_no_processes(tmp_path):
    found = machine(tmp_path)[1]["shop.slice"]
    assert found.stored == {
        "memory_max": 300 * MIB,
        "memory_high": 200 * MIB,
        "memory_low": 16 * MIB,
        "memory_min": 8 * MIB,
        "memory_swap_max": 0,
    }
    sentence = "systemd has no {0} for a unit of this type; give it to the services instead."
    assert refusals(found) == {
        "oom_group": sentence.format("OOMPolicy"),
        "oom_policy": sentence.format("OOMPolicy"),
        "oom_score_adjust": sentence.format("OOMScoreAdjust"),
    }


def test_systemd_itself_is_left_alone(tmp_path):
    found = machine(tmp_path)[1]["init.scope"]
    assert sorted(refusals(found)) == sorted(SETTINGS)
    assert set(refusals(found).values()) == {"It holds systemd itself, and with it the host; leave it without limits."}


def test_swap_that_the_kernel_does_not_account(tmp_path):
    found = machine(tmp_path)[1]["dev-hugepages.mount"]
    assert refusals(found)["memory_swap_max"] == (
        "The kernel has no memory_swap_max for this cgroup: it is too old, or does not account that (swapaccount=1)."
    )


def test_a_transient_unit(tmp_path):
    found = machine(tmp_path)[1]
    service, session = found["tr.service"], found["session-5.scope"]
    assert service.abilities["memory_max"].how == "`systemctl set-property --runtime tr.service`"
    assert service.abilities["memory_max"].survives == Survives(False, None, False)
    assert refusals(service)["oom_group"] == (
        "It is transient, and gets oom_group only where it is made, as by systemd-run --property=OOMPolicy=."
    )
    assert sorted(refusals(service)) == ["oom_group", "oom_policy", "oom_score_adjust"]
    assert refusals(session)["oom_score_adjust"] == (
        "The processes of a scope run before systemd has them; set oom_score_adjust where they are started."
    )


def test_a_critical_daemon_and_its_slice(tmp_path):
    files = {
        "/proc/265/stat": "265 (sshd) S 1",
        "/proc/265/status": "Uid:\t0\t0\t0\t0",
        "/proc/265/cgroup": "0::/system.slice/ssh.service",
    }
    files["/proc/self/mounts"] = "cgroup2 /sys/fs/cgroup cgroup2 rw 0 0"
    found = machine(tmp_path, files=files)[1]
    assert [name for name in sorted(found) if found[name].critical] == ["ssh.service", "system.slice"]


def test_what_somebody_set_behind_the_policys_drop_in(tmp_path):
    files = {LASTING: "[Service]\nMemoryMax=209715200\n", OVERRIDE: "[Service]\n# MemoryLow=1\nMemoryMax=100M\n"}
    found = machine(tmp_path, files=files)[1]["probe.service"]
    assert found.stored["memory_max"] == 100 * MIB
    assert refusals(found) == {
        "memory_max": OVERRIDE + " sets MemoryMax too, and systemd reads it behind the policy's drop-in; "
        "take it out there."
    }


@pytest.mark.parametrize(("text", "stored"), [("MemoryMax=209715200", 200 * MIB), ("MemoryMax=1G", 100 * MIB)])
def test_what_somebody_set_over_a_drop_in_counts_only_until_the_next_reload(tmp_path, text, stored):
    found = machine(tmp_path, files={LASTING: "[Service]\n{0}\n".format(text)})[1]["probe.service"]
    assert found.stored["memory_max"] == stored


def unit(name, need="no", drop_ins="", load_state="loaded", transient="no"):
    """What `systemctl show` tells of a service that runs."""
    return (
        "Id={0}\nLoadState={1}\nTransient={2}\nControlGroup=/system.slice/{0}\nDropInPaths={3}\nMainPID=0\n"
        "NeedDaemonReload={4}\nOOMPolicy=stop\nOOMScoreAdjust=0\nMemoryMax=infinity\n"
    ).format(name, load_state, transient, drop_ins, need)


@pytest.mark.parametrize(
    ("need", "read", "stored"),
    [
        ("yes", LASTING, "stop"),
        ("no", "", "stop"),  # 252 does not see a drop-in in a new folder
        ("no", OVERRIDE, "stop"),
        ("no", LASTING, "continue"),
    ],
)
def test_a_drop_in_that_systemd_has_not_read_is_not_stored(tmp_path, need, read, stored):
    """A run was cut off between the file and the reload, and the next one has to do it."""
    shown = unit("probe.service", need, read).encode()
    files = dict(BOOTED, **{LASTING: "[Service]\nOOMPolicy=continue\n"})
    host = make(tmp_path, 2, {PROBE: v2()}, [(SHOW + ["probe.service"], shown)], files)
    cgroups = [cgroup for cgroup in cgroups_of(host) if cgroup["path"] == PROBE]
    ((found,), _row) = policy_systemd.targets(host, cgroups)
    assert found.stored["oom_policy"] == stored
    policy_systemd.apply(host, found, {"oom_policy": "continue"}, lasting=True)
    assert text_of(host, LASTING) == HEADER + "[Service]\nOOMPolicy=continue\n"


def test_a_path_that_systemd_quotes(tmp_path):
    name = "pro\\x2dbe.service"
    path = LASTING.replace("probe.service", name)
    shown = unit(name, drop_ins='"{0}"'.format(path.replace("\\", "\\\\"))).encode()
    files = dict(BOOTED, **{path: "[Service]\nOOMPolicy=continue\n"})
    host = make(tmp_path, 2, {SYSTEM + "/" + name: v2()}, [(SHOW + [name], shown)], files)
    cgroups = [cgroup for cgroup in cgroups_of(host) if cgroup["path"].endswith(name)]
    ((found,), _row) = policy_systemd.targets(host, cgroups)
    assert found.stored["oom_policy"] == "continue"


def test_a_prefix(tmp_path):
    drop_in = "/etc/systemd/system/docker-.scope.d/10-oom-forensics.conf"
    files = dict(BOOTED, **{drop_in: "[Scope]\nMemoryMax=104857600\nOOMPolicy=kill"})
    host = make(tmp_path, 2, CGROUPS, [(SHOW + ["init.scope", "docker-?*.scope"], output("systemd-252"))], files)
    cgroups = [cgroup for cgroup in cgroups_of(host) if cgroup["path"] == "/init.scope"]
    found = policy_systemd.targets(host, cgroups, ["docker-.scope"])[0][1]
    assert (found.identity, found.label, found.unit, found.path) == ("docker-.scope",) * 3 + (None,)
    assert found.stored == {"memory_max": 100 * MIB, "oom_policy": "kill", "oom_group": True}
    assert (found.effective, found.cgroup_version, found.workload["unit"]) == ({}, 2, "docker-.scope")
    assert sorted(refusals(found)) == ["oom_score_adjust"]
    assert found.abilities["memory_max"].how == drop_in


OF_PREFIX = "/etc/systemd/system/web-.service.d/10-oom-forensics.conf"


@pytest.mark.parametrize(
    ("units", "stored"),
    [
        ([], {"memory_max": MIB}),
        ([unit("web-1.service", drop_ins=OF_PREFIX), unit("web-2.service", "yes", OF_PREFIX)], {}),
        ([unit("web-1.service")], {}),
        ([unit("web-1.service", drop_ins=OF_PREFIX)], {"memory_max": MIB}),
        # The file of a longer prefix takes the place of a shorter one's.
        ([unit("web-a-1.service", drop_ins=OF_PREFIX.replace("web-", "web-a-"))], {"memory_max": MIB}),
        ([unit("other.service", "yes"), unit("web-1.scope", "yes")], {"memory_max": MIB}),
        ([unit("web-1.service", "yes", load_state="not-found")], {"memory_max": MIB}),
        # What systemd says of every scope that runc has made.
        ([unit("web-1.service", "yes", OF_PREFIX, transient="yes")], {"memory_max": MIB}),
        ([unit("web-1.service", "yes", transient="yes")], {}),
    ],
)
def test_what_a_prefix_has_stored_is_not_known_while_one_of_its_units_has_not_read_it(tmp_path, units, stored):
    files = dict(BOOTED, **{OF_PREFIX: "[Service]\nMemoryMax=1048576\n"})
    shown = "\n".join([unit("init.scope")] + units).encode()
    host = make(tmp_path, 2, {"/init.scope": v2()}, [(SHOW + ["init.scope", "web-?*.service"], shown)], files)
    cgroups = [cgroup for cgroup in cgroups_of(host) if cgroup["path"] == "/init.scope"]
    found = policy_systemd.targets(host, cgroups, ["web-.service"])[0][-1]
    assert (found.identity, found.stored) == ("web-.service", stored)


def test_a_prefix_that_would_leave_its_folder(tmp_path):
    host = make(tmp_path, 2, CGROUPS, [(SHOW + ["init.scope"], output("systemd-252"))], BOOTED)
    cgroups = [cgroup for cgroup in cgroups_of(host) if cgroup["path"] == "/init.scope"]
    found = policy_systemd.targets(host, cgroups, ["../../x-.scope"])[0][1]
    assert set(refusals(found).values()) == {"../../x-.scope is no name of a unit."}
    assert sorted(refusals(found)) == sorted(SETTINGS)


def test_cgroup_v1(tmp_path):
    """What systemd 247 stores there and does not carry out."""
    cgroups = {PROBE: v1(64 * MIB), "/shop.slice": v1(256 * MIB), "/init.scope": v1()}
    names = ["init.scope", "probe.service", "shop.slice"]
    host = make(tmp_path, 1, cgroups, [(SHOW + names + ["docker-?*.scope"], output("systemd-247-cgroupv1"))], BOOTED)
    listed = [cgroup for cgroup in cgroups_of(host) if cgroup["path"] in cgroups]
    found = {each.identity: each for each in policy_systemd.targets(host, listed, ["docker-.scope"])[0]}
    assert (found["probe.service"].stored["memory_max"], found["shop.slice"].stored["memory_max"]) == (
        64 * MIB,
        256 * MIB,
    )
    refused = refusals(found["probe.service"])
    assert sorted(set(SETTINGS) - set(refused)) == ["memory_max", "oom_score_adjust"]
    assert refused["oom_policy"] == "systemd sets no oom_policy on cgroup v1; boot the host with cgroup v2."
    assert sorted(set(SETTINGS) - set(refusals(found["docker-.scope"]))) == ["memory_max"]


def test_scopes_without_a_policy(tmp_path):
    shown = output("systemd-252").split(b"\n\n")[6].replace(b"OOMPolicy=continue\n", b"")
    host = make(tmp_path, 2, CGROUPS, [(SHOW + ["session-5.scope"], shown)], BOOTED)
    cgroups = [cgroup for cgroup in cgroups_of(host) if cgroup["path"].endswith("/session-5.scope")]
    ((found,), _row) = policy_systemd.targets(host, cgroups)
    assert refusals(found)["oom_policy"] == (
        "This systemd has no OOMPolicy for scopes (it came with 253); install a newer one."
    )


def test_no_systemd(tmp_path):
    host = make(tmp_path, 2, CGROUPS)
    found, row = policy_systemd.targets(host, cgroups_of(host), ["docker-.scope"])
    assert (found, row["available"], row["error"]) == ([], False, None)


def test_a_systemd_that_does_not_answer(tmp_path):
    said = "Failed to connect to bus: No such file or directory\n"
    host = make(tmp_path, 2, {PROBE: v2()}, [(SHOW + ["probe.service"], b"", 1, said)], BOOTED)
    cgroups = [cgroup for cgroup in cgroups_of(host) if cgroup["path"] == PROBE]
    ((found,), row) = policy_systemd.targets(host, cgroups)
    sentence = "`systemctl show` failed: Failed to connect to bus: No such file or directory."
    assert (row["available"], row["workloads"], row["error"]) == (False, 1, sentence)
    assert (found.path, set(refusals(found).values())) == (PROBE, {sentence})


# --- changing


def changed(folder, wanted, lasting, files=None):
    host, found = machine(folder, files=files)
    target = found["probe.service"]
    before = json.loads(json.dumps(policy_systemd.before(target, wanted)))
    policy_systemd.apply(host, target, wanted, lasting)
    return host, before


def test_a_drop_in(tmp_path):
    wanted = {
        "memory_max": 64 * MIB,
        "memory_high": None,
        "memory_low": None,
        "memory_min": 0,
        "memory_swap_max": 0,
        "oom_policy": "stop",
        "oom_score_adjust": -600,
    }
    host, before = changed(tmp_path, wanted, lasting=True)
    assert text_of(host, LASTING) == (
        HEADER
        + "[Service]\nMemoryHigh=infinity\nMemoryLow=infinity\nMemoryMax=67108864\nMemoryMin=0\nMemorySwapMax=0\n"
        "OOMPolicy=stop\nOOMScoreAdjust=-600\n"
    )
    assert os.stat(host.root + LASTING).st_mode & 0o777 == 0o644
    assert os.listdir(os.path.dirname(host.root + LASTING)) == ["50-oom-forensics.conf"]
    for _again in range(2):
        policy_systemd.undo(host, before)
        assert not os.path.exists(os.path.dirname(host.root + LASTING))


def test_a_drop_in_keeps_what_else_it_sets(tmp_path):
    old = HEADER + "[Service]\nMemoryHigh=50331648\nMemoryMax=209715200"
    host, before = changed(tmp_path, {"memory_max": None}, lasting=True, files={LASTING: old, OVERRIDE: "[Service]"})
    assert text_of(host, LASTING) == HEADER + "[Service]\nMemoryHigh=50331648\nMemoryMax=infinity\n"
    policy_systemd.undo(host, before)
    assert (text_of(host, LASTING), text_of(host, OVERRIDE)) == (old + "\n", "[Service]\n")


def test_a_change_that_does_not_last(tmp_path):
    files = {LASTING: "[Service]\nMemoryMax=209715200"}
    host, before = changed(tmp_path, {"memory_max": MIB}, lasting=False, files=files)
    assert text_of(host, RUNTIME) == HEADER + "[Service]\nMemoryMax=1048576\n"
    assert text_of(host, LASTING) == files[LASTING] + "\n"
    policy_systemd.undo(host, before)
    assert text_of(host, RUNTIME) is None


def test_a_lasting_change_takes_the_place_of_one_that_is_not(tmp_path):
    files = {RUNTIME: "[Service]\nMemoryHigh=1048576\nMemoryMax=209715200"}
    host, before = changed(tmp_path, {"memory_max": MIB}, lasting=True, files=files)
    assert text_of(host, RUNTIME) == HEADER + "[Service]\nMemoryHigh=1048576\n"
    assert text_of(host, LASTING) == HEADER + "[Service]\nMemoryMax=1048576\n"
    policy_systemd.undo(host, before)
    assert (text_of(host, LASTING), text_of(host, RUNTIME)) == (None, files[RUNTIME] + "\n")


@pytest.mark.parametrize(
    ("unit", "wanted", "policy"),
    [
        ("probe2.service", {"oom_group": True}, "kill"),
        ("probe2.service", {"oom_group": False}, "stop"),
        ("probe.service", {"oom_group": False}, "stop"),
        ("user@0.service", {"oom_group": False}, "continue"),
        ("probe.service", {"oom_group": False, "oom_policy": "continue"}, "continue"),
        ("probe2.service", {"oom_group": True, "oom_policy": "kill"}, "kill"),
    ],
)
def test_the_group_kill_is_a_policy(tmp_path, unit, wanted, policy):
    host, found = machine(tmp_path)
    policy_systemd.apply(host, found[unit], wanted, lasting=True)
    path = "/etc/systemd/system/{0}.d/50-oom-forensics.conf".format(unit)
    assert text_of(host, path) == HEADER + "[Service]\nOOMPolicy={0}\n".format(policy)


@pytest.mark.parametrize(
    "wanted", [{"oom_group": True, "oom_policy": "stop"}, {"oom_group": False, "oom_policy": "kill"}]
)
def test_a_group_kill_that_is_none(tmp_path, wanted):
    host, found = machine(tmp_path)
    sentence = "systemd has one word for both, and oom_policy kill is oom_group true; give only one of them."
    assert policy_systemd.refusal(found["probe.service"], wanted) == sentence
    with pytest.raises(ManagerError, match="one word for both"):
        policy_systemd.apply(host, found["probe.service"], wanted, lasting=True)
    assert policy_systemd.refusal(found["probe.service"], {"oom_group": True}) is None


def test_a_transient_unit_gets_properties(tmp_path):
    wanted = {"memory_max": None, "memory_min": 4 * MIB}
    host, found = machine(
        tmp_path,
        (SET + ["tr.service", "MemoryMax=infinity", "MemoryMin=4194304"],),
        (SET + ["tr.service", "MemoryMax=67108864", "MemoryMin=0"],),
        (SET + ["tr.service", "MemoryMax=67108864", "MemoryMin=0"], b"", 1, GONE),
        (SET + ["tr.service", "MemoryMax=67108864", "MemoryMin=0"], b"", 1, DENIED),
    )
    before = json.loads(json.dumps(policy_systemd.before(found["tr.service"], wanted)))
    policy_systemd.apply(host, found["tr.service"], wanted, lasting=True)
    policy_systemd.undo(host, before)
    with pytest.raises(VanishedError, match="It ended meanwhile: `systemctl set-property` failed"):
        policy_systemd.undo(host, before)
    with pytest.raises(ManagerError, match="Access denied") as refused:
        policy_systemd.undo(host, before)
    assert not isinstance(refused.value, VanishedError)
    assert not os.path.exists(str(tmp_path / "etc"))


SYSTEMCTL = "/usr/bin/systemctl"
RELOAD = [
    ([SYSTEMCTL, "show", "--property=Id,ControlGroup,MemorySwapMax", "--", "*.scope", "*oom_forensics.slice"], b""),
    ([SYSTEMCTL, "daemon-reload"],),
]
SHOW_WITH_SLICE = SHOW[:2] + [SHOW[2] + ",Slice", "--"]
START = ([SYSTEMCTL, "start", "--job-mode=fail", "--", "system-oom_forensics.slice"],)
REFUSED = START + (b"", 1, "Failed to start system-oom_forensics.slice: Transaction is destructive.\n")
STOP = ([SYSTEMCTL, "stop", "--", "system-oom_forensics.slice"],)
NOTE = (
    "systemd has read the drop-in, and would not give it to the kernel before the next start: `systemctl start` "
    "failed: Failed to start system-oom_forensics.slice: Transaction is destructive."
)


def read_anew(name, limit=64 * MIB, policy="stop", running=True):
    """A unit of which systemd has read what is to be in force."""
    where = SYSTEM + "/" + name if running else ""
    shown = "Id={0}\nControlGroup={1}\nSlice=system.slice\nMemoryMax={2}\nMemoryHigh=infinity\nOOMPolicy={3}\n"
    return shown.format(name, where, limit, policy).encode()


def finished(folder, monkeypatch, units, shown, cgroups, *calls, version=2):
    """What is said behind all changes, with these calls to systemctl and no other."""
    monkeypatch.setattr(policy_systemd, "_GRACE_SECONDS", 0.05)
    names = [each.replace("docker-.scope", "docker-?*.scope") for each in units]
    told = RELOAD + [(SHOW_WITH_SLICE + names, b"\n".join(shown))] + list(calls)
    host = make(folder, version, {SYSTEM + "/" + name: cgroup for name, cgroup in cgroups.items()}, told)
    notes = policy_systemd.finish(host, units)
    assert not host.stream.calls
    return notes


@pytest.mark.parametrize(
    ("shown", "cgroup"),
    [
        (read_anew("a.service"), v2(limit=64 * MIB)),
        (read_anew("a.service", "infinity"), v2()),
        (read_anew("a.service", running=False), v2()),
        (read_anew("ended.service"), v2()),
    ],
)
def test_what_the_kernel_has_is_not_handed_over(tmp_path, monkeypatch, shown, cgroup):
    assert finished(tmp_path, monkeypatch, ["a.service"], [shown], {"a.service": cgroup}) == {}


def test_the_kernel_has_whole_pages(tmp_path, monkeypatch):
    monkeypatch.setattr(policy_systemd.counters, "page_size", lambda host: 4096)
    cgroups = {"a.service": v2(limit=64 * MIB)}
    assert finished(tmp_path / "1", monkeypatch, ["a.service"], [read_anew("a.service", 64 * MIB + 1)], cgroups) == {}
    shown = [read_anew("a.service", 64 * MIB + 4096)]
    assert finished(tmp_path / "2", monkeypatch, ["a.service"], shown, cgroups, START, STOP) == {}


@pytest.mark.parametrize(
    ("shown", "cgroup"),
    [
        (read_anew("a.service"), v2()),
        (read_anew("a.service", "infinity"), v2(limit=64 * MIB)),
        (read_anew("a.service", policy="kill"), v2(limit=64 * MIB)),
    ],
)
def test_what_systemd_keeps_to_itself_is_handed_over(tmp_path, monkeypatch, shown, cgroup):
    """As 257 does with units that run."""
    assert finished(tmp_path, monkeypatch, ["a.service"], [shown], {"a.service": cgroup}, START, STOP) == {}


def test_units_of_a_prefix_get_their_values_too(tmp_path, monkeypatch):
    shown = [read_anew("docker-1.scope"), read_anew("docker-2.scope", 32 * MIB)]
    cgroups = {"docker-1.scope": v2(limit=64 * MIB), "docker-2.scope": v2(limit=64 * MIB)}
    assert finished(tmp_path, monkeypatch, ["docker-.scope"], shown, cgroups, START, STOP) == {}


def test_the_kernel_decides_when_systemd_would_not_hand_over(tmp_path, monkeypatch):
    units = ["a.service", "b.service", "docker-.scope"]
    shown = [read_anew("a.service", 32 * MIB), read_anew("b.service"), read_anew("docker-1.scope", 32 * MIB)]
    cgroups = dict.fromkeys(["a.service", "b.service", "docker-1.scope"], v2(limit=64 * MIB))
    notes = finished(tmp_path, monkeypatch, units, shown, cgroups, REFUSED, STOP)
    assert notes == {"a.service": NOTE, "docker-.scope": NOTE}


def test_on_cgroup_v1_the_kernel_is_left_to_systemd(tmp_path, monkeypatch):
    shown, cgroups = [read_anew("a.service")], {"a.service": v1()}
    assert finished(tmp_path, monkeypatch, ["a.service"], shown, cgroups, version=1) == {}


def test_a_slice_of_our_own_is_no_workload(tmp_path):
    host = make(tmp_path, 2, {SYSTEM + "/system-oom_forensics.slice": v2()}, [], BOOTED)
    cgroups = [cgroup for cgroup in cgroups_of(host) if cgroup["path"].endswith("forensics.slice")]
    assert policy_systemd.targets(host, cgroups)[0] == []
