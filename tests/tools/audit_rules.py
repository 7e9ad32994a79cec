# Copyright (c) 2026 oom.forensics contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Write docs/audit_rules.md from the shipped rules and the functions for them.

Usage: PYTHONPATH=.collections python tests/tools/audit_rules.py
"""

import pathlib

from ansible_collections.oom.forensics.plugins.plugin_utils import _expressions, _rules

PAGE = pathlib.Path(__file__).resolve().parents[2] / "docs" / "audit_rules.md"

HEAD = """\
<!--
Copyright (c) 2026 oom.forensics contributors
GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
SPDX-License-Identifier: GPL-3.0-or-later
-->
<!-- Made by tests/tools/audit_rules.py from plugins/plugin_utils/_audit_rules.yml. Change those, not this page. -->

# Audit rules

`ansible-playbook oom.forensics.audit_memory` evaluates these rules on the evidence of each host. So do the module
`oom.forensics.memory_audit`, on evidence that was collected before, and the filter `oom.forensics.audit_memory`, on
evidence that a play already has.

A value that is not known never fires a rule, except one about missing evidence. A rule whose input the evidence lacks
is counted as *not evaluated*. A rule that fails on a document is a finding of its own, `rule-failed`, as severe as the
rule itself: nobody knows whether it would have found something. "Now" is the time at which the evidence was collected.

## Rules of your own

`-e memory_audit_rules=rules.yml` names a YAML file with a list of rules, or with two keys:

```yaml
disable: [memory-high-unset]        # leave out shipped rules
rules:
  - id: peak-near-limit             # a shipped rule: what stands here replaces its own
    severity: high
  - id: database-limit-small        # a new rule
    severity: medium                # info, low, medium, high or critical
    title: Database has less than 1 GiB
    offenders: >-
      cgroups[?workload.compose_service == 'db' && memory_max < `1073741824`]
      .{subject: label(workload), path: path, memory_max: memory_max}
    needs: [cgroups]
    message: "only {memory_max:size}"
    why: The database was measured to need 1 GiB at night.
    what: Raise mem_limit in the compose file.
```

| key | meaning |
|---|---|
| `id` | lowercase letters, digits and hyphens |
| `severity` | `info`, `low`, `medium`, `high` or `critical` |
| `title` | what is wrong, for a list |
| `offenders` | a [JMESPath](https://jmespath.org) expression over one evidence document: a list of objects, empty if \
nothing offends. `subject` is the readable name, by default the host; `path` a cgroup; every other key is a fact |
| `needs` | optional: expressions that must not be null. If one is, the rule is not evaluated. So it is where \
`offenders` itself returns null |
| `message` | optional: a sentence about one offender with `{fact}` or `{fact:format}`; formats are `size` (of bytes), `percent` (of a ratio) and `time` |
| `why` | a sentence: why this is a problem |
| `what` | a sentence: what to do |

All rules are checked before any host is asked. A wrong expression ends the run with the rule, the expression and the
character at which it is wrong. So do a function that does not exist or gets the wrong number of arguments, a literal
of the wrong type, a key without its `&`, and a fact in `message` that `offenders` does not name. Only a document shows
what type a field has and whether it is there: a misspelt field is null, and a rule that fails on it is `rule-failed`.

JMESPath compares numbers only: with a null, `<`, `<=`, `>` and `>=` give null, which counts as false. `==` and `!=` do
not, so ``memory_max == `null` `` is true for "no limit" and for "not known" alike; ``memory_current != `null` ``
beside it tells the two apart.

### Functions

Beside [JMESPath's own](https://jmespath.org/specification.html#built-in-functions), there are these. They give null
for null.

"""


def page() -> str:
    """The page as it should be."""
    rules = _rules.load()
    lines = ["| function | gives |", "|---|---|"]
    lines += [f"| `{one.usage}` | {one.gives} |" for one in _expressions.FUNCTIONS.values()]
    lines += ["", "## Shipped rules", "", "| rule | severity | finds |", "|---|---|---|"]
    lines += [f"| [{rule.id}](#{rule.id}) | {rule.severity} | {rule.title} |" for rule in rules]
    for rule in rules:
        lines += section(rule)
    return HEAD + "\n".join(lines) + "\n"


def section(rule: _rules.Rule) -> list[str]:
    needs = [f"`{text}`" for text, _compiled in rule.needs]
    return [
        "",
        f"### {rule.id}",
        "",
        f"**{rule.title}** ({rule.severity}). {rule.why}",
        "",
        f"What to do: {rule.what}",
        "",
        *([f"Needs {', '.join(needs)}.", ""] if needs else []),
        "```text",
        rule.expression.strip(),
        "```",
    ]


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
