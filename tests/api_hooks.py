"""Loaded by schemathesis (`SCHEMATHESIS_HOOKS`)."""

import os
import zlib
from typing import Any

import schemathesis
from schemathesis.specs.openapi.adapter import parameters

REAL = "CX_TEST_"
"""Before a path parameter's name in capitals: the environment's variable that holds some that are there."""
ITS_OWN = "CX_TEST_OWN_KEY"
"""In the environment: the key that asks, which must outlive its questions."""
NOBODYS = 1_000_000
_quoted = parameters._quote_all_safe


def quoted_as_drawn(value: dict[str, Any]) -> dict[str, Any]:
    """Path parameters for a URL. A percent sign is one: schemathesis takes what is like `%0A` in a drawn text for a
    character that is quoted already, so that a text in its form was sent as one that is not."""
    return _quoted({name: text.replace("%", "%25") if type(text) is str else text for name, text in value.items()})


parameters._quote_all_safe = quoted_as_drawn


@schemathesis.hook
def map_path_parameters(context: Any, path_parameters: dict[str, Any] | None) -> dict[str, Any] | None:
    """Of the ids that are in form, many are of something that is there: else nearly all answers were 404."""
    for name, value in (path_parameters or {}).items():
        assert path_parameters is not None
        real = os.environ.get(REAL + name.upper(), "").split(",")
        place = zlib.crc32(str(value).encode()) % (len(real) + 1)
        if place < len(real) and str(value)[:4] == real[place][:4]:
            path_parameters[name] = real[place]
    return path_parameters


@schemathesis.hook
def before_call(context: Any, case: Any, **sent: Any) -> None:
    """Of every phase, those too that draw nothing."""
    if str(case.path_parameters.get("key_id")) == os.environ[ITS_OWN]:
        case.path_parameters["key_id"] = NOBODYS


@schemathesis.hook
def map_body(context: Any, body: Any) -> Any:
    """JSON Schema calls 5.0 an integer. The API does not, as a number that was a float may have been another before."""
    if isinstance(body, float) and body.is_integer():
        return int(body)
    if isinstance(body, list):
        return [map_body(context, each) for each in body]
    if isinstance(body, dict):
        return {name: map_body(context, value) for name, value in body.items()}
    return body
