# Copyright (c) 2026 oom.forensics contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Every file that runs on a target compiles on the Python that runs this test, modules included."""

import pathlib

import pytest

CHECKOUT = pathlib.Path(__file__).resolve().parents[2]
TARGET_SIDE = sorted(
    path.relative_to(CHECKOUT).as_posix()
    for folder in ("plugins/module_utils", "plugins/modules")
    for path in (CHECKOUT / folder).rglob("*.py")
)


@pytest.mark.parametrize("name", TARGET_SIDE)
def test_compiles(name):
    compile((CHECKOUT / name).read_bytes(), name, "exec")
