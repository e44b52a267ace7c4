"""Refusals over HTTP: `{"error": {code, message, field, request_id}}` with a status that fits the code."""

import contextlib
import itertools
import re
import secrets
from collections.abc import Mapping
from contextvars import ContextVar
from http import HTTPStatus
from typing import Any

import structlog
from litestar import Request, Response
from litestar.exceptions import HTTPException, ValidationException
from litestar.openapi import ResponseSpec
from litestar.types import Scope as AsgiScope
from msgspec import DecodeError, Struct
from msgspec import ValidationError as BodyError

from schemas.log import LogError
from schemas.refusals import Args, Refusal, field, sentence
from schemas.store import StoreError

REQUEST_ID = "X-Request-Id"
REQUEST: ContextVar[str] = ContextVar("request_id", default="")
"""The id of the request that is being answered, for the commands that it sends."""

_STATUS_OF_REFUSAL = {
    Refusal.UNKNOWN_CLASS: 404,
    Refusal.UNKNOWN_ORDER: 404,
    Refusal.UNKNOWN_LEASE: 404,
    Refusal.UNKNOWN_ACCOUNT: 404,
    Refusal.CLASS_RETIRED: 404,
    Refusal.KILLED: 403,
    Refusal.HALTED: 409,
    Refusal.CLASS_EXISTS: 409,
    Refusal.REFERENCE_REUSED: 409,
    Refusal.USAGE_CONFLICT: 409,
    Refusal.INSUFFICIENT_FUNDS: 402,
    Refusal.CORRECTION_UNCOVERED: 402,
    Refusal.UNKNOWN_WITHDRAWAL: 404,
    Refusal.WITHDRAWAL_STATE: 409,
    Refusal.CREDIT_IN_USE: 409,
    Refusal.LEASE_STATE: 409,
    Refusal.GPU_IN_USE: 409,
    Refusal.ALREADY_RETURNED: 409,
}
_FIELD = re.compile(r"(?:missing required|unknown) field `([^`]*)`")
_CODE_OF_STATUS = {400: "invalid", 404: "not_found", 405: "method_not_allowed", 413: "too_large"}


class ErrorBody(Struct, frozen=True):
    """Why a request was refused."""

    code: str
    """For programs: a code of the table in gateways/README.md."""
    message: str
    """For people: what was wrong and what to do."""
    field: str
    """Of the request; '' for the request as a whole."""
    request_id: str


class ErrorAnswer(Struct, frozen=True):
    """The body of every answer that is not a success."""

    error: ErrorBody


def documented(*statuses: int) -> dict[int, ResponseSpec]:
    """For the description of a route: these statuses come with an error."""
    return {
        status: ResponseSpec(ErrorAnswer, description=HTTPStatus(status).phrase, generate_examples=False)
        for status in statuses
    }


ANYWHERE = documented(400, 429, 500, 503)
"""Errors that every route may answer with."""


