# Copyright (c) 2026 oom.forensics contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The unit tests run in any directory and on any Python; what they import must be the checkout they lie in."""

import pathlib

import ansible_collections.oom.forensics.plugins.module_utils as subject
import pytest

CHECKOUT = pathlib.Path(__file__).resolve().parents[2]


def pytest_configure():
    tested = pathlib.Path(subject.__file__).resolve().parents[2]
    if tested != CHECKOUT:
        pytest.exit("the tests of {0} would run against the collection in {1}".format(CHECKOUT, tested), 4)
