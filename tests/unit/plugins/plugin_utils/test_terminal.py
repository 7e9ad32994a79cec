# Copyright (c) 2026 oom.forensics contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Columns: who gives way when the terminal is narrow, and how wide it is."""

import pytest
from ansible_collections.oom.forensics.plugins.plugin_utils import _terminal

ROWS = [["high", "a-long-host-name", "one two three four five six"]]


def test_the_last_column_wraps_and_the_widest_gives_way():
    assert _terminal.grid(["S", "HOST", "TEXT"], ROWS, [0, 6, 10], 34) == [
        "S     HOST           TEXT",
        "high  a-long-host-…  one two three",
        "                     four five six",
    ]


def test_nothing_is_cut_below_its_least_width():
    lines = _terminal.grid(["S", "HOST", "TEXT"], ROWS, [0, 6, 10], 10)
    assert lines[1].startswith("high  a-lon…  one two")


def test_texts_below_their_rows():
    assert _terminal.grid(["S", "RULE"], [["high", "a"], ["low", "b"]], [0, 4], 14, below=["one two three", ""]) == [
        "S     RULE",
        "high  a",
        "    one two",
        "    three",
        "low   b",
    ]


@pytest.mark.parametrize(("width", "cut"), [(60, False), (40, False), (39, True), (20, True)])
def test_whether_a_column_would_be_cut(width, cut):
    assert _terminal.cuts([["S", "HOST", "TEXT"], *ROWS], [0, 6, 12], width, [1]) is cut


def test_notices():
    assert _terminal.notices([("a", "one two three four five six"), ("bbbbbbbb", "x")], 30) == [
        "a         one two three four",
        "          five six",
        "bbbbbbbb  x",
    ]


@pytest.mark.parametrize(
    ("asked", "terminal", "measured", "width"),
    [
        ("100", True, 200, 100),
        ("20", True, 200, 74),
        ("", True, 200, 200),
        ("", True, 40, 74),
        ("", False, 79, 120),
        ("", False, 200, 200),
        ("wide", False, 79, 120),
        ("0", False, 79, 120),
    ],
)
def test_width(monkeypatch, asked, terminal, measured, width):
    monkeypatch.setenv("COLUMNS", asked)
    monkeypatch.setattr(_terminal, "_HAS_TERMINAL", terminal)
    assert _terminal.columns(measured, 74) == width
