# Copyright (c) 2026 oom.forensics contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""When oom_trace has seen enough; real kills are traced in tests/system."""

import pytest
from ansible_collections.oom.forensics.plugins.module_utils import _trace_options
from ansible_collections.oom.forensics.plugins.module_utils._host import run, tracers
from ansible_collections.oom.forensics.plugins.module_utils._oom import traces

pytest.importorskip("ansible.module_utils.basic", reason="the target side is tested without ansible-core")
from ansible_collections.oom.forensics.plugins.modules import oom_trace


@pytest.mark.parametrize("matching,last", [(0, 10000), (3, 3)])
def test_how_many_kills_end_a_trace(monkeypatch, matching, last):
    """Of those that are asked for max_events, of all the most that are kept (documented with max_events)."""
    told = []

    def trace(host, request, hooks):
        for number in range(20000):
            told.append(number)
            cgroup = "/asked" if number < matching else "/other"
            if hooks.seen(traces.Kill(backend="bcc", victim_pid=number, victim_cgroup=cgroup)):
                return {}
        return None

    monkeypatch.setattr(tracers, "trace", trace)
    defaults = {name: spec.get("default") for name, spec in _trace_options.TRACE_SPEC.items()}
    params = dict(defaults, max_events=3, cgroups=["/asked"])
    kills = oom_trace.run_trace(run.Host(), params, lambda name: None)[1]
    assert len(kills) == len(told) == last
    assert "After {0} kills".format(_trace_options.MOST_EVENTS) in oom_trace.DOCUMENTATION
