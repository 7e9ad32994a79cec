# Copyright (c) 2026 oom.forensics contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What every test of this collection shares. Runs on Python 3.6 with pytest 7.0."""

import os
import pathlib

import pytest

CHECKOUT = pathlib.Path(__file__).resolve().parent.parent


def _fail_if_skipped(report):
    """In CI a skip is a failure that gives the skip's reason; an expected failure (xfail) is none."""
    if os.environ.get("CI") != "true" or not report.skipped or hasattr(report, "wasxfail"):
        return
    reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
    report.outcome = "failed"
    report.longrepr = "In CI nothing may be skipped. {0}".format(reason)


@pytest.hookimpl(hookwrapper=True, tryfirst=True)
def pytest_runtest_makereport():
    outcome = yield
    _fail_if_skipped(outcome.get_result())


@pytest.hookimpl(hookwrapper=True, tryfirst=True)
def pytest_make_collect_report():
    outcome = yield
    _fail_if_skipped(outcome.get_result())


@pytest.fixture(scope="session")
def shared_dir():
    """Path of the corpus of logs that other people own, so it lies beside the checkout and never in it."""
    found = pathlib.Path(os.environ.get("OOM_FORENSICS_SHARED") or CHECKOUT.parent / "shared")
    if not (found / "samples").is_dir():
        pytest.skip("the shared log corpus is not here: {0} (OOM_FORENSICS_SHARED names another place)".format(found))
    return found
