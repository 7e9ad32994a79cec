# Copyright (c) 2026 oom.forensics contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The options of oom_trace: what they refuse, and with what sentence."""

import pytest
from ansible_collections.oom.forensics.plugins.module_utils._host import tracer_backends
from ansible_collections.oom.forensics.plugins.module_utils._options import OptionError
from ansible_collections.oom.forensics.plugins.module_utils._trace_options import TRACE_SPEC, check

DEFAULTS = {name: spec.get("default") for name, spec in TRACE_SPEC.items()}


@pytest.mark.parametrize(
    "change",
    [{}, {"duration": 1}, {"duration": 86400}, {"max_events": 10000}, {"attach_timeout": 600}, {"cgroups": ["/a/*"]}],
)
def test_accepted(change):
    assert check(dict(DEFAULTS, **change)) is None


@pytest.mark.parametrize(
    "change,words",
    [
        ({"duration": 0}, "duration: 0 is out of range; it takes 1 to 86400."),
        ({"duration": 86401}, "duration: 86401"),
        ({"max_events": 0}, "max_events: 0"),
        ({"max_events": 10001}, "max_events: 10001"),
        ({"attach_timeout": 0}, "attach_timeout: 0"),
        ({"attach_timeout": 601}, "attach_timeout: 601"),
        ({"cgroups": ["/a", ""]}, "cgroups: an entry is empty; remove it."),
    ],
)
def test_refused(change, words):
    with pytest.raises(OptionError) as caught:
        check(dict(DEFAULTS, **change))
    assert words in str(caught.value)


def test_backends_in_the_order_of_trying():
    assert TRACE_SPEC["backend"]["choices"] == [tracer_backends.AUTO, *tracer_backends.BACKENDS]
