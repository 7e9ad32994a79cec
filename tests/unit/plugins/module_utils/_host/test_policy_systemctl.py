# Copyright (c) 2026 oom.forensics contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What systemd is told once behind all changes, and at once."""

import os
import sys

import pytest
from ansible_collections.oom.forensics.plugins.module_utils._host import policy_systemctl
from ansible_collections.oom.forensics.plugins.module_utils._host.policy_calls import ManagerError

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from container_hosts import MIB, WEB, make, v1, v2  # noqa: E402

SHOW = ["/usr/bin/systemctl", "show", "--property=Id,ControlGroup,MemorySwapMax", "--"]
SHOW += ["*.scope", "*oom_forensics.slice"]
RELOAD = ["/usr/bin/systemctl", "daemon-reload"]
SET = ["/usr/bin/systemctl", "set-property", "--runtime", "--"]
# Said by systemd 252.
GONE = "Failed to set unit properties on tr.service: Unit tr.service not found.\n"

SYSTEM = "/system.slice"


START = ["/usr/bin/systemctl", "start", "--job-mode=fail", "--"]
STOP = ["/usr/bin/systemctl", "stop", "--"]


def test_values_are_handed_over_by_a_slice_beside_the_units(tmp_path):
    parents = {"-.slice", "shop-cart.slice", "system.slice", "system-serial\\x2dgetty.slice"}
    own = [
        "oom_forensics.slice",
        "shop-cart-oom_forensics.slice",
        "system-oom_forensics.slice",
        "system-serial\\x2dgetty-oom_forensics.slice",
    ]
    host = make(tmp_path, 2, {}, [(START + own,), (STOP + own,)])
    policy_systemctl.realize(host, parents)
    policy_systemctl.realize(host, [])
    assert not host.stream.calls


def test_a_slice_whose_name_leaves_no_room_for_another(tmp_path):
    own = ["{0}-oom_forensics.slice".format("s" * 235)]
    host = make(tmp_path, 2, {}, [(START + own,), (STOP + own,)])
    policy_systemctl.realize(host, ["s" * 235 + ".slice", "l" * 236 + ".slice"])
    assert not host.stream.calls


def test_a_slice_that_does_not_start_is_stopped_still(tmp_path):
    own = ["system-oom_forensics.slice"]
    said = "Failed to start system-oom_forensics.slice: Transaction is destructive.\n"
    host = make(tmp_path, 2, {}, [(START + own, b"", 1, said), (STOP + own,)])
    with pytest.raises(ManagerError, match="`systemctl start` failed: .* Transaction is destructive"):
        policy_systemctl.realize(host, ["system.slice"])
    assert not host.stream.calls


def test_slices_that_a_killed_run_has_left_are_stopped(tmp_path):
    left = ["oom_forensics.slice", "shop-oom_forensics.slice"]
    shown = ["Id={0}\nControlGroup=/{0}\nMemorySwapMax=infinity\n".format(each) for each in left[::-1]]
    host = make(tmp_path, 2, {}, [(SHOW, "\n".join(shown).encode()), (STOP + left,), (RELOAD,)])
    policy_systemctl.reload(host)
    assert not host.stream.calls


def scope(name, swap):
    shown = "Id={0}\nControlGroup=/system.slice/{0}\nMemorySwapMax={1}\n".format(name, swap)
    return shown.encode()


def test_a_reload_leaves_limits_of_swap_that_systemd_was_not_told(tmp_path):
    names = ["docker-{0}{1}.scope".format(WEB[:-1], number) for number in range(5)]
    untold, told, free, ended, gone = names
    cgroups = {SYSTEM + "/" + name: v2(swap=0) for name in (untold, told, ended)}
    cgroups[SYSTEM + "/" + free] = v2()
    shown = [scope(untold, "infinity"), scope(told, 0), scope(free, "infinity"), scope(ended, 1), scope(gone, 1)]
    calls = [
        (SHOW, b"\n".join(shown)),
        (SET + [untold, "MemorySwapMax=0"],),
        (SET + [ended, "MemorySwapMax=0"], b"", 1, GONE),
        (RELOAD,),
    ]
    host = make(tmp_path, 2, cgroups, calls)
    policy_systemctl.reload(host)
    assert not host.stream.calls


@pytest.mark.parametrize(("count", "named"), [(1, ""), (2, " (and 1 more)")])
def test_no_reload_where_it_would_take_a_limit_of_swap_away(tmp_path, count, named):
    """The other scopes are told of their limits still, and the sentence says what state the drop-ins are in."""
    names = ["docker-{0}{1}.scope".format(WEB[:-1], number) for number in range(3)]
    said = ["Failed to set unit properties on {0}: Access denied\n".format(name) for name in names]
    results = [(b"", 1, said[number]) if number < count else () for number in range(3)]
    calls = [(SHOW, b"\n".join(scope(name, "infinity") for name in names))]
    calls += [(SET + [name, "MemorySwapMax=0"],) + result for name, result in zip(names, results)]
    host = make(tmp_path, 2, {SYSTEM + "/" + name: v2(swap=0) for name in names}, calls)
    with pytest.raises(ManagerError) as raised:
        policy_systemctl.reload(host)
    assert not host.stream.calls
    assert str(raised.value) == (
        "The drop-ins are written, but systemd has not read them yet: its daemon-reload would take away the limit of "
        "swap of {0}{1}, which it does not know and could not be told. `systemctl set-property` failed: {2}."
    ).format(names[0], named, said[0].strip())
    assert raised.value.advice == (
        "Run the task as root (become: true). Set MemorySwapMax of {0} with `systemctl set-property --runtime`, or let "
        "it end; then run `systemctl daemon-reload`."
    ).format(names[0])


def test_a_reload_on_cgroup_v1(tmp_path):
    """systemd has no limit of swap there, and a reload does not change any."""
    calls = [
        (SHOW, scope("x.scope", "infinity")),
        (RELOAD, b"", 1, "Reload daemon failed: Access denied\n"),
    ]
    host = make(tmp_path, 1, {SYSTEM + "/x.scope": v1(MIB, MIB)}, calls)
    with pytest.raises(ManagerError, match="`systemctl daemon-reload` failed: Reload daemon failed: Access denied"):
        policy_systemctl.reload(host)
    assert not host.stream.calls


def test_properties_that_last(tmp_path):
    argv = ["/usr/bin/systemctl", "set-property", "--", "x.slice", "MemoryHigh=1", "MemoryMax=infinity"]
    host = make(tmp_path, 2, {}, [(argv,)])
    policy_systemctl.set_properties(host, "x.slice", {"MemoryMax": None, "MemoryHigh": 1}, lasting=True)
    assert not host.stream.calls
