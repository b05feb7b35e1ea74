"""Policies from plain documents: what they mean, what is refused, and that nothing else can happen."""

from __future__ import annotations

import copy
import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from headgate.algorithms import ALGORITHMS as NAMES_OF_ALGORITHMS
from headgate.errors import InvalidPolicy
from headgate.policy import Policy
from headgate.policy.model import read_policies
from headgate.policy.sharing import LeaseSpec

GOOD = {"name": "api", "limit": 100, "window": "1m"}


NULLABLE = (
    "burst",
    "dimensions",
    "match",
    "overrides",
    "levels",
    "priority",
    "enabled",
    "description",
    "failure_mode",
    "consistency",
    "lease",
)


def refused(**fields: object) -> InvalidPolicy:
    with pytest.raises(InvalidPolicy) as caught:
        Policy.from_dict({**GOOD, **fields})
    error = caught.value
    assert error.code == "invalid_policy"
    assert error.status == 422
    assert len(str(error)) < 400
    return error


class TestReading:
    def test_the_example_of_the_service(self):
        document = {
            "name": "api-rate-limit",
            "algorithm": "token_bucket",
            "limit": 1000,
            "window": "1m",
            "burst": 100,
            "dimensions": ["user_id", "api_key"],
            "priority": "high",
        }
        policy = Policy.from_dict(document)
        (level,) = policy.levels
        assert (policy.name, policy.priority, policy.enabled) == ("api-rate-limit", "high", True)
        assert level.dimensions == ("user_id", "api_key")
        assert (level.spec.rate.limit, level.spec.rate.burst) == (1000, 100)

    def test_defaults(self):
        policy = Policy.from_dict(GOOD)
        (level,) = policy.levels
        assert (level.name, level.dimensions, level.match, level.overrides) == (
            "api",
            ("key",),
            (),
            (),
        )
        assert (level.spec.algorithm, level.spec.granularity) == ("token_bucket", 1)
        assert (policy.priority, policy.failure_mode, policy.description) == ("normal", "local", "")

    def test_how_it_is_shared(self):
        policy = Policy.from_dict(
            {**GOOD, "consistency": "leased", "lease": {"ttl": "500ms", "share": 1}}
        )
        assert policy.consistency == "leased"
        assert policy.lease == LeaseSpec(500_000_000, 1.0)
        assert Policy.from_dict(policy.to_dict()) == policy

    def test_unless_told_it_is_shared_as_the_node_has_it(self):
        policy = Policy.from_dict(GOOD)
        assert (policy.consistency, policy.lease) == (None, LeaseSpec())
        assert "consistency" not in policy.to_dict()

    def test_a_local_policy_may_adapt(self):
        assert Policy.from_dict({**GOOD, "consistency": "local", "adaptive": "aimd"}).adaptive

    def test_null_is_nothing(self):
        nulls = dict.fromkeys([*NULLABLE, "algorithm", "timezone", "granularity", "max_delay"])
        assert Policy.from_dict({**GOOD, **nulls}) == Policy.from_dict(GOOD)

    def test_levels_inherit_what_they_do_not_set(self):
        policy = Policy.from_dict(
            {
                "name": "p",
                "window": "1m",
                "limit": 5,
                "burst": 9,
                "dimensions": ["user"],
                "match": {"path": "/api/*"},
                "levels": [
                    {"name": "a"},
                    {"name": "b", "limit": 7, "window": "1h", "burst": None, "dimensions": []},
                    {"name": "c", "match": {}, "algorithm": "leaky_bucket"},
                ],
            }
        )
        a, b, c = policy.levels
        assert [level.name for level in policy.levels] == ["p/a", "p/b", "p/c"]
        assert (a.spec.rate.limit, a.spec.rate.burst, a.dimensions) == (5, 9, ("user",))
        assert (b.spec.rate.limit, b.spec.rate.burst, b.dimensions) == (7, None, ())
        assert a.match == b.match != ()
        assert (c.match, c.spec.algorithm) == ((), "leaky_bucket")

    @pytest.mark.parametrize("field", ["match", "dimensions"])
    def test_what_every_level_sets_itself_is_read_for_the_policy_too(self, field):
        levels = [{"name": "a", "limit": 1, "window": "1s", "match": {}, "dimensions": ["k"]}]
        with pytest.raises(InvalidPolicy) as caught:
            Policy.from_dict({"name": "p", "levels": levels, field: True})
        assert caught.value.field == field

    def test_a_policy_of_levels_needs_no_limit_of_its_own(self):
        levels = [{"name": "a", "limit": 1, "window": "1s"}]
        assert Policy.from_dict({"name": "p", "levels": levels}).levels[0].spec.rate.limit == 1

    def test_overrides_inherit_from_their_level(self):
        policy = Policy.from_dict(
            {
                **GOOD,
                "dimensions": ["a", "b"],
                "overrides": [{"match": {"b": "2", "a": "1"}, "limit": 7, "algorithm": "dual"}],
            }
        )
        (override,) = policy.levels[0].overrides
        assert override.values == ("1", "2")
        assert (override.spec.rate.limit, override.spec.rate.window_ns) == (7, 60 * 10**9)
        assert override.spec.algorithm == "dual"

    def test_dual_with_counters_may_be_larger_than_a_log(self):
        big = {"algorithm": "dual", "limit": 5_000_000, "granularity": 4}
        assert Policy.from_dict({**GOOD, **big}).levels[0].spec.granularity == 4

    def test_settings_that_differ_in_words_only_are_the_same(self):
        one = Policy.from_dict({**GOOD, "window": 60, "burst": 100}).levels[0].spec
        assert one.fingerprint() == Policy.from_dict(GOOD).levels[0].spec.fingerprint()


