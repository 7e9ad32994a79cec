# Copyright (c) 2026 oom.forensics contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""This machine, over a connection that is lost once: for tests of what is done then."""

import pathlib

from ansible.errors import AnsibleConnectionFailure
from ansible.plugins.connection import local

DOCUMENTATION = """
name: lossy
short_description: This machine, over a connection that is lost once
description:
  - As C(local), until the commands of O(lossy_file) are used up. Then one command does not get through, or nobody hears
    its end.
extends_documentation_fragment: [connection_pipelining]
options:
  lossy_file:
    description: A file with the number of commands that get through before. It is removed when the connection is lost.
    type: str
    required: true
    vars:
      - name: lossy_file
  lossy_done:
    description: Whether the command is done, and only its end is not heard.
    type: bool
    default: false
    vars:
      - name: lossy_done
"""


class Connection(local.Connection):
    transport = "lossy"

    def exec_command(self, *arguments, **options):
        file = pathlib.Path(self.get_option("lossy_file"))
        if file.exists():
            left = int(file.read_text())
            if left == 0:
                file.unlink()
                if self.get_option("lossy_done"):
                    super().exec_command(*arguments, **options)
                raise AnsibleConnectionFailure("The connection was lost.")
            file.write_text(str(left - 1))
        return super().exec_command(*arguments, **options)
