# Copyright (c) 2026 oom.forensics contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whatever the rules and the host: one kind of error, the first match wins, a second run has nothing to do, and what
is refused is not done in part."""

import os
import sys

import pytest

pytest.importorskip("hypothesis")
from ansible_collections.oom.forensics.plugins.module_utils._policy import conditions, model, plan, risks, rules, sizes
from hypothesis import given, settings
from hypothesis import strategies as st

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import policy_targets as make  # noqa: E402

PAGE = 4096
GIB = make.GIB
many = settings(deadline=None, max_examples=200)

# --- anything that YAML can hold

SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=20)
    | st.sampled_from(
        ["max", "512M", "25%", "peak * 1.3", "90% of memory_max", "true", "kill", "[z-a]", "docker-.scope"]
    )
    | st.dates()
    | st.binary(max_size=4)
)
KEYS = st.sampled_from(("name", "match", "exempt") + model.SETTINGS + tuple(conditions._CONDITIONS)) | SCALARS
ANYTHING = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=4), max_leaves=12
)
LIKE_RULES = st.lists(
    st.fixed_dictionaries(
        {"name": st.text(min_size=1, max_size=3) | SCALARS, "match": st.dictionaries(KEYS, ANYTHING, max_size=3)},
        optional=dict.fromkeys(("exempt",) + model.SETTINGS, ANYTHING),
    ),
    max_size=3,
)


@many
@given(ANYTHING | LIKE_RULES, ANYTHING)
def test_rules_are_understood_or_refused_in_one_sentence(listed, default):
    try:
        policy = rules.check(listed, default)
    except model.PolicyError as error:
        said = str(error)
        assert said.endswith((".", "?")) and len(said) < 1500
        said.encode("utf-8")
        return
    target = make.container(names={"name": "web", "labels": {"a": "b"}})
    plan.plan(policy, [target, make.service(), make.prefix()], plan.HostFacts(GIB, PAGE, 0))


@many
@given(SCALARS | st.text(alphabet="0123456789.kKmMgGtTiIbB%* peakmxofhst_", max_size=15), st.sampled_from(model.SIZES))
def test_a_size_is_no_limit_or_whole_pages(value, setting):
    try:
        size = sizes.parse(value)
        found = sizes.resolve(size, setting, sizes.Facts(GIB, PAGE, 5 * PAGE, {"memory_max": 7 * PAGE}))
    except model.PolicyError:
        return
    assert found is None or (isinstance(found, int) and found >= 0 and found % PAGE == 0)
    assert (found is None) == (str(value).strip().lower() == "max")


# --- policies and hosts that can be

ABILITIES = [make.LIVE, make.LATER, make.NOT_KEPT, make.refusing("It cannot.")]
AMOUNTS = st.integers(0, 6).map(lambda pages: pages * PAGE)
VALUES = {
    **dict.fromkeys(model.SIZES, st.none() | AMOUNTS),
    "oom_group": st.booleans(),
    "oom_policy": st.sampled_from(["continue", "stop", "kill"]),
    "oom_score_adjust": st.sampled_from([-1000, -500, 0, 500]),
}
ASKED = {
    **dict.fromkeys(
        model.SIZES, st.sampled_from(["max", 2 * PAGE, 3 * PAGE, "4K", "50%", "50% of host", "peak * 1.5"])
    ),
    "oom_group": st.booleans(),
    "oom_policy": st.sampled_from(["continue", "stop", "kill"]),
    "oom_score_adjust": st.sampled_from([-1000, 0]),
}
MATCHES = [
    {"engine": "docker"},
    {"engine": "*"},
    {"name": "a"},
    {"name": "[ab]"},
    {"unit": "*.slice"},
    {"unit": "c*"},
    {"unit": "docker-.scope"},
    {"cgroup": "*"},
    {"user": 0, "slice": "a.slice"},
]
PLACES = ["/a.slice", "/a.slice/a-b.slice", "/a.slice/c.service", "/a.slice/a-b.slice/d.service", "/e.service", None]
PLACES += [
    "{0}/docker/{1:064x}".format(parent, 10**70 + len(parent)) for parent in ("", "/a.slice", "/a.slice/a-b.slice")
]
HOST = plan.HostFacts(20 * PAGE, PAGE, 2 * PAGE)


@st.composite
def some_rules(draw):
    number = draw(st.integers(0, 4))
    listed = []
    for index in range(number):
        one = {"name": str(index), "match": draw(st.sampled_from(MATCHES))}
        one.update(draw(st.fixed_dictionaries({}, optional=ASKED)))
        listed.append(one if len(one) > 2 else dict(one, exempt=True))
    return listed, draw(st.none() | st.fixed_dictionaries({}, optional=ASKED))


@st.composite
def targets(draw):
    found = []
    for path in draw(st.lists(st.sampled_from(PLACES), unique=True, max_size=6)):
        has = st.fixed_dictionaries({}, optional=VALUES)
        manager = "docker" if path and "/docker/" in path else "systemd"
        unit = path.rpartition("/")[2] if path and manager == "systemd" else None
        found.append(
            make.target(
                path,
                manager,
                {setting: draw(st.sampled_from(ABILITIES)) for setting in model.SETTINGS},
                {"name": draw(st.sampled_from(["a", "b", None]))},
                unit=unit if path else "docker-.scope",
                stored=draw(has),
                effective=draw(has) if path else {},
                usage=make.usage(*[draw(st.none() | AMOUNTS) for _number in range(3)]),
                critical=draw(st.booleans()),
                infrastructure=draw(st.booleans()),
            )
        )
    return found


def policy_of(listed):
    try:
        return rules.check(*listed)
    except model.PolicyError:
        return None


OPTIONS = st.fixed_dictionaries(
    {"force": st.sets(st.sampled_from(risks.NAMES)), "unsupported": st.sampled_from(["fail", "skip"])}
)


def applied(change):
    """The target with what an obedient manager and kernel have after the change."""
    target = change.target
    if change.outcome != "planned":
        return target
    done = {step.setting: step for step in change.steps if step.changes}
    stored = dict(target.stored, **{setting: step.wanted for setting, step in done.items()})
    live = {setting: step.wanted for setting, step in done.items() if step.ability.live and target.path}
    return target._replace(stored=stored, effective=dict(target.effective, **live))


@many
@given(some_rules(), targets(), OPTIONS)
def test_a_second_run_has_nothing_to_do(listed, found, options):
    policy = policy_of(listed)
    if policy is None:
        return
    first = plan.plan(policy, found, HOST, **options)
    by_identity = {change.target.identity: applied(change) for change in first.changes}
    after = [by_identity.get(target.identity, target) for target in found]
    second = plan.plan(policy, after, HOST, **options)
    was_planned = {change.target.identity for change in first.changes if change.outcome == "planned"}
    for change in second.changes:
        if change.target.identity in was_planned:
            assert change.outcome in ("unchanged", "pending"), change
    assert second.limits_after <= first.limits_after or second.limits_after <= HOST.memory_total - HOST.reserve


@many
@given(some_rules(), targets(), OPTIONS)
def test_the_first_rule_that_matches_wins(listed, found, options):
    policy = policy_of(listed)
    if policy is None:
        return
    planned = plan.plan(policy, found, HOST, **options)
    ruled = {change.target.identity: change.rule for change in planned.changes}
    for target in found:
        alone = [rule.name for rule in policy.rules if rules.matching(rules.Policy((rule,), None), target, {})]
        expected = alone[0] if alone else ruled.get(target.identity)
        assert ruled.get(target.identity) == expected
        assert alone or expected in (None, "default")
    assert planned.unmatched == len(found) - len(planned.changes)
    assert set(planned.idle) == {rule.name for rule in policy.rules} - set(ruled.values())


@many
@given(some_rules(), targets(), OPTIONS)
def test_a_refused_change_has_no_partial_effect(listed, found, options):
    policy = policy_of(listed)
    if policy is None:
        return
    planned = plan.plan(policy, found, HOST, **options)
    for change in planned.changes:
        open_risks = [risk for risk in change.risks if not risk.forced]
        cannot = [step for step in change.steps if step.changes and step.ability.refusal]
        if change.outcome == "planned":
            assert not open_risks and not cannot
        if change.outcome == "refused":
            assert "Refused, and nothing of it is done." in change.message
        assert change.outcome == "exempt" or bool(open_risks or cannot) <= (change.outcome == "refused")
        assert not (options["unsupported"] == "skip" and cannot)
        assert all(risk.forced == (risk.name in options["force"]) for risk in change.risks)
    # The sum is what the host has once all that is planned is done, and all that waits has started.
    limits = {target.path: risks.now(target).get("memory_max") for target in found if target.path}
    for change in planned.changes:
        if change.outcome in ("planned", "pending") and change.target.path:
            limits.update((change.target.path, step.wanted) for step in change.steps if step.setting == "memory_max")
    assert planned.limits_after == risks.sums(limits).total


@many
@given(some_rules(), targets(), OPTIONS)
def test_no_plan_lets_limits_outgrow_the_memory(listed, found, options):
    policy = policy_of(listed)
    if policy is None or risks.LIMITS_EXCEED_MEMORY in options["force"]:
        return
    planned = plan.plan(policy, found, HOST, **options)
    waiting = any(change.outcome == "pending" for change in planned.changes)
    fits = max(planned.limits_before, HOST.memory_total - HOST.reserve)
    assert waiting or planned.limits_after <= fits


@many
@given(some_rules(), targets(), OPTIONS)
def test_only_what_somebody_undid_has_drifted(listed, found, options):
    policy = policy_of(listed)
    if policy is None:
        return
    first = plan.plan(policy, found, HOST, **options)
    declared = {
        (change.target.manager, change.target.identity, step.setting): model.Declared(step.wanted, "today", "")
        for change in first.changes
        for step in change.steps
    }
    for change in plan.plan(policy, found, HOST, declared=declared, **options).changes:
        assert all(step.drifted == step.changes and step.has_declared for step in change.steps)
        assert ("by the run of today" in change.message) == any(step.drifted for step in change.steps)