BAD = [
    ({"name": None}, "name"),
    ({"name": ""}, "name"),
    ({"name": "a b"}, "name"),
    ({"name": "a/b"}, "name"),
    ({"name": "x" * 129}, "name"),
    ({"name": "a\n"}, "name"),
    ({"name": 7}, "name"),
    ({"algorithm": "leaky"}, "algorithm"),
    ({"algorithm": 5}, "algorithm"),
    ({"algorithm": ""}, "algorithm"),
    ({"limit": None}, "limit"),
    ({"limit": 0}, "limit"),
    ({"limit": -1}, "limit"),
    ({"limit": 10**12 + 1}, "limit"),
    ({"limit": 10**400}, "limit"),
    ({"limit": 10**5000}, "limit"),
    ({"window": 10**5000}, "window"),
    ({"granularity": -(10**5000)}, "granularity"),
    ({"limit": float("nan")}, "limit"),
    ({"limit": float("inf")}, "limit"),
    ({"limit": 1.5}, "limit"),
    ({"limit": True}, "limit"),
    ({"limit": "100"}, "limit"),
    ({"limit": [100]}, "limit"),
    ({"limit": 10**12, "window": "1s"}, "limit"),
    ({"limit": 2_000_000, "algorithm": "sliding_window_log"}, "limit"),
    ({"window": None}, "window"),
    ({"window": 0}, "window"),
    ({"window": "0s"}, "window"),
    ({"window": -1}, "window"),
    ({"window": "1 fortnight"}, "window"),
    ({"window": ""}, "window"),
    ({"window": "100y"}, "window"),
    ({"window": 10**400}, "window"),
    ({"window": float("nan")}, "window"),
    ({"window": float("inf")}, "window"),
    ({"window": True}, "window"),
    ({"window": {}}, "window"),
    ({"burst": 0}, "burst"),
    ({"burst": -5}, "burst"),
    ({"burst": 10**400}, "burst"),
    ({"burst": 10**12, "limit": 1}, "burst"),
    ({"burst": 1.0}, "burst"),
    ({"burst": True}, "burst"),
    ({"burst": 7, "algorithm": "fixed_window"}, "burst"),
    ({"timezone": "Mars/Base", "window": "1d"}, "timezone"),
    ({"timezone": "../../etc/passwd", "window": "1d"}, "timezone"),
    ({"timezone": "Europe/Paris", "window": "1d"}, "timezone"),
    ({"timezone": "Europe/Paris", "algorithm": "fixed_window"}, "timezone"),
    ({"timezone": 5}, "timezone"),
    ({"granularity": 0}, "granularity"),
    ({"granularity": 61, "algorithm": "sliding_window"}, "granularity"),
    ({"granularity": 5}, "granularity"),
    ({"granularity": 2.0}, "granularity"),
    ({"granularity": 10**400}, "granularity"),
    ({"max_delay": "1s"}, "max_delay"),
    ({"max_delay": 0, "algorithm": "leaky_bucket_queue"}, "max_delay"),
    ({"max_delay": "soon", "algorithm": "leaky_bucket_queue"}, "max_delay"),
    ({"dimensions": "user"}, "dimensions"),
    ({"dimensions": ["a", "a"]}, "dimensions"),
    ({"dimensions": ["a", 1]}, "dimensions"),
    ({"dimensions": [f"d{n}" for n in range(17)]}, "dimensions"),
    ({"dimensions": {"a": 1}}, "dimensions"),
    ({"match": []}, "match"),
    ({"match": {"path": []}}, "match.path"),
    ({"match": {"path": None}}, "match.path"),
    ({"match": {"path": 7}}, "match.path"),
    ({"match": {"path": {"not": "x"}}}, "match.path"),
    ({"match": {"path": ["/a", 7]}}, "match.path"),
    ({"match": {"path": ["x"] * 1001}}, "match.path"),
    ({"match": {"path": "x" * 1025}}, "match.path"),
    ({"match": {f"d{n}": "x" for n in range(17)}}, "match"),
    ({"match": {7: "x"}}, "match"),
    ({"priority": "urgent"}, "priority"),
    ({"priority": 1}, "priority"),
    ({"enabled": "yes"}, "enabled"),
    ({"enabled": 1}, "enabled"),
    ({"failure_mode": "shut"}, "failure_mode"),
    ({"consistency": "eventual"}, "consistency"),
    ({"consistency": "leased", "adaptive": "aimd"}, "consistency"),
    ({"consistency": "strict", "adaptive": "aimd"}, "consistency"),
    ({"lease": "2s"}, "lease"),
    ({"lease": {"length": "2s"}}, "lease.length"),
    ({"lease": {"ttl": "soon"}}, "lease.ttl"),
    ({"lease": {"ttl": "50ms"}}, "lease.ttl"),
    ({"lease": {"ttl": "2h"}}, "lease.ttl"),
    ({"lease": {"share": 0}}, "lease.share"),
    ({"lease": {"share": 1.5}}, "lease.share"),
    ({"lease": {"share": True}}, "lease.share"),
    ({"lease": {"share": "half"}}, "lease.share"),
    ({"description": "x" * 1025}, "description"),
    ({"description": "\ud800"}, "description"),
    ({"overrides": {}}, "overrides"),
    ({"overrides": [7]}, "overrides.0"),
    ({"overrides": [{}]}, "overrides.0.match"),
    ({"overrides": [{"match": {"other": "x"}}]}, "overrides.0.match"),
    ({"overrides": [{"match": {"key": ["x"]}}]}, "overrides.0.match.key"),
    ({"overrides": [{"match": {"key": "x"}, "limit": 0}]}, "overrides.0.limit"),
    ({"overrides": [{"match": {"key": "x"}, "name": "n"}]}, "overrides.0.name"),
    ({"overrides": [{"match": {"key": "x"}}, {"match": {"key": "x"}}]}, "overrides.1.match"),
    ({"overrides": [{"match": {"key": str(n)}} for n in range(10_001)]}, "overrides"),
    ({"levels": []}, "levels"),
    ({"levels": {}}, "levels"),
    ({"levels": [[]]}, "levels.0"),
    ({"levels": [{"limit": 5}]}, "levels.0.name"),
    ({"levels": [{"name": "a"}, {"name": "a"}]}, "levels.1.name"),
    ({"levels": [{"name": "a"}, {"name": "b", "limit": 0}]}, "levels.1.limit"),
    ({"levels": [{"name": "a", "levels": []}]}, "levels.0.levels"),
    ({"levels": [{"name": "a", "priority": "high"}]}, "levels.0.priority"),
    ({"levels": [{"name": f"l{n}"} for n in range(17)]}, "levels"),
    ({"burst": 0, "levels": [{"name": "a"}]}, "burst"),
    ({"limt": 5}, "limt"),
    ({"Limit": 5}, "Limit"),
    ({5: 5}, ""),
]


