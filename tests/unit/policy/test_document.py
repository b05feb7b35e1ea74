from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st

from headgate.errors import InvalidInput, InvalidPolicy, MalformedRequest, TooLarge
from headgate.policy.document import MAX_BYTES, dump_policies, load_policies, load_policy_file
from headgate.policy.model import Policy
from headgate.policy.tree import MAX_DEPTH

ROOT = Path(__file__).parents[3]
EXAMPLES = ROOT / "examples" / "policies.yaml"

GOOD = """\
policies:
  - name: api
    limit: 10
    window: 1m
  - name: tenants          # the second
    dimensions: [tenant]
    levels:
      - name: second
        limit: 5
        window: 1s
      - name: day
        limit: 1000
        window: day
"""

LIMIT = "name: a\nlimit: 1\nwindow: 1m\n"


def documents(text):
    return [policy.to_dict() for policy in load_policies(text)]


def refusal(text, kind=InvalidPolicy):
    with pytest.raises(kind) as caught:
        load_policies(text, "policies.yaml")
    assert type(caught.value) is kind
    return caught.value


@pytest.fixture(params=["libyaml", "pure"])
def parser(request, monkeypatch):
    """Both of the parsers that a machine may have."""
    if request.param == "pure":
        monkeypatch.delattr(yaml, "CSafeLoader", raising=False)
    elif not hasattr(yaml, "CSafeLoader"):
        pytest.skip("this PyYAML was built without libyaml")


# --- what a file may look like ----------------------------------------------------------------------------


def test_one_policy_a_list_and_a_list_under_policies(parser):
    one = "name: api\nlimit: 10\nwindow: 1m\n"
    listed = "- name: api\n  limit: 10\n  window: 1m\n"
    under = "policies:\n- name: api\n  limit: 10\n  window: 1m\n"
    assert documents(one) == documents(listed) == documents(under)
    assert [policy.name for policy in load_policies(GOOD)] == ["api", "tenants"]


def test_json_is_read_with_all_that_yaml_would_choke_on():
    policy = {"name": "api", "limit": 10, "window": "1m", "description": "tab\t \U0001f600 é"}
    for indent in (None, 2, "\t"):
        text = json.dumps({"policies": [policy]}, indent=indent)
        [read] = load_policies(text)
        assert read.description == policy["description"]
    [read] = load_policies(json.dumps({**policy, "match": {"k" * 2000: "v"}}))
    assert read.name == "api"


def test_yaml_that_begins_like_json_is_yaml():
    assert documents("{name: api, limit: 10, window: 1m,}")[0]["name"] == "api"


def test_bytes_with_a_byte_order_mark():
    assert [p.name for p in load_policies("\ufeff".encode() + GOOD.encode())] == ["api", "tenants"]


def test_an_empty_list_is_no_policies():
    assert load_policies("policies: []") == load_policies("[]") == []


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("NO", "NO"),
        ("on", "on"),
        ("1:30", "1:30"),
        ("010", "010"),
        ("2026-01-01", "2026-01-01"),
        ("0x10", "0x10"),
        ("1_000", "1_000"),
        (".inf", ".inf"),
        ("'1'", "1"),
        ('"null"', "null"),
        ("!!str 12", "12"),
        ("|\n    two\n    lines", "two\nlines\n"),
    ],
)
def test_text_stays_text(parser, written, read):
    text = f"name: a\nlimit: 1\nwindow: 1m\nmatch:\n  country: {written}\n"
    assert documents(text)[0]["match"]["country"] == read


def test_numbers_booleans_and_nulls(parser):
    text = "name: a\nlimit: 10\nwindow: 1.5\nenabled: false\nburst: ~\nmatch:\ntimezone: null\n"
    [read] = documents(text)
    assert (read["limit"], read["window"], read["enabled"]) == (10, 1.5, False)
    assert (read["burst"], read["match"], read["timezone"]) == (None, None, None)
    assert documents("name: a\nlimit: 1\nwindow: 1e2\n")[0]["window"] == 100.0


