# Copyright (c) 2026 oom.forensics contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The options of every collecting module: what they accept, and what one sentence they refuse the rest with."""

import pytest
from ansible_collections.oom.forensics.plugins.module_utils._options import (
    COLLECT_SPEC,
    OptionError,
    collect_arguments,
    parse_time,
    utf8,
)

NOW = 1795384230.0  # 2026-11-22T21:50:30Z


def params(**changed):
    return dict({name: spec.get("default") for name, spec in COLLECT_SPEC.items()}, **changed)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("2026-11-22T21:50:30Z", NOW),
        ("2026-11-22T21:50:30", NOW),
        ("2026-11-22 21:50:30", NOW),
        ("2026-11-22T23:50:30+02:00", NOW),
        ("2026-11-22T16:20:30-0530", NOW),
        ("2026-11-22T21:50:30.250000Z", NOW + 0.25),
        ("2026-11-22T21:50:30.5Z", NOW + 0.5),
        ("2026-11-22T21:50Z", NOW - 30),
        ("2026-11-22", NOW - 30 - 50 * 60 - 21 * 3600),
        ("-2h", NOW - 7200),
        ("2h", NOW - 7200),
        ("1d", NOW - 86400),
        ("1d12h", NOW - 129600),
        ("1h 30min", NOW - 5400),
        ("30min ago", NOW - 1800),
        ("2 hours ago", NOW - 7200),
        ("-90s", NOW - 90),
        ("1w", NOW - 604800),
        (" 2h ", NOW - 7200),
    ],
)
def test_times_that_are_understood(text, seconds):
    assert parse_time("since", text, NOW) == seconds


@pytest.mark.parametrize(
    "text",
    [
        "",
        "yesterday",
        "2 fortnights",
        "+2h",
        "2",
        "-2",
        "h",
        "2h3",
        "--2h",
        "1.5h",
        "2026-13-01",
        "2026-02-30",
        "2026-11-22T24:00:00Z",
        "2026-11-22T21:50:30+25",
        "22.11.2026",
        "2026-11-22T21:50:30Z; rm -rf /",
        "2026-11-22T21:50:30Z\nx",
        "٢h",
        "1969-12-31",
        "0001-01-01T00:00:00+23:59",
        "999999999w",
        "9" * 6000 + "d",
        "1h" * 20000 + "!",
    ],
)
def test_times_that_are_refused_in_one_sentence(text):
    with pytest.raises(OptionError) as refused:
        parse_time("since", text, NOW)
    message = str(refused.value)
    assert message.startswith("since: ")
    assert message.endswith(".")
    assert "2026-11-22T21:50:30Z" in message


def test_a_refused_time_is_quoted_briefly():
    with pytest.raises(OptionError) as refused:
        parse_time("since", "x" * 100000, NOW)
    assert len(str(refused.value)) < 400


def test_no_time_is_no_limit():
    assert parse_time("since", None, NOW) is None


def test_defaults_pass():
    assert collect_arguments(params(), NOW) == params()


def test_times_become_epoch_seconds():
    arguments = collect_arguments(params(since="-2h", until="2026-11-22T21:50:30Z"), NOW)
    assert (arguments["since"], arguments["until"]) == (NOW - 7200, NOW)


@pytest.mark.parametrize(
    ("changed", "begins"),
    [
        ({"since": "-1h", "until": "-2h"}, "since (-1h) is later than until (-2h)"),
        ({"max_events": 0}, "max_events: 0 is too small"),
        ({"max_tasks": -1}, "max_tasks: -1 is too small"),
        ({"paths": [""]}, "paths: an entry is empty"),
        ({"sources": []}, "sources: the list is empty"),
        ({"until": "soon"}, "until: 'soon' is not a time"),
    ],
)
def test_options_that_are_refused(changed, begins):
    with pytest.raises(OptionError) as refused:
        collect_arguments(params(**changed), NOW)
    assert str(refused.value).startswith(begins)


def test_paths_need_no_source():
    assert collect_arguments(params(sources=[], paths=["/var/log/kern.log"]), NOW)["paths"] == ["/var/log/kern.log"]


def test_utf8_keeps_what_is_text_and_spells_out_what_is_not():
    value = {"comm": "b\udcffse", "list": ["ü", 1, None, True, "\ud800"]}
    cleaned = utf8(value)
    assert cleaned == {"comm": "b\\udcffse", "list": ["ü", 1, None, True, "\\ud800"]}
    str(cleaned).encode("utf-8")
