# Copyright (c) 2026 oom.forensics contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Engines that the system tests share; each is started when the first test wants it."""

import engines
import pytest


def _session(name):
    reason = engines.why_not(name)
    if reason:
        pytest.skip(reason)
    with getattr(engines, name)() as engine:
        yield engine


@pytest.fixture(scope="session")
def docker_session():
    yield from _session("docker")


@pytest.fixture(scope="session")
def podman_session():
    yield from _session("podman")


@pytest.fixture
def docker(docker_session):
    """Docker (see engines.Engine); the containers that the test starts are removed behind it."""
    yield docker_session
    docker_session.remove_all()


@pytest.fixture
def podman(podman_session):
    """Podman (see engines.Engine); the containers that the test starts are removed behind it."""
    yield podman_session
    podman_session.remove_all()