def test_anchors_are_written_out(parser):
    text = (
        "- &a {name: a, limit: 1, window: 1m, match: &m {k: v}}\n"
        "- {name: b, limit: 1, window: 1m, match: *m}\n"
    )
    first, second = load_policies(text)
    assert second.document["match"] == {"k": "v"}
    assert second.document["match"] is not first.document["match"]


# --- what is wrong, and where -----------------------------------------------------------------------------


def test_an_error_names_file_line_and_field(parser):
    text = GOOD.replace("limit: 5", "limit: 0")
    error = refusal(text)
    assert str(error).startswith("policies.yaml:9: levels.0.limit must be >= 1, got 0")
    assert (error.line, error.field) == (9, "levels.0.limit")


def test_the_first_flaw_of_each_policy_is_told(parser):
    text = (
        "- name: a\n  limit: 1\n  window: 1m\n"
        "- name: b\n  limt: 1\n"
        "- name: c\n  limit: 1\n  window: soon\n"
        "- 7\n"
    )
    error = refusal(text)
    assert [(each["line"], each["field"]) for each in error.context["errors"]] == [
        (5, "limt"),
        (8, "window"),
        (9, ""),
    ]
    assert "policies.yaml:5: limt is not a known field; did you mean 'limit'?" in str(error)
    assert "policies.yaml:9: a policy must be an object" in str(error)


def test_many_flaws_are_counted_and_not_all_told():
    error = refusal("[" + "1, " * 500 + "1]")
    assert str(error).endswith("; and 90 more")
    assert len(str(error)) < 2000


@pytest.mark.parametrize(
    ("text", "line", "field"),
    [
        ("\n\nlimit: 1\nwindow: 1m\n", 3, "name"),
        (
            "name: a\nlimit: 1\nwindow: 1m\noverrides:\n  - limit: 1\n    match: {key: 1}\n",
            6,
            "overrides.0.match.key",
        ),
        (LIMIT + "match:\n  a: x\n  a.b: [x,\n   2]\n", 6, "match.a.b"),
        ("name: a\nlevels:\n  - name: x\n    limit: 1\n  -\n    name: y\n", 3, "levels.0.window"),
        ("name: a\nwindow: 1m\nlimit: 0\nlevels:\n  - name: x\n", 3, "limit"),
        ('{"name": "a",\n "limit": 1,\n "window": "1m",\n "burst": 0}', 4, "burst"),
        (LIMIT + "levels: 3\n", 4, "levels"),
    ],
)
def test_the_line_is_that_of_the_field_or_of_the_nearest_there_is(parser, text, line, field):
    error = refusal(text)
    assert (error.field, error.line) == (field, line)


@pytest.mark.parametrize(
    "text", ["name: a\nlimit: 1\nname: b\n", '{"name": "a",\n"limit": 1,\n"name": "b"}']
)
def test_a_field_given_twice_is_refused(parser, text):
    error = refusal(text)
    assert str(error) == (
        "policies.yaml:3: the field 'name' is given twice, first on line 1; remove one"
    )
    assert (error.line, error.field) == (3, "name")


def test_a_name_given_to_two_policies_is_refused(parser):
    error = refusal(GOOD.replace("name: tenants", "name: api"))
    assert (error.line, error.field) == (5, "name")
    assert "got 'api' as on line 2" in str(error)


def test_something_beside_policies_is_refused():
    error = refusal("version: 2\npolicies: []\n")
    assert str(error) == "policies.yaml:1: beside policies: there must be nothing, got 'version'"


