"""What parameters of paths and queries must look like: said in the API's description, and held against every request.

It is one table for both, so that no handler meets a text that the description does not say. What is not in its form is
400 before the handler runs, and so is a parameter that the route does not have, or that is said twice: a filter that is
spelled wrong must not become a request for everything.
"""

import re
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, get_args

import msgspec
from litestar import Request
from litestar.enums import HttpMethod
from litestar.handlers import HTTPRouteHandler
from litestar.params import PathParameter, QueryParameter
from litestar.typing import FieldDefinition

from gateways.api.errors import invalid
from gateways.api.resources import (
    ACCOUNT_ID,
    CLASS_NAME,
    DATE,
    DURATION,
    EVENT_ID,
    LEASE_ID,
    MOMENT,
    MONTH,
    ORDER_ID,
    PATH_NAME,
    SPENDER_NAME,
    TIER,
    TIME,
)
from gateways.api.statements import ROLES
from schemas.instructions import WITHDRAWAL_REFERENCE, WithdrawalState
from schemas.store import LeaseState, OrderStatus, SpenderKind
from schemas.tape import INTERVALS
from schemas.webhooks import DeliveryState

Json = dict[str, Any]

HIDDEN = {"/", "/docs", "/metrics", "/v1/openapi.json", "/web/{name}"}
"""Of these nothing is said or held: they are for browsers, and for machines that know them."""

MAX_ID = (1 << 63) - 1
_TIME: Json = {"pattern": TIME, "examples": ["2026-11-24T03:00:00Z"]}
_DATE: Json = {"pattern": DATE, "examples": ["2026-11-24"]}
_ACCOUNT: Json = {"pattern": ACCOUNT_ID, "examples": ["acc_2"]}
_ME: Json = {"pattern": f"^(me|{ACCOUNT_ID[1:-1]})$", "examples": ["me", "acc_2"]}
_LEASE: Json = {"pattern": LEASE_ID, "examples": ["lse_7k2-0"]}
_LINE: Json = {"pattern": LEASE_ID[:-1] + r"([.][0-9]{1,9})?$", "examples": ["lse_7k2-0", "lse_7k2-0.1"]}
_MONTH: Json = {"pattern": MONTH, "examples": ["2026-11"]}
_CLASS: Json = {"pattern": CLASS_NAME, "examples": ["H100-SXM-80GB"]}
_ORDER: Json = {"pattern": ORDER_ID, "examples": ["ord_7k2"]}
_SPENDER: Json = {"pattern": SPENDER_NAME, "examples": ["research"]}
_REFERENCE: Json = {"pattern": WITHDRAWAL_REFERENCE, "examples": ["nov-1"]}
_ID: Json = {"minimum": 1, "maximum": MAX_ID}
_NUMBER: Json = {"minimum": 0, "maximum": MAX_ID}

FORMS: dict[str, Json] = {
    "account_id": _ACCOUNT,
    "before": _TIME,
    "by": {"enum": [*SpenderKind, "class"]},
    "class": _CLASS,
    "class_id": _CLASS,
    "client_order_id": {"pattern": PATH_NAME, "examples": ["night-run-7"]},
    "duration": {"pattern": DURATION, "examples": ["24h"]},
    "event_id": {"pattern": EVENT_ID, "examples": ["evt_7"]},
    "filled": _NUMBER,
    "from": _TIME,
    "interval": {"enum": list(INTERVALS)},
    "key_id": _ID,
    "lease_id": _LEASE,
    "month": _MONTH,
    "name": {"pattern": PATH_NAME, "examples": ["laptop"]},
    "order_id": _ORDER,
    "pool": _SPENDER,
    "reference": _REFERENCE,
    "role": {"enum": list(ROLES)},
    "side": {"enum": ["bid", "ask"]},
    "since": _TIME,
    "start": {"pattern": MOMENT, "examples": ["now", "now+24h"]},
    "status": {"enum": [status for status in OrderStatus if status is not OrderStatus.SENT]},
    "team": _SPENDER,
    "tier": {"pattern": TIER, "examples": ["gold"]},
    "until": _TIME,
    "user_name": _SPENDER,
    "webhook_id": _ID,
    "/v1/accounts after": _ACCOUNT,
    "/v1/accounts/{account_id}/keys account_id": _ME,
    "/v1/accounts/{account_id}/keys after": _NUMBER,
    "/v1/accounts/{account_id}/keys/{key_id} account_id": _ME,
    "/v1/accounts/{account_id}/keys/{key_id}/rotation account_id": _ME,
    "/v1/asks after": _ORDER,
    "/v1/bids after": _ORDER,
    "/v1/deposits after": {"pattern": "^[ -~]{1,64}$"},
    "/v1/entries after": {"pattern": "^-?[0-9]{1,19}([.]-?[0-9]{1,19}){2,7}$"},
    "/v1/fees after": {"pattern": f"{TIER[:-1]}:{TIME[1:]}"},
    "/v1/fills after": {"pattern": "^(start|end|[0-9]{1,15}([.][0-9]{1,15})*)$"},
    "/v1/focus after": _LINE,
    "/v1/invoices after": _MONTH,
    "/v1/invoices/{month} after": _LINE,
    "/v1/leases after": _LEASE,
    "/v1/leases/{lease_id}/usage after": _NUMBER,
    "/v1/leases state": {"pattern": "^({0})(,({0})){{0,15}}$".format("|".join(LeaseState)), "examples": ["active"]},
    "/v1/orders after": _ORDER,
    "/v1/outgoing after": {"pattern": f"{ACCOUNT_ID[:-1]}:{WITHDRAWAL_REFERENCE[1:]}"},
    "/v1/spend after": {"pattern": "^[ -~]{0,64}$"},
    "/v1/spend from": _DATE,
    "/v1/spend until": _DATE,
    "/v1/suppliers after": _ACCOUNT,
    "/v1/usage after": {"pattern": f"^({LEASE_ID[1:-1]}|{TIME[1:-1]})$", "examples": ["lse_7k2-0"]},
    "/v1/usage by": {"enum": ["lease", "hour"]},
    "/v1/usage/refused after": {"pattern": "^[0-9]{1,18}[.][0-9]{1,9}[.][0-9]{1,18}$"},
    "/v1/webhooks after": _NUMBER,
    "/v1/webhooks/{webhook_id}/deliveries after": {"pattern": EVENT_ID},
    "/v1/webhooks/{webhook_id}/deliveries state": {"enum": list(DeliveryState)},
    "/v1/withdrawals after": _REFERENCE,
    "/v1/withdrawals state": {"enum": list(WithdrawalState)},
}
"""What a parameter must look like, by its name; by its route and its name where the name alone does not say it."""

