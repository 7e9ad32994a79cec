# Copyright (c) 2026 oom.forensics contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How wide the table is."""

import pytest
from ansible_collections.oom.forensics.plugins.action import oom_report


@pytest.mark.parametrize(
    ("asked", "terminal", "measured", "width"),
    [
        ("100", True, 200, 100),
        ("20", True, 200, 74),
        ("", True, 200, 200),
        ("", True, 79, 79),
        ("", False, 79, 120),
        ("", False, 200, 200),
        ("wide", False, 79, 120),
        ("0", False, 79, 120),
    ],
)
def test_width(monkeypatch, asked, terminal, measured, width):
    monkeypatch.setenv("COLUMNS", asked)
    monkeypatch.setattr(oom_report, "_HAS_TERMINAL", terminal)
    assert oom_report._terminal_columns(measured) == width