@pytest.mark.parametrize(
    ("text", "line", "reason"),
    [
        ("", 1, "it is empty"),
        ("# nothing but this\n", 1, "it is empty"),
        ("hello", 1, "holds no policies"),
        ("null", 1, "holds no policies"),
        ("policies:\n  name: a\n", 2, "holds no policies"),
        ("name: a\n\tlimit: 1\n", 2, "not valid YAML"),
        ("name: [a\nlimit: 1\n", 2, "not valid YAML"),
        ("a: b: c\n", 1, "not valid YAML"),
        ("name: a\n--- \nname: b\n", 2, "one document"),
        ("name: a\nlimit: *x\n", 2, "refers to nothing"),
        ("name: a\nmatch: &m\n  k: *m\n", 3, "inside of what it refers to"),
        ("name: a\nlimit: !!int '1'\n", 2, "tags"),
        ("name: a\nmatch: !!python/object/apply:os.system [ls]\n", 2, "tags"),
        ("name: a\n? [x]\n: 1\n", 2, "must be text"),
        ("name: &n a\n? *n\n: 1\n", 2, "must be text"),
        ("name: a\nlimit: " + "9" * 5000, 2, "at most 40 digits"),
        ('{"name": "a",\n"limit": ' + "9" * 5000 + "}", 2, "at most 40 digits"),
        ('{"name":\n"\\ud800"}', 2, "half a surrogate"),
        ("name: a\nmatch: " + "[" * 40 + "]" * 40, 2, f"nested more than {MAX_DEPTH} deep"),
        ("name: a\nlimit: \x07\n", 2, "not allowed in YAML"),
    ],
)
def test_what_cannot_be_read_at_all(parser, text, line, reason):
    error = refusal(text, MalformedRequest)
    assert error.context["line"] == line
    assert str(error).startswith(f"policies.yaml:{line}: ")
    assert reason in str(error)


@pytest.mark.parametrize(
    ("raw", "line"), [(b"\xff\xfe", 1), (b"name: a\n# caf\xe9\n", 2), ("name: a\n\ud800", 2)]
)
def test_what_is_not_utf8(raw, line):
    error = refusal(raw, MalformedRequest)
    assert str(error) == f"policies.yaml:{line}: it must be UTF-8; save it in that encoding"


# --- what somebody may try --------------------------------------------------------------------------------


