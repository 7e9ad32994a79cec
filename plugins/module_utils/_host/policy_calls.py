# Copyright (c) 2026 oom.forensics contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Commands of the managers that keep memory settings, and how they fail. Private to this collection."""

import re
from typing import Optional, Sequence

from . import engine_cli, run

SECONDS = 60  # before a lower limit holds, the kernel reclaims what is above it
_LARGEST = 32 * 1024 * 1024

_ADVICE = (
    ("onnect to the Docker daemon", "Look at the daemon's log; once it answers, run the policy again."),
    ("ermission denied", "Run the task as root (become: true)."),
    ("Access denied", "Run the task as root (become: true)."),
    ("unable to set memory limit", "It uses more than that: give it a higher memory_max, or let it free memory first."),
)
_HANGS = "Look why it hangs; nobody knows whether it made the change, which the next run finds out."
# Podman and the runtimes below it log with logrus, and say the reason there before they say that they failed.
_LOGGED = re.compile(r'level=(?:error|fatal) msg="((?:[^"\\]|\\.)*)"')
_LONGEST = 300


class ManagerError(Exception):
    """A manager did not do what it was told: a sentence, and what to do."""

    def __init__(self, message: str, advice: Optional[str] = None) -> None:
        super().__init__(message)
        self.advice = advice

    @property
    def sentence(self) -> str:
        """What it complains of, and what to do."""
        return " ".join(filter(None, (str(self), self.advice)))


class VanishedError(ManagerError):
    """The workload is gone."""


def call(host: run.Host, argv: Sequence[str], forgiven: str = "") -> bytes:
    """What a manager's command prints. Raises ManagerError if it fails, says too much, or takes too long.

    :arg forgiven: words on stderr with which a failure is none.
    """
    running = run.hurried(host, SECONDS).stream(argv)
    said = bytearray()
    try:
        for chunk in running.chunks:
            said += chunk
            if len(said) > _LARGEST:
                raise ManagerError("{0} printed more than {1} bytes.".format(engine_cli.called(argv), _LARGEST))
    except run.OverdueError:
        message = "{0} gave no answer within {1} seconds.".format(engine_cli.called(argv), SECONDS)
        raise ManagerError(message, _HANGS) from None
    finally:
        ended = running.end()
    if ended.status and not (forgiven and forgiven in ended.stderr):
        advice = next((advice for words, advice in _ADVICE if words in ended.stderr), None)
        raise ManagerError("{0} failed: {1}.".format(engine_cli.called(argv), _reason(ended)), advice)
    return bytes(said)


def _reason(ended: run.Ended) -> str:
    logged = _LOGGED.search(ended.stderr)
    return re.sub(r"\\(.)", r"\1", logged.group(1)).strip()[:_LONGEST] if logged else run.complaint(ended)
