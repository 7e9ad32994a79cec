# Copyright (c) 2026 oom.forensics contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A result that fits: which events go, what the coverage says then."""

import json

import pytest
from ansible_collections.oom.forensics.plugins.module_utils._budget import DETAIL_KEYS, fit, newest, summarize

EVENTS = [{"id": str(number), "text": "ü" * 100} for number in range(200)]


def coverage():
    return {"truncated": False, "events_total": 200, "events_returned": 200, "advice": []}


def test_everything_stays_where_it_fits():
    assert fit(EVENTS, coverage(), 10**6) == {"events": EVENTS, "coverage": coverage()}


@pytest.mark.parametrize("budget", [1000, 16384, 50000, 100000])
def test_the_oldest_go_until_the_json_fits(budget):
    result = fit(EVENTS, coverage(), budget)
    kept = len(result["events"])
    assert len(json.dumps(result)) <= budget
    assert 0 < kept < 200
    assert result["events"] == EVENTS[200 - kept :]
    assert result["coverage"] == dict(coverage(), truncated=True, events_returned=kept)
    # One more would not have fitted, give or take the room kept for the numbers.
    assert len(json.dumps(result)) + len(json.dumps(EVENTS[0])) > budget - 100


def test_an_event_larger_than_the_budget_leaves_none():
    result = fit([{"text": "x" * 9999}], coverage(), 1000)
    assert result["events"] == []
    assert result["coverage"]["truncated"] is True


def test_earlier_truncation_is_not_forgotten():
    assert fit(EVENTS, dict(coverage(), truncated=True), 10**6)["coverage"]["truncated"] is True


def test_the_arguments_stay_as_they_are():
    given = coverage()
    fit(EVENTS, given, 1000)
    assert given == coverage()


def test_a_summary_keeps_every_key():
    event = dict.fromkeys(DETAIL_KEYS, ["long"])
    event["id"] = "1"
    brief = summarize(event)
    assert set(brief) == set(event)
    assert [brief[key] for key in DETAIL_KEYS] == [None, None, None]
    assert event["tasks"] == ["long"]


@pytest.mark.parametrize(
    "events,most,expected",
    [
        ("t1 l2", 1, "t1"),
        ("l1 t2 t3", 1, "t3"),
        ("l1 t2 l3 t4", 3, "t2 l3 t4"),
        ("l1 l2", 1, "l2"),
        ("l1 t2", 5, "l1 t2"),
    ],
)
def test_what_was_traced_is_kept_first(events, most, expected):
    """t: traced; l: only the log has it."""
    made = [{"id": word, "trace": {} if word[0] == "t" else None} for word in events.split()]
    assert " ".join(event["id"] for event in newest(made, most)) == expected