@pytest.mark.parametrize("text", [b"#" * (MAX_BYTES + 1), "é" * (MAX_BYTES // 2 + 1)])
def test_a_large_file_is_refused(text):
    error = refusal(text, TooLarge)
    assert "at most 1048576 bytes" in str(error)


def test_a_file_at_the_limit_is_read():
    comment = b"#" * (MAX_BYTES - len(GOOD))
    assert len(load_policies(GOOD.encode() + comment)) == 2


def test_aliases_that_double_are_refused(parser):
    lines = ["a: &a [1,1,1,1,1,1,1,1,1]"]
    for one, two in zip("abcdefghij", "bcdefghijk", strict=False):
        lines.append(f"{two}: &{two} [{','.join(['*' + one] * 9)}]")
    assert "more than 250000 values" in str(refusal("\n".join(lines), MalformedRequest))


MARKS = [
    "[",
    "{",
    "{a: ",
    "- ",
    "? ",
    "&a [",
    "[[],",
    "!",
    "'",
    '"',
    "\t",
    "%",
    "---\n",
    ":",
    "|\n",
    "{[",
]


@pytest.mark.parametrize("unit", MARKS)
def test_a_megabyte_of_one_mark_is_refused_at_once(unit):
    with pytest.raises(InvalidInput):
        load_policies(unit * (MAX_BYTES // len(unit)))


@pytest.mark.slow
def test_a_megabyte_of_values_is_refused():
    assert "more than 250000 values" in str(refusal("-\n" * (MAX_BYTES // 2), MalformedRequest))


texts = st.text() | st.text(
    alphabet="{}[]:,-?&*!|>'\"%@`# \n\tab01.~<=\\u\ud800\x00\x85\u2028", max_size=60
)


@given(text=texts | st.binary(max_size=60))
@example("? ")
@example("&a *a")
@example('"\\UFFFFFFFF"')
@example("- !<tag:yaml.org,2002:str> x")
def test_no_text_makes_it_raise_anything_else(text):
    try:
        load_policies(text)
    except (InvalidPolicy, MalformedRequest, TooLarge) as error:
        str(error).encode()


@given(text=texts)
def test_nor_with_the_parser_in_python(text):
    with pytest.MonkeyPatch.context() as patch:
        patch.delattr(yaml, "CSafeLoader", raising=False)
        try:
            load_policies(text)
        except (InvalidPolicy, MalformedRequest, TooLarge) as error:
            str(error).encode()


@given(data=st.data())
def test_nor_does_a_good_file_that_was_damaged(data):
    start = data.draw(st.integers(0, len(GOOD)))
    end = data.draw(st.integers(start, len(GOOD)))
    damaged = GOOD[:start] + data.draw(st.text(max_size=10)) + GOOD[end:]
    try:
        policies = load_policies(damaged)
    except (InvalidPolicy, MalformedRequest, TooLarge):
        return
    assert all(isinstance(policy, Policy) for policy in policies)


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=8,
)
fields = [
    "name",
    "limit",
    "window",
    "burst",
    "match",
    "levels",
    "overrides",
    "dimensions",
    "algorithm",
]


@given(document=st.dictionaries(st.sampled_from(fields), values))
def test_nor_does_any_value_of_any_field(document):
    try:
        load_policies(json.dumps(document))
    except (InvalidPolicy, MalformedRequest, TooLarge) as error:
        str(error).encode()


# --- there and back ---------------------------------------------------------------------------------------


ODD_WORDS = [
    "NO",
    "1e3",
    "-0",
    "1.5",
    "~",
    "null",
    "010",
    "1:30",
    "=",
    "<<",
    "0x1",
    "#",
    "*a",
    "&a",
    "!x",
    "2026-01-01",
    "1_0",
    ".5",
    "+1",
    "'",
    '"',
    "-",
    "?",
    ":",
]
ODD_TEXT = [
    "",
    " x ",
    "- a",
    "a: b",
    "line\nline\n",
    "\x85",
    "\u2028",
    "\ufeff",
    "\x07",
    "\U0001f600",
]
odd_text = st.sampled_from(ODD_WORDS + ODD_TEXT) | st.text(max_size=20)


@given(description=odd_text, dimension=odd_text, pattern=odd_text, window=st.floats(0.001, 10**6))
def test_what_is_dumped_is_loaded_again(description, dimension, pattern, window):
    document = {
        "name": "api",
        "limit": 1,
        "window": window,
        "description": description,
        "match": {dimension: [pattern], "other": pattern},
    }
    policy = Policy.from_dict(document)
    [again] = load_policies(dump_policies([policy]))
    assert again.to_dict() == policy.to_dict()


def test_a_dump_is_what_a_person_would_write():
    text = "policies:\n- name: api\n  limit: 10\n  window: 1m\n  dimensions:\n  - user\n  priority: high\n"
    dumped = dump_policies(load_policies(text))
    assert dumped.startswith(text)


def test_a_dump_shares_nothing():
    match = {"tenant": ["acme"]}
    first = Policy.from_dict({"name": "a", "limit": 1, "window": "1s", "match": match})
    second = Policy.from_dict({"name": "b", "limit": 1, "window": "1s", "match": match})
    assert "&" not in dump_policies([first, second])


# --- files ------------------------------------------------------------------------------------------------


def test_a_file_is_read_and_named_in_its_errors(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(GOOD)
    assert len(load_policy_file(path)) == 2
    path.write_text(GOOD.replace("limit: 5", "limit: -5"))
    with pytest.raises(InvalidPolicy, match=r"mine.yaml:9: levels.0.limit"):
        load_policy_file(path)


@pytest.mark.parametrize("name", ["none.yaml", "", "nul\x00"])
def test_a_file_that_cannot_be_read(tmp_path, name):
    with pytest.raises(MalformedRequest, match="the file cannot be read"):
        load_policy_file(f"{tmp_path}/{name}")


def test_a_large_file_is_not_read_whole(tmp_path):
    path = tmp_path / "large.yaml"
    with path.open("wb") as file:
        file.truncate(10**10)
    with pytest.raises(TooLarge):
        load_policy_file(path)


def test_the_examples_are_good_and_survive_a_dump():
    policies = load_policy_file(EXAMPLES)
    assert "api-rate-limit" in {policy.name for policy in policies}
    again = load_policies(dump_policies(policies))
    assert [policy.to_dict() for policy in again] == [policy.to_dict() for policy in policies]


def test_the_examples_of_the_guide_are_good():
    guide = (ROOT / "docs" / "how-to" / "policy-files.md").read_text()
    blocks = re.findall(r"```yaml\n(.*?)```", guide, re.DOTALL)
    assert len(blocks) >= 5
    assert all(len(load_policies(block)) == 1 for block in blocks)