class TestBadInput:
    @pytest.mark.parametrize(
        ("fields", "place"), BAD, ids=[f"{number} {place}" for number, (_, place) in enumerate(BAD)]
    )
    def test_it_is_refused_with_its_place(self, fields, place):
        with pytest.raises(InvalidPolicy) as caught:
            Policy.from_dict({**GOOD, **fields})
        error = caught.value
        assert error.field == place == error.context["field"]
        assert error.code == "invalid_policy"
        assert len(str(error)) < 400
        assert str(error).isprintable()

    @pytest.mark.parametrize("data", [None, [], "text", 7, True, float("nan"), object()])
    def test_what_is_no_object_is_refused(self, data):
        with pytest.raises(InvalidPolicy, match="must be an object"):
            Policy.from_dict(data)

    def test_a_misspelt_field_is_told_with_what_may_be_meant(self):
        assert "did you mean 'window'?" in str(refused(windw="1m"))
        assert "did you mean 'dimensions'?" in str(refused(levels=[{"name": "a", "dimension": []}]))

    def test_burst_and_max_delay_do_not_go_together(self):
        error = refused(algorithm="leaky_bucket_queue", burst=5, max_delay="1s")
        assert error.field == "burst"
        assert "leave one out" in str(error)

    def test_an_inherited_setting_is_blamed_where_it_stands(self):
        error = refused(burst=7, levels=[{"name": "a", "algorithm": "fixed_window"}])
        assert error.field == "burst"

    def test_deep_nesting_is_refused_and_not_followed(self):
        deep: object = "x"
        for _ in range(10_000):
            deep = [deep]
        for place in ("name", "limit", "window", "dimensions", "match", "overrides", "levels"):
            assert refused(**{place: deep if place != "match" else {"a": deep}})

    def test_names_a_megabyte_long_are_not_repeated(self):
        assert refused(**{"x" * 1_000_000: 1})
        assert refused(match={"x" * 1_000_000: 7})


