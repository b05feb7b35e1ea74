"""The reference as one page that needs no network and no script: written from the OpenAPI document."""

from __future__ import annotations

import json
from html import escape
from importlib.resources import files
from typing import Any, Final

__all__ = ["SECURITY_POLICY", "docs_page"]

SECURITY_POLICY: Final = b"default-src 'none'; style-src 'unsafe-inline'"

Json = dict[str, Any]


def docs_page(openapi: Json) -> bytes:
    """The page, in UTF-8."""
    template = files("headgate.server").joinpath("docs.html").read_text("utf-8")
    routes = [
        _route(method, path, operation)
        for path, methods in openapi["paths"].items()
        for method, operation in methods.items()
    ]
    schemas = [
        _schema(name, schema) for name, schema in sorted(openapi["components"]["schemas"].items())
    ]
    for place, text in (
        ("title", escape(f"{openapi['info']['title']} {openapi['info']['version']}")),
        ("routes", "\n".join(routes)),
        ("schemas", "\n".join(schemas)),
    ):
        template = template.replace(f"<!-- {place} -->", text)
    return template.encode("utf-8")


def _route(method: str, path: str, operation: Json) -> str:
    parts = [
        f'<h3 id="{escape(operation["operationId"])}"><b>{method.upper()}</b> {escape(path)}</h3>',
        _paragraphs(operation.get("description", "")),
    ]
    if operation.get("parameters"):
        parts += ["<ul>", *map(_parameter, operation["parameters"]), "</ul>"]
    body = operation.get("requestBody")
    if body:
        schema = body["content"]["application/json"]["schema"]
        parts.append(f"<p>Body: {_linked(schema)}</p>")
    parts += ["<ul>", *(_answer(*one) for one in sorted(operation["responses"].items())), "</ul>"]
    return "\n".join(parts)


def _parameter(parameter: Json) -> str:
    name, place = escape(parameter["name"]), escape(parameter["in"])
    return f"<li><code>{name}</code> ({place}) {escape(parameter.get('description', ''))}</li>"


def _answer(status: str, answer: Json) -> str:
    schemas = [content.get("schema", {}) for content in answer.get("content", {}).values()]
    shapes = ", ".join(filter(None, map(_linked, schemas)))
    return f"<li><code>{escape(status)}</code> {escape(answer['description'])} {shapes}</li>"


def _linked(schema: Json) -> str:
    name = escape(schema.get("$ref", "").rpartition("/")[2])
    return f'<a href="#{name}">{name}</a>' if name else ""


def _schema(name: str, schema: Json) -> str:
    text = escape(json.dumps(schema, indent=2))
    return f'<h3 id="{escape(name)}">{escape(name)}</h3>\n<pre>{text}</pre>'


def _paragraphs(text: str) -> str:
    return "".join(f"<p>{escape(part)}</p>" for part in text.split("\n\n") if part)