class ApiError(Exception):
    """A request that is answered with an error."""

    def __init__(
        self, status: int, code: str, message: str, field: str = "", headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.field = field
        self.headers = dict(headers or {})


def refused(code: Refusal, args: Args) -> ApiError:
    """A refusal by the exchange's rules, whoever found it: 422, or what fits the code better."""
    return ApiError(_STATUS_OF_REFUSAL.get(code, 422), code.value, sentence(code, args), field(code, args))


def invalid(field: str, message: str) -> ApiError:
    """A request that is not in the form that the API takes."""
    return ApiError(400, "invalid", message, field)


def unknown(advice: str) -> ApiError:
    """The exchange did not answer in time. It may still do it: that is not a failure."""
    return ApiError(504, "unknown", f"the exchange has not answered in time, and it may still do it: {advice}")


def closing() -> ApiError:
    """The server closes, and the request waited for something to happen."""
    return ApiError(503, "closing", "the exchange is closing: try again when it is back")


def request_id(scope: AsgiScope) -> str:
    """The caller's own id where it sent a usable one, else a new one; the same for the request's life."""
    state: dict[str, Any] = scope["state"]
    this: str | None = state.get("request_id")
    if this is None:
        sent = ""
        for name, value in scope["headers"]:
            if name == b"x-request-id":
                sent = value.decode("latin-1")
                break
        usable = 0 < len(sent) <= 64 and sent.isascii() and sent.isprintable()
        this = state["request_id"] = sent if usable else new_name()
    return this


_process = secrets.token_hex(10)
_numbers = itertools.count()


def new_name() -> str:
    """32 hex digits that nothing else is named, here or elsewhere. Not a secret: who has one can tell the next.

    Of each process 80 random bits, drawn once: to draw them costs as much as to decode an order.
    """
    return f"{_process}{next(_numbers):012x}"


def answer(request: Request[Any, Any, Any], error: Exception) -> Response[ErrorAnswer]:
    """Every exception on the way of a request -> its answer. What nobody expected is logged and tells nothing."""
    this, request_name = explained(request.scope, error), request_id(request.scope)
    return Response(
        ErrorAnswer(body_of(this, request_name)),
        status_code=this.status,
        headers={**this.headers, REQUEST_ID: request_name},
        media_type="application/json",
    )


def explained(scope: AsgiScope, error: Exception) -> ApiError:
    """What it is to the caller of that request; what nobody expected is logged."""
    this = as_api_error(error)
    if this.status == 500:
        with going_on_unlogged():
            structlog.get_logger().error(
                "a request failed", request_id=request_id(scope), path=scope["path"], exc_info=error
            )
    return this


def going_on_unlogged() -> contextlib.suppress:
    """Where lines can be written no more, as when the disk is full, requests have their answers all the same: whoever
    tells one its answer, as the engine does, has others to tell."""
    return contextlib.suppress(OSError, ValueError)


def body_of(error: ApiError, request_name: str) -> ErrorBody:
    """As it is told to the request's caller."""
    return ErrorBody(error.code, error.message, error.field, request_name)


def as_api_error(error: Exception) -> ApiError:
    """What it is to a caller."""
    if isinstance(error, ApiError):
        return error
    if isinstance(error, BodyError):
        return _invalid_body(error)
    if isinstance(error, DecodeError | UnicodeDecodeError):
        return invalid("", f"the body is not JSON: {error}")
    if isinstance(error, RecursionError):
        return invalid("", "the body is nested too deep")
    if isinstance(error, ValidationException):
        return _invalid_parameter(error)
    if isinstance(error, StoreError):
        return ApiError(503, "unavailable", f"{error}; try again", headers={"Retry-After": "1"})
    if isinstance(error, LogError):
        return ApiError(503, "unavailable", f"the log cannot be used now: {error}", headers={"Retry-After": "1"})
    if isinstance(error, HTTPException) and error.status_code < 500:
        code = _CODE_OF_STATUS.get(error.status_code, "invalid")
        return ApiError(error.status_code, code, error.detail, headers=error.headers)
    return ApiError(500, "internal", "the exchange failed on this request: its log has the request id")


def _invalid_body(error: BodyError) -> ApiError:
    """msgspec names where it was, and last of all the field that was missing or unknown."""
    message, _, path = str(error).partition(" - at `$")
    named = _FIELD.search(message)
    parts = [*path.strip("`").replace("[...]", "").split("."), named[1] if named else ""]
    return invalid(".".join(part for part in parts if part), message)


def _invalid_parameter(error: ValidationException) -> ApiError:
    """Of the path or the query; Litestar also says so where a body is missing."""
    for found in error.extra if isinstance(error.extra, list) else []:
        if found.get("source") == "body":
            return invalid("", "the body is empty: send a JSON object")
        return invalid(str(found.get("key", "")), str(found["message"]))
    return invalid("", error.detail)