class TestManyPolicies:
    def test_each_error_says_which(self):
        with pytest.raises(InvalidPolicy) as caught:
            read_policies([GOOD, {**GOOD, "name": "b", "limit": 0}])
        assert caught.value.field == "1.limit"

    def test_names_must_differ(self):
        with pytest.raises(InvalidPolicy, match="got 'api' twice") as caught:
            read_policies([GOOD, GOOD])
        assert caught.value.field == "1.name"

    def test_good_ones_are_read(self):
        assert [each.name for each in read_policies([GOOD, {**GOOD, "name": "b"}])] == ["api", "b"]


class TestValues:
    def test_a_policy_does_not_change_with_the_document_it_came_from(self):
        document = copy.deepcopy({**GOOD, "dimensions": ["a"], "match": {"p": ["x"]}})
        policy = Policy.from_dict(document)
        before = policy.to_dict()
        document["match"]["p"].append("y")
        policy.to_dict()["dimensions"].append("z")
        assert policy.to_dict() == before

    def test_what_it_writes_is_what_it_read_and_the_defaults_that_matter(self):
        assert Policy.from_dict(GOOD).to_dict() == {
            **GOOD,
            "algorithm": "token_bucket",
            "dimensions": ["key"],
            "priority": "normal",
            "enabled": True,
        }
        levels = {"name": "p", "window": "1m", "levels": [{"name": "a", "limit": 1}]}
        assert Policy.from_dict(levels).to_dict() == {
            **levels,
            "priority": "normal",
            "enabled": True,
        }


SMALL = st.integers(-2, 200)
NAMES = st.sampled_from(["key", "user", "path", "a", "", "é", "x" * 200])
TEXTS = st.sampled_from(["acme", "/api/*", "*", "\\*", "", "a*b"]) | st.text(max_size=5)
WINDOWS = st.sampled_from(["1m", "1s", "day", 1, 0.5, 3600, "2 hours", 0, "x"])
ALGORITHMS = st.sampled_from([*NAMES_OF_ALGORITHMS, "none"])
LIMIT = {
    "algorithm": ALGORITHMS,
    "limit": SMALL,
    "window": WINDOWS,
    "burst": SMALL | st.none(),
    "timezone": st.sampled_from([None, "Europe/Paris", "UTC", "No/Where"]),
    "granularity": st.sampled_from([1, 1, 4, 0, 61]),
    "max_delay": st.sampled_from([None, None, "1s", 0]),
}
MATCH = st.dictionaries(NAMES, TEXTS | st.lists(TEXTS, max_size=3), max_size=3)
OVERRIDE = st.fixed_dictionaries(
    {"match": st.dictionaries(NAMES, TEXTS, max_size=2)}, optional=LIMIT
)
LEVEL = {
    **LIMIT,
    "dimensions": st.lists(NAMES, max_size=3),
    "match": MATCH,
    "overrides": st.lists(OVERRIDE, max_size=2),
}
NESTED = st.fixed_dictionaries({"name": st.sampled_from(["a", "b", "c d"])}, optional=LEVEL)
DOCUMENTS = st.fixed_dictionaries(
    {"name": st.sampled_from(["api", "p:1", ""])},
    optional={
        **LEVEL,
        "levels": st.lists(NESTED, max_size=3),
        "priority": st.sampled_from(["low", "high", "x"]),
        "enabled": st.booleans(),
        "description": st.text(max_size=5),
    },
)
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.binary(),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(["name", "limit", "window", "levels", "match", "overrides", "burst"])
            | st.text(max_size=8)
            | st.integers(),
            inner,
            max_size=5,
        )
    ),
    max_leaves=20,
)


def read(document: object) -> Policy | None:
    try:
        return Policy.from_dict(document)
    except InvalidPolicy:
        return None


@pytest.mark.slow
class TestWhateverComes:
    @given(ANYTHING)
    def test_nothing_but_invalid_policy_is_raised(self, data):
        read(data)

    @given(DOCUMENTS, st.sampled_from([*LEVEL, "name", "levels", "priority", "enabled"]), ANYTHING)
    def test_nor_for_what_is_nearly_a_policy(self, document, place, value):
        read({**document, place: value})

    @settings(suppress_health_check=[HealthCheck.filter_too_much])
    @given(DOCUMENTS)
    def test_what_is_written_is_read_again(self, document):
        policy = read(document)
        if policy is not None:
            written = json.loads(json.dumps(policy.to_dict()))
            assert Policy.from_dict(written) == policy
            assert Policy.from_dict(written).to_dict() == written
