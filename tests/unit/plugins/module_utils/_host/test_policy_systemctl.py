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

SHOW = ["/usr/bin/systemctl", "show", "--property=Id,ControlGroup,MemorySwapMax", "--", "*.scope"]
RELOAD = ["/usr/bin/systemctl", "daemon-reload"]
SET = ["/usr/bin/systemctl", "set-property", "--runtime", "--"]
# Said by systemd 252.
GONE = "Failed to set unit properties on tr.service: Unit tr.service not found.\n"

SYSTEM = "/system.slice"


SHOW_SLICES = ["/usr/bin/systemctl", "show", "--property=Id,ControlGroup,Slice", "--"]
RESTART = ["/usr/bin/systemctl", "restart", "--"]
STOP = ["/usr/bin/systemctl", "stop", "--"]
GETTYS = "system-serial\\x2dgetty.slice"


def running(path, within):
    return "Id={0}\nControlGroup={1}\nSlice={2}\n".format(path.rpartition("/")[2], path, within).encode()


def test_units_that_run_get_their_values_at_once(tmp_path):
    """systemd 257 hands them over when something starts in the same slice."""
    units = ["cart.service", "getty-?*.service", "idle.service", "shop.slice", "web.service"]
    shown = [
        running("/shop.slice/shop-cart.slice/cart.service", "shop-cart.slice"),
        running("/system.slice/{0}/getty-1.service".format(GETTYS), GETTYS),
        running("/system.slice/{0}/getty-2.service".format(GETTYS), GETTYS),
        b"Id=idle.service\nControlGroup=\nSlice=other.slice\n",
        running("/shop.slice", "-.slice"),
        running("/system.slice/web.service", "system.slice"),
    ]
    ours = [
        "oom_forensics.slice",
        "shop-cart-oom_forensics.slice",
        "system-oom_forensics.slice",
        "system-serial\\x2dgetty-oom_forensics.slice",
    ]
    calls = [(SHOW, b""), (RELOAD,), (SHOW_SLICES + units, b"\n".join(shown)), (RESTART + ours,), (STOP + ours,)]
    host = make(tmp_path, 2, {}, calls)
    policy_systemctl.reload(host, units)
    assert not host.stream.calls


def test_nothing_is_started_for_units_that_do_not_run(tmp_path):
    shown = b"Id=idle.service\nControlGroup=\nSlice=system.slice\n"
    host = make(tmp_path, 2, {}, [(SHOW, b""), (RELOAD,), (SHOW_SLICES + ["idle.service"], shown)])
    policy_systemctl.reload(host, ["idle.service"])
    assert not host.stream.calls


def test_a_slice_that_does_not_start_is_stopped_still(tmp_path):
    ours = ["system-oom_forensics.slice"]
    calls = [
        (SHOW, b""),
        (RELOAD,),
        (SHOW_SLICES + ["web.service"], running("/system.slice/web.service", "system.slice")),
        (RESTART + ours, b"", 1, "Job for system-oom_forensics.slice failed.\n"),
        (STOP + ours,),
    ]
    host = make(tmp_path, 2, {}, calls)
    with pytest.raises(ManagerError, match="`systemctl restart` failed: Job for system-oom_forensics.slice failed"):
        policy_systemctl.reload(host, ["web.service"])
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
    policy_systemctl.reload(host, [])
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
        policy_systemctl.reload(host, [])
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
        policy_systemctl.reload(host, [])
    assert not host.stream.calls


def test_properties_that_last(tmp_path):
    argv = ["/usr/bin/systemctl", "set-property", "--", "x.slice", "MemoryHigh=1", "MemoryMax=infinity"]
    host = make(tmp_path, 2, {}, [(argv,)])
    policy_systemctl.set_properties(host, "x.slice", {"MemoryMax": None, "MemoryHigh": 1}, lasting=True)
    assert not host.stream.calls
