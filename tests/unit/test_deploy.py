"""What deploy/ says fits together, and fits the service. Without helm the chart is read and not rendered."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from dataclasses import fields
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
import yaml

from headgate.settings import Settings

DEPLOY = Path(__file__).parents[2] / "deploy"
CHART = DEPLOY / "helm" / "headgate"
TEMPLATES = sorted((CHART / "templates").iterdir())
VARIABLES = {f"HEADGATE_{setting.name.upper()}" for setting in fields(Settings)}
# Of the compose file itself: what people set for it.
OWN_VARIABLES = {"HEADGATE_REDIS_PASSWORD"}


def compose() -> dict[str, Any]:
    return yaml.safe_load((DEPLOY / "compose.yaml").read_text())


def values() -> dict[str, Any]:
    return yaml.safe_load((CHART / "values.yaml").read_text())


def schema() -> dict[str, Any]:
    return json.loads((CHART / "values.schema.json").read_text())


# --- all of it -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path",
    [path for path in sorted(DEPLOY.rglob("*")) if path.is_file()],
    ids=lambda path: str(path.relative_to(DEPLOY)),
)
def test_every_variable_is_a_setting(path: Path):
    named = set(re.findall(r"\bHEADGATE_[A-Z_]*[A-Z]\b", path.read_text()))
    assert named <= VARIABLES | OWN_VARIABLES | {"HEADGATE_REQUIRE_COMPILED"}


def test_images_are_plain_names():
    texts = [path.read_text() for path in DEPLOY.rglob("*") if path.is_file()]
    images = re.findall(
        r"^(?:FROM|\s*image:|\s*repository:)\s+(\S+)", "\n".join(texts), re.MULTILINE
    )
    named = [image for image in images if "{{" not in image]
    assert named
    for image in named:
        assert "." not in image.partition("/")[0].partition(":")[0], f"{image} names a registry"


# --- the image -------------------------------------------------------------------------------------


def test_the_image_copies_what_is_there():
    root = DEPLOY.parent
    text = (DEPLOY / "Dockerfile").read_text()
    copied = [words.split()[:-1] for words in re.findall(r"^COPY (?!--)(.+)$", text, re.MULTILINE)]
    paths = [path for words in copied for path in words]
    assert "src" in paths
    ignored = (root / ".dockerignore").read_text().split()
    for path in paths:
        assert (root / path).exists()
        assert f"!{path}" in ignored or f"!{path}/" in ignored


# --- compose ---------------------------------------------------------------------------------------


def test_compose_is_three_nodes_with_what_they_need():
    services = compose()["services"]
    nodes = {name: one for name, one in services.items() if name.startswith("node-")}
    assert len(nodes) == 3
    assert len({one["environment"]["HEADGATE_NODE"] for one in nodes.values()}) == 3
    published = [port for one in nodes.values() for port in one["ports"]]
    assert len({port.split(":")[1] for port in published}) == 6
    assert all(port.startswith("127.0.0.1:") for port in published)
    for one in nodes.values():
        assert set(one["depends_on"]) == {"first-token", "redis", "etcd-1", "etcd-2", "etcd-3"}


def test_compose_names_only_what_it_has():
    document = compose()
    services = document["services"]
    for name, one in services.items():
        for needed, condition in one.get("depends_on", {}).items():
            assert needed in services
            if condition["condition"] == "service_healthy":
                assert services[needed]["healthcheck"]["test"], f"{name} waits for {needed}"
        for volume in one.get("volumes", ()):
            assert volume.split(":")[0] in document["volumes"]
        if "build" in one:
            assert (DEPLOY / one["build"]["context"] / one["build"]["dockerfile"]).exists()


def test_compose_reaches_its_stores_by_their_names():
    services = compose()["services"]
    environment = services["node-1"]["environment"]
    hosts = re.findall(r"//([\w-]+):", environment["HEADGATE_ETCD_ENDPOINTS"])
    hosts += re.findall(r"@([\w-]+):", environment["HEADGATE_REDIS_URL"])
    assert len(hosts) == 4
    assert set(hosts) <= set(services)
    members = re.findall(r"([\w-]+)=", services["etcd-1"]["environment"]["ETCD_INITIAL_CLUSTER"])
    assert members == [services[name]["environment"]["ETCD_NAME"] for name in members]


# --- the chart, without helm -----------------------------------------------------------------------


def test_the_values_fit_their_schema_and_wrong_ones_do_not():
    validator = jsonschema_rs.validator_for(schema())
    validator.validate(values())
    for wrong in (
        {"replicas": 0},
        {"replica": 3},
        {"etcd": {"members": 2}},
        {"redis": {"url": "localhost:6379"}},
        {"settings": {"HEADGATE_PORT": "1"}},
    ):
        assert not validator.is_valid(wrong), wrong


def test_every_value_has_a_place_in_the_schema():
    def names(node: dict[str, Any], path: str = "") -> set[str]:
        found: set[str] = set()
        for name, value in node.items():
            found |= {path + name}
            if isinstance(value, dict):
                found |= names(value, f"{path}{name}.")
        return found

    def allowed(node: dict[str, Any], path: str = "") -> set[str]:
        found: set[str] = set()
        for name, value in node.get("properties", {}).items():
            found |= {path + name} | allowed(value, f"{path}{name}.")
        return found

    free = {"resources", "redis.resources", "etcd.resources", "affinity"}
    missing = names(values()) - allowed(schema())
    assert {one for one in missing if not one.startswith(tuple(free))} == set()


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: path.name)
def test_templates_use_what_there_is(path: Path):
    text = path.read_text()
    known = values()
    for reference in set(re.findall(r"\.Values((?:\.\w+)+)", text)):
        node: Any = known
        for name in reference[1:].split("."):
            assert isinstance(node, dict), reference
            assert name in node, f"there is no value {reference[1:]}"
            node = node[name]
    helpers = (CHART / "templates" / "_helpers.tpl").read_text()
    defined = set(re.findall(r'define "([\w.]+)"', helpers))
    assert set(re.findall(r'include "([\w.]+)"', text)) <= defined


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: path.name)
def test_blocks_of_templates_are_closed(path: Path):
    text = re.sub(r"\{\{-?\s*/\*.*?\*/\s*-?\}\}", "", path.read_text(), flags=re.DOTALL)
    depth = 0
    for action in re.findall(r"\{\{-?\s*(\w+)", text):
        if action in {"if", "with", "range", "define"}:
            depth += 1
        elif action == "end":
            depth -= 1
        assert depth >= 0
    assert depth == 0
    assert text.count("{{") == text.count("}}")


# --- the chart, as helm renders it -----------------------------------------------------------------


@cache
def rendered(*options: str) -> list[dict[str, Any]]:
    helm = shutil.which("helm")
    if helm is None:
        pytest.skip("helm is not here; the templates are only read")
    sets = [word for option in options for word in ("--set", option)]
    done = subprocess.run(
        [helm, "template", "demo", str(CHART), *sets], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise ValueError(done.stderr)
    return [document for document in yaml.safe_load_all(done.stdout) if document]


def of_kind(documents: list[dict[str, Any]], kind: str) -> dict[str, dict[str, Any]]:
    return {one["metadata"]["name"]: one for one in documents if one["kind"] == kind}


def test_it_lints():
    helm = shutil.which("helm")
    if helm is None:
        pytest.skip("helm is not here")
    subprocess.run([helm, "lint", "--strict", str(CHART)], check=True, capture_output=True)


def test_selectors_find_the_pods():
    documents = rendered("etcd.enabled=true")
    pods = [
        one["spec"]["template"]["metadata"]["labels"]
        for one in documents
        if one["kind"] in {"StatefulSet", "Deployment"}
    ]
    selectors = [one["spec"]["selector"] for one in of_kind(documents, "Service").values()]
    budgets = of_kind(documents, "PodDisruptionBudget").values()
    selectors += [one["spec"]["selector"]["matchLabels"] for one in budgets]
    assert len(selectors) == 6
    for selector in selectors:
        fitting = [labels for labels in pods if selector.items() <= labels.items()]
        assert len(fitting) == 1, selector


def test_etcd_of_the_release_is_where_the_nodes_look():
    documents = rendered("etcd.enabled=true")
    node = of_kind(documents, "StatefulSet")["demo-headgate"]
    environment = node["spec"]["template"]["spec"]["containers"][0]["env"]
    told = {one["name"]: one.get("value") for one in environment}
    endpoints = told["HEADGATE_ETCD_ENDPOINTS"].split(",")
    assert endpoints[2] == "http://demo-headgate-etcd-2.demo-headgate-etcd:2379"
    assert {"demo-headgate-etcd"} <= set(of_kind(documents, "Service"))


def test_a_redis_that_exists_takes_the_place_of_the_own_one():
    documents = rendered("redis.enabled=false", "redis.existingSecret=mine")
    assert not of_kind(documents, "Deployment")
    assert not of_kind(documents, "Secret")
    assert "name: mine" in yaml.safe_dump(of_kind(documents, "StatefulSet")["demo-headgate"])


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("redis.enabled=false",), "without a Redis"),
        (("redis.url=redis://r",), "redis.enabled is one Redis"),
        (("etcd.enabled=true", "etcd.endpoints=http://e:2379"), "etcd.enabled is one etcd"),
        (("replicas=0",), "minimum"),
    ],
)
def test_what_contradicts_itself_is_refused(options: tuple[str, ...], said: str):
    with pytest.raises(ValueError, match=said):
        rendered(*options)
