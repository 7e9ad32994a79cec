# Copyright (c) 2026 oom.forensics contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Coverage-guided fuzzing of the parser with atheris: nothing raises, the result is always JSON.

Usage: PYTHONPATH=.collections python tests/fuzz/fuzz_parser.py -max_total_time=60 CORPUS_FOLDER
"""

import json
import sys

import atheris

with atheris.instrument_imports():
    from ansible_collections.oom.forensics.plugins.module_utils._oom import events


def one_input(data):
    found = list(events.parse([data], events.Context(reference=1795384230.0, raw=True)))
    json.dumps(events.merge(found)).encode("utf-8")


if __name__ == "__main__":
    atheris.Setup(sys.argv, one_input)
    atheris.Fuzz()