_KINDS: dict[type, tuple[Callable[[str], int | float | str], re.Pattern[str], str]] = {
    int: (int, re.compile("-?(0|[1-9][0-9]{0,18})"), "a whole number"),
    float: (float, re.compile("-?(0|[1-9][0-9]{0,8})([.][0-9]{1,18})?([eE]-?[0-9]{1,2})?"), "a number"),
    str: (str, re.compile("(?s:.*)"), "a text"),
}
"""How each type is written, of which Python itself would read more: 1_000, ١, +5, nan."""
_SHOWN = 100
"""Characters of what was sent, in a refusal."""


def form_of(path: str, name: str, field: FieldDefinition) -> Json:
    """The parameter's JSON Schema."""
    told = field.kwarg_definition
    assert isinstance(told, PathParameter | QueryParameter)
    shape = msgspec.json.schema(_kind(field))
    limits = {"minimum": told.ge, "maximum": told.le}
    shape |= {key: value for key, value in limits.items() if value is not None}
    shape |= FORMS.get(f"{path} {name}") or FORMS.get(name, {})
    if field.has_default and field.default is not None:
        shape["default"] = field.default
    return shape


def parameters_of(handler: HTTPRouteHandler) -> dict[str, FieldDefinition]:
    """By the names outside."""
    return {
        field.kwarg_definition.name or name: field
        for name, field in handler.parsed_fn_signature.parameters.items()
        if isinstance(field.kwarg_definition, PathParameter | QueryParameter)
    }


async def hold_to_their_forms(request: Request[Any, Any, Any]) -> None:
    """Raises ApiError 400 for the first parameter of the request that is not as described."""
    if request.method == HttpMethod.OPTIONS or (path := request.scope["path_template"]) in HIDDEN:
        return
    checks = checks_of(path, request.route_handler)
    for name, value in request.scope["path_params"].items():
        checks[name](value)
    if not request.scope["query_string"]:
        return
    said: set[str] = set()
    for name, value in request.query_params.multi_items():
        if name not in checks or name in request.scope["path_params"]:
            message = f"there is no such parameter here: there is {_listed(request, checks)}"
            raise invalid(ascii(name[:_SHOWN])[1:-1], message)
        if name in said:
            raise invalid(name, f"{name} is there twice")
        said.add(name)
        checks[name](value)


def _listed(request: Request[Any, Any, Any], checks: Mapping[str, object]) -> str:
    return ", ".join(name for name in checks if name not in request.scope["path_params"]) or "none at all"


@lru_cache(1024)  # routes
def checks_of(path: str, handler: HTTPRouteHandler) -> dict[str, Callable[[str], None]]:
    """Of each parameter of the route, what raises ApiError 400 for a text that is not in its form."""
    return {
        name: _check(name, form_of(path, name, field), _kind(field)) for name, field in parameters_of(handler).items()
    }


def _kind(field: FieldDefinition) -> type:
    kinds: tuple[type, ...] = get_args(field.annotation) or (field.annotation,)
    return next(each for each in kinds if each is not type(None))


def _check(name: str, shape: Json, kind: type) -> Callable[[str], None]:
    """Raises ApiError 400 for a text that is not in the shape."""
    read, written, about = _KINDS[kind]
    pattern = re.compile(shape.get("pattern", "(?s:.*)"), re.ASCII)
    least, most = shape.get("minimum", float("-inf")), shape.get("maximum", float("inf"))
    enum, example = shape.get("enum"), (shape.get("examples") or [None])[0]

    def check(text: str) -> None:
        shown = repr(text[:_SHOWN])
        if not written.fullmatch(text):
            raise invalid(name, f"{name} is {about}: {shown} is none")
        if enum is not None and text not in enum:
            raise invalid(name, f"{shown} is none of {', '.join(enum)}")
        if not pattern.fullmatch(text):
            raise invalid(name, f"{name} {shown} is not in its form" + (f": it is like {example}" if example else ""))
        if kind is not str and not least <= read(text) <= most:
            raise invalid(name, f"{name} is from {least} to {most}: {text} is not")

    return check
