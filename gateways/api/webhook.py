"""What a payment provider tells us: deposits that came in, and what became of withdrawals.

Signed as Standard Webhooks (https://www.standardwebhooks.com) has it: HMAC-SHA256 over `id.timestamp.body` with a
secret that both sides know, in the headers `webhook-id`, `webhook-timestamp` and `webhook-signature`. A gateway without
a secret has no such route. How that is done is shared with who is told by us: gateways/client/webhooks.py.
"""

import time
from collections.abc import Callable, Mapping
from typing import Any

import msgspec
from litestar import Request, post
from litestar.connection import ASGIConnection
from litestar.handlers import BaseRouteHandler, HTTPRouteHandler
from litestar.params import JSONBody

from gateways.api import resources, terms
from gateways.api.errors import ANYWHERE, ApiError, documented, invalid
from gateways.api.instructions import Clerk
from gateways.api.requests import ApiRequest
from gateways.client import webhooks
from gateways.client.webhooks import SignatureError, StaleError, decoded
from schemas.ids import parse_account_id
from schemas.instructions import WithdrawalNews, WithdrawalState
from schemas.units import parse_usd

_NEWS = {
    "withdrawal.sent": WithdrawalState.SENT,
    "withdrawal.settled": WithdrawalState.SETTLED,
    "withdrawal.failed": WithdrawalState.FAILED,
}


def secrets_in(text: str) -> tuple[bytes, ...]:
    """Secrets as the provider shows them, `whsec_` and base64, with spaces between: more than one while they change.

    Raises ValueError, without the secret in its words.
    """
    try:
        return tuple(map(decoded, text.split()))
    except ValueError as error:
        raise ValueError(f"a payment provider's secret is wrong: {error}") from None


def webhook_routes(
    clerk: Clerk, secrets: tuple[bytes, ...], now: Callable[[], float] = time.time
) -> list[HTTPRouteHandler]:
    """One route, where there is a secret."""

    async def is_signed(connection: ASGIConnection[Any, Any, Any, Any], _: BaseRouteHandler) -> None:
        assert isinstance(connection, Request), "a guard of an HTTP route"
        check(secrets, connection.headers, await connection.body(), now())

    @post(
        "/v1/payments/webhook",
        status_code=200,
        guards=[is_signed],
        responses=ANYWHERE | documented(401, 404, 409, 422, 504),
    )
    async def hear_of_payment(
        request: ApiRequest, data: JSONBody[resources.PaymentEvent]
    ) -> resources.PaymentEventAnswer:
        """For a payment provider: a deposit came in, or a withdrawal was sent, settled or failed. Signed, not keyed.

        A payment counts once, by its own reference, however often and under whatever event id it is told. Types that
        the exchange does not know are `ignored`.
        """
        event_id, state = request.headers["webhook-id"], _NEWS.get(data.type)
        if state is None and data.type != "deposit.received":
            return resources.PaymentEventAnswer(event_id=event_id, status="ignored")
        said = msgspec.json.decode(await request.body(), type=resources.KnownPaymentEvent).data
        await (_deposit(clerk, said) if state is None else _withdrawal(clerk, said, state))
        return resources.PaymentEventAnswer(event_id=event_id, status="done")

    return [hear_of_payment] if secrets else []


def check(secrets: tuple[bytes, ...], headers: Mapping[str, str], body: bytes, now: float) -> None:
    """Raises ApiError 401 where the body is not signed with one of the secrets, or was long ago."""
    try:
        webhooks.check(secrets, headers, body, now)
    except StaleError as error:
        raise ApiError(401, "event_stale", str(error)) from None
    except SignatureError as error:
        raise ApiError(401, "bad_signature", str(error)) from None


async def _deposit(clerk: Clerk, said: resources.PaymentData) -> None:
    if said.amount is None:
        raise invalid("data.amount", "say how much came in")
    account = terms.parsed("data.account_id", parse_account_id, said.account_id)
    amount = terms.parsed("data.amount", parse_usd, said.amount)
    await clerk.deposit(account, amount, said.reference)


async def _withdrawal(clerk: Clerk, said: resources.PaymentData, state: WithdrawalState) -> None:
    account = terms.parsed("data.account_id", parse_account_id, said.account_id)
    reason = said.reason if state is WithdrawalState.FAILED else ""
    await clerk.hear(WithdrawalNews(account, said.reference, state, said.provider_reference, reason))
