"""What the API says of itself: OpenAPI 3.1, made from the routes and their types (`/v1/openapi.json`, `cx openapi`).

Shapes are msgspec's own words for the types, so that what is described is what is read. What a text must look like is
said in `resources` for bodies, and in `parameters` for those.
"""

import ast
import inspect
import re
import sys
import textwrap
from collections.abc import Iterator, Mapping
from functools import lru_cache
from http import HTTPStatus
from itertools import pairwise
from typing import Any, get_args

import msgspec
from litestar import Litestar, Response
from litestar.handlers import HTTPRouteHandler
from litestar.params import PathParameter
from litestar.response import Stream
from litestar.routes import HTTPRoute
from litestar.typing import FieldDefinition

from gateways.api.errors import REQUEST_ID, ErrorAnswer
from gateways.api.parameters import HIDDEN, Json, form_of, parameters_of

_METHODS = "GET", "POST", "PUT", "PATCH", "DELETE"
"""In the order in which they are told: Litestar has them in another each time that it starts."""


def described(app: Litestar) -> bytes:
    """The document, as JSON."""
    routes = sorted(_routes(app), key=lambda each: (each[0], _METHODS.index(each[1])))
    types = [ErrorAnswer]
    for _, _, handler in routes:
        types += [each for each in (_taken(handler), _given(handler)) if each is not None]
    shapes, components = msgspec.json.schema_components(types, ref_template="#/components/schemas/{name}")
    shape_of = dict(zip(map(str, types), shapes, strict=True))
    _tell_of_fields(components, types)
    _tell_of_texts(components)
    paths: dict[str, Json] = {}
    for path, method, handler in routes:
        paths.setdefault(path, {})[method.lower()] = _operation(path, handler, shape_of)
    document = {
        "openapi": "3.1.0",
        "info": {
            "title": "compute exchange",
            "version": "1",
            "description": "An exchange for GPU time. Money is decimal strings of dollars, times are RFC 3339 in UTC. "
            "In place of sending a key, requests can be signed with Ed25519 (gateways/README.md).",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "paths": paths,
        "components": {
            "schemas": components,
            "headers": _HEADERS,
            "parameters": {"RequestId": _REQUEST_ID},
            "responses": {
                str(status): _refusal(status, shape_of[str(ErrorAnswer)])
                for status in sorted({each for _, _, handler in routes for each in handler.responses or ()})
            },
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer", "bearerFormat": "cx_…"}},
        },
    }
    return _with_short_names(msgspec.json.encode(document))


def _routes(app: Litestar) -> Iterator[tuple[str, str, HTTPRouteHandler]]:
    """(path as callers write it, method, handler)."""
    for route in app.routes:
        path = re.sub(r":\w+}", "}", route.path)
        if isinstance(route, HTTPRoute) and path not in HIDDEN:
            for handler in route.route_handlers:
                for method in sorted(handler.http_methods - {"OPTIONS", "HEAD"}):
                    yield path, method, handler


def _taken(handler: HTTPRouteHandler) -> Any:
    """The type of its body, None where it takes none."""
    field = handler.parsed_data_field
    return None if field is None else field.annotation


def _given(handler: HTTPRouteHandler) -> Any:
    """The type of its answer, None where that is no JSON."""
    field = handler.parsed_return_field
    annotation = field.annotation
    if field.is_subclass_of(Stream) or annotation is type(None):
        return None
    if field.is_subclass_of(Response):
        annotation = get_args(annotation)[0]
    return None if annotation in (str, bytes) else annotation


def _operation(path: str, handler: HTTPRouteHandler, shape_of: Mapping[str, Json]) -> Json:
    words = textwrap.dedent(" " * 8 + (handler.fn.__doc__ or "")).strip()
    parameters = [_parameter(path, name, field) for name, field in parameters_of(handler).items()]
    operation: Json = {
        "operationId": handler.handler_name,
        "summary": words.partition(".")[0],
        "description": words,
        "parameters": [*parameters, {"$ref": "#/components/parameters/RequestId"}],
        "responses": _responses(handler, shape_of),
    }
    scope = handler.opt.get("scope")
    if scope is not None:
        operation["security"] = [{"key": [scope]}]
    taken = _taken(handler)
    if taken is not None:
        content = {"application/json": {"schema": shape_of[str(taken)]}}
        operation["requestBody"] = {"required": True, "content": content}
    return operation


_REQUEST_ID: Json = {
    "name": REQUEST_ID,
    "in": "header",
    "required": False,
    "description": "your own id of the request: 1 to 64 printable ASCII characters; else the exchange makes one",
    "schema": {"type": "string"},
}


def _parameter(path: str, name: str, field: FieldDefinition) -> Json:
    in_path = isinstance(field.kwarg_definition, PathParameter)
    parameter: Json = {"name": name, "in": "path" if in_path else "query", "required": in_path or field.is_required}
    if name == "after":
        parameter["description"] = "the `next` of the answer before; without it the list begins"
    return parameter | {"schema": form_of(path, name, field)}


def _responses(handler: HTTPRouteHandler, shape_of: Mapping[str, Json]) -> Json:
    given = _given(handler)
    success: Json = {"description": HTTPStatus(handler.status_code).phrase, "headers": _SENT}
    if given is not None:
        success["content"] = {"application/json": {"schema": shape_of[str(given)]}}
    elif handler.parsed_return_field.annotation is not type(None):
        success["content"] = {str(handler.media_type): {"schema": {"type": "string"}}}
    responses = {str(handler.status_code): success}
    if handler.status_code == HTTPStatus.CREATED:
        replayed = {"description": "as the first answer said; nothing is done twice", "headers": _SENT | _REPLAYED}
        responses["200"] = success | replayed
    for status in handler.responses or ():
        responses[str(status)] = {"$ref": f"#/components/responses/{status}"}
    return dict(sorted(responses.items()))


def _header(about: str, kind: str = "string") -> Json:
    return {"description": about, "schema": {"type": kind}}


_HEADERS = {
    REQUEST_ID: _header("the request's id, yours where you sent one"),
    "RateLimit-Limit": _header(
        "how many requests the key may send at once; where it is known, as the next two", "integer"
    ),
    "RateLimit-Remaining": _header("how many of them are left", "integer"),
    "RateLimit-Reset": _header("seconds until all of them are there again", "integer"),
}
_SENT = {name: {"$ref": f"#/components/headers/{name}"} for name in _HEADERS}
_REPLAYED = {"Idempotent-Replayed": _header("true")}


def _refusal(status: int, shape: Json) -> Json:
    content = {"application/json": {"schema": shape}}
    return {"description": HTTPStatus(status).phrase, "headers": _SENT, "content": content}


def _tell_of_fields(components: dict[str, Json], types: list[Any]) -> None:
    """What stands below a field in the source is its description here."""
    known: dict[str, type] = {}
    _find_structs(types, known)
    for name, component in components.items():
        if (kind := known.get(name)) is None or "properties" not in component:
            continue
        for field, about in _told_of_fields(kind).items():
            shape = component["properties"].get(field)
            if shape is not None:
                shape.setdefault("description", about)


def _tell_of_texts(shape: Any) -> None:
    """That none of them, however deep, has a zero byte (`requests.py`)."""
    inner = shape.values() if isinstance(shape, dict) else shape if isinstance(shape, list) else ()
    for each in inner:
        _tell_of_texts(each)
    if isinstance(shape, dict) and shape.get("type") == "string" and not shape.keys() & {"pattern", "enum", "const"}:
        shape["pattern"] = r"^[^\x00]*$"


def _find_structs(types: list[Any], known: dict[str, type]) -> None:
    """Every Struct in these types, by its name."""
    for kind in types:
        if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
            if kind.__name__ not in known:
                known[kind.__name__] = kind
                _find_structs([field.type for field in msgspec.structs.fields(kind)], known)
        else:
            _find_structs([*get_args(kind)], known)


def _told_of_fields(kind: type) -> dict[str, str]:
    """By a field's name outside, the text below it; inherited ones too."""
    told: dict[str, str] = {}
    for each in reversed(kind.__mro__):
        if not issubclass(each, msgspec.Struct) or each is msgspec.Struct:
            continue
        for field, below in pairwise(_source_of(each).body):
            if (
                isinstance(field, ast.AnnAssign)
                and isinstance(field.target, ast.Name)
                and isinstance(below, ast.Expr)
                and isinstance(below.value, ast.Constant)
            ):
                told[field.target.id] = str(below.value.value)
    names = {field.name: field.encode_name for field in msgspec.structs.fields(kind)}
    return {names[name]: inspect.cleandoc(text) for name, text in told.items() if name in names}


def _source_of(kind: type) -> ast.ClassDef:
    return _classes_in(kind.__module__)[kind.__name__]


@lru_cache(16)  # modules: to parse one for each of its classes took 2 s, in which the gateway did nothing else
def _classes_in(module: str) -> dict[str, ast.ClassDef]:
    parsed = ast.parse(inspect.getsource(sys.modules[module]))
    return {each.name: each for each in parsed.body if isinstance(each, ast.ClassDef)}


def _with_short_names(document: bytes) -> bytes:
    """Generic types are named by what they hold, without their modules: PageOfFee."""
    text = document.decode()
    for long in sorted(set(re.findall(r'schemas/([^"]*_[^"]*)"', text)), key=len, reverse=True):
        head, *held = [part.rpartition(".")[2] for part in long.split("_") if part]
        text = text.replace(f'"{long}"', f'"{head}Of{"Or".join(held)}"').replace(
            f'/{long}"', f'/{head}Of{"Or".join(held)}"'
        )
    return text.encode()
