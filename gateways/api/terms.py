"""From what a caller wrote to a command, and from a command and what became of it to what a caller reads."""

import re
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any, TypeVar

import msgspec

from gateways.api import resources
from gateways.api.errors import REQUEST, invalid
from gateways.api.signing import ssh_line
from gateways.api.ssh import fingerprint
from schemas.attributes import (
    DELIVERIES,
    INTERCONNECTS,
    REGIONS,
    TIERS,
    Accepts,
    Attributes,
    ClassSpec,
    SlaStep,
    name_of,
    region_mask,
    regions_of,
)
from schemas.book import Offer
from schemas.commands import Extend, PlaceAsk, PlaceBid, TimeInForce
from schemas.events import Execution, Fill
from schemas.ids import (
    FillId,
    LeaseId,
    format_account_id,
    format_fill_id,
    format_lease_id,
    format_order_id,
    parse_account_id,
)
from schemas.refusals import Args, Refusal, field, sentence
from schemas.store import (
    NOBODY,
    Account,
    ApiKey,
    Balance,
    Degradation,
    Deposited,
    Entry,
    Fee,
    HourUse,
    Lease,
    LeaseUse,
    Listing,
    Order,
    RefusedUsage,
    Renewal,
    Spender,
    SshKey,
    Usage,
    Use,
    Withdrawn,
)
from schemas.tape import Candle, Ticker
from schemas.units import (
    HOUR_MS,
    MAX_TIME_MS,
    MINUTE_MS,
    ceil_grid,
    format_duration,
    format_time,
    format_usd,
    parse_duration,
    parse_time,
    parse_usd,
)

DEFAULT_NOT_AFTER_MS = MINUTE_MS
MAX_NOT_AFTER_MS = 24 * HOUR_MS
"""The engine remembers each client_order_id until then. Both times are of the wall: a faster log has more."""
MAX_SHOWN_FILLS = 500

_commands: msgspec.msgpack.Decoder[PlaceAsk | PlaceBid | Extend] = msgspec.msgpack.Decoder(PlaceAsk | PlaceBid | Extend)

_NAME = re.compile(resources.NAME)
_PATH_NAME = re.compile(resources.PATH_NAME)

Value = TypeVar("Value")


def parsed(name: str, parse: Callable[[str], Value], text: str) -> Value:
    """The value of a request's field. Raises ApiError 400 with the parser's own words."""
    try:
        return parse(text)
    except ValueError as error:
        raise invalid(name, str(error)) from None


def choice(name: str, choices: Mapping[str, Value], text: str) -> Value:
    """The value that `text` names. Raises ApiError 400 with those there are."""
    try:
        return choices[text]
    except KeyError:
        raise invalid(name, f"{text!r} is none of {', '.join(choices)}") from None


def plain_text(name: str, text: str) -> str:
    """The text. Raises ApiError 400."""
    if not _NAME.fullmatch(text):
        raise invalid(name, f"{name} must be 1 to 64 printable ASCII characters")
    return text


def must_be_of_paths(name: str, text: str) -> None:
    """Raises ApiError 400 for what could not be asked for by its path, as a client or proxy would take it apart."""
    if not _PATH_NAME.fullmatch(text):
        raise invalid(
            name, f"{name} is a part of paths: 1 to 64 printable ASCII characters without a slash, and not . or .."
        )


def moment(name: str, text: str, now: int) -> int:
    """`now`, `now+24h` (both rounded up to the grid) or RFC 3339 -> ms. Raises ApiError 400."""
    if text == "now":
        return ceil_grid(now)
    if text.startswith("now+"):
        return ceil_grid(now) + parsed(name, parse_duration, text.removeprefix("now+"))
    return parsed(name, parse_time, text)


def bid_command(body: resources.NewBid, account: Account, client_order_id: str, now: int, speed: int) -> PlaceBid:
    """Raises ApiError 400 where a field is not in its form."""
    if body.start is not None and body.starts is not None:
        raise invalid("starts", "give start or starts, not both")
    starts = body.starts if body.starts is not None else ["now" if body.start is None else body.start]
    return PlaceBid(
        class_id=body.class_id,
        account=account.id,
        owner=account.owner,
        client_order_id=client_order_id,
        not_after=_not_after(body.not_after, now, speed),
        quantity=body.quantity,
        price=parsed("price", parse_usd, body.price),
        duration=parsed("duration", parse_duration, body.duration),
        starts=tuple(_start("starts", start, now) for start in starts),
        accepts=_accepts(body.accepts),
        min_fill=body.min_fill,
        prefer=choice("prefer", resources.PREFERENCES, body.prefer),
        time_in_force=choice("time_in_force", resources.TIMES_IN_FORCE, body.time_in_force),
        expire_at=0 if body.expire_at is None else moment("expire_at", body.expire_at, now),
        post_only=body.post_only,
        self_trade=choice("self_trade", resources.SELF_TRADES, body.self_trade),
        fee_bps=account.buyer_fee_bps,
        request_id=REQUEST.get(),
    )


def ask_command(body: resources.NewAsk, account: Account, client_order_id: str, now: int, speed: int) -> PlaceAsk:
    """Raises ApiError 400 where a field is not in its form."""
    return PlaceAsk(
        class_id=body.class_id,
        account=account.id,
        owner=account.owner,
        client_order_id=client_order_id,
        not_after=_not_after(body.not_after, now, speed),
        quantity=body.quantity,
        price=parsed("price", parse_usd, body.price),
        start=_start("start", body.start, now),
        end=moment("end", body.end, now),
        attributes=Attributes(
            region=choice("region", REGIONS, body.region),
            delivery=choice("delivery", DELIVERIES, body.delivery),
            interconnect=choice("interconnect", INTERCONNECTS, body.interconnect),
            confidential=body.confidential,
            tier=choice("tier", TIERS, body.tier),
            notice_minutes=body.notice_minutes,
        ),
        min_duration=parsed("min_duration", parse_duration, body.min_duration),
        lot=body.lot,
        time_in_force=choice("time_in_force", resources.TIMES_IN_FORCE, body.time_in_force),
        expire_at=0 if body.expire_at is None else moment("expire_at", body.expire_at, now),
        post_only=body.post_only,
        self_trade=choice("self_trade", resources.SELF_TRADES, body.self_trade),
        fee_bps=account.seller_fee_bps,
        display=body.display,
        request_id=REQUEST.get(),
    )


def amended_command(
    body: resources.NewTerms, order: Order, account: Account, name: str, now: int, speed: int
) -> PlaceBid | PlaceAsk:
    """The order's terms with those of the amend, under the amend's name. Raises ApiError 400."""
    old = command_of(order)
    is_bid = isinstance(old, PlaceBid)
    fields = (resources.NewBid if is_bid else resources.NewAsk).__struct_encode_fields__
    changes = given(body)
    for field_name in changes:
        if field_name not in fields:
            raise invalid(field_name, f"{field_name} is no term of {'a bid' if is_bid else 'an ask'}")
    wanted = msgspec.to_builtins(shown_order(order, None))
    wanted = {field_name: wanted[field_name] for field_name in fields if field_name in wanted}
    wanted |= {"client_order_id": None, "not_after": body.not_after}
    if "start" in changes:
        wanted.pop("starts", None)
    if changes.get("time_in_force") == "gtc":
        wanted["expire_at"] = None
    wanted |= changes
    command: PlaceBid | PlaceAsk
    if isinstance(old, PlaceBid):
        if body.min_fill is None:
            wanted["min_fill"] = min(old.min_fill, wanted["quantity"])
        command = bid_command(msgspec.convert(wanted, resources.NewBid), account, name, now, speed)
    else:
        command = ask_command(msgspec.convert(wanted, resources.NewAsk), account, name, now, speed)
    return msgspec.structs.replace(command, owner=old.owner, fee_bps=old.fee_bps)


def given(body: resources.NewTerms) -> dict[str, Any]:
    """The terms that an amend states."""
    content = msgspec.to_builtins(body)
    return {
        name: value for name, value in content.items() if value is not None and name not in ("amend_id", "not_after")
    }


def _start(name: str, text: str, now: int) -> int:
    """`now` itself is the engine's to say: 0."""
    return 0 if text == "now" else moment(name, text, now)


def _not_after(text: str | None, now: int, speed: int) -> int:
    if text is None:
        return now + DEFAULT_NOT_AFTER_MS * speed
    not_after = moment("not_after", text, now)
    most = now + MAX_NOT_AFTER_MS * speed
    if not_after > most:
        raise invalid("not_after", f"not_after {format_time(not_after)} is too far: at most {format_time(most)}")
    return not_after


_ANYTHING = resources.NewAccepts()


def _accepts(body: resources.NewAccepts) -> Accepts:
    if body == _ANYTHING:  # as nearly all bids say
        return Accepts()
    regions = [choice("accepts.regions", REGIONS, region) for region in body.regions]
    try:
        mask = region_mask(regions)
    except ValueError as error:
        raise invalid("accepts.regions", str(error)) from None
    return Accepts(
        regions=mask,
        delivery=choice("accepts.delivery", DELIVERIES, body.delivery),
        interconnect=choice("accepts.interconnect", INTERCONNECTS, body.interconnect),
        confidential=body.confidential,
        interruptible=body.interruptible,
        only_suppliers=_suppliers("accepts.only_suppliers", body.only_suppliers),
        not_suppliers=_suppliers("accepts.not_suppliers", body.not_suppliers),
    )


def _suppliers(name: str, accounts: Sequence[str]) -> tuple[int, ...]:
    return tuple(sorted({parsed(name, parse_account_id, account) for account in accounts}))


def class_spec(body: resources.NewClass) -> ClassSpec:
    """Raises ApiError 400 where a field is not in its form."""
    must_be_of_paths("class", body.class_id)
    return ClassSpec(
        class_id=body.class_id,
        accelerator=plain_text("accelerator", body.accelerator),
        memory_gb=body.memory_gb,
        form_factor=plain_text("form_factor", body.form_factor),
        tick=parsed("tick", parse_usd, body.tick),
        max_price=parsed("max_price", parse_usd, body.max_price),
        max_quantity=body.max_quantity,
        delivery_due_ms=parsed("delivery_due", parse_duration, body.delivery_due),
        acceptance_ms=parsed("acceptance", parse_duration, body.acceptance),
        grace_ms=parsed("grace", parse_duration, body.grace),
        band_bps=body.band_bps,
        refund_bps=body.refund_bps,
        sla=tuple(SlaStep(step.below_bps, step.credit_bps) for step in body.sla),
        reclaim_credit_bps=body.reclaim_credit_bps,
    )


def changed_class(body: resources.NewClassTerms, listing: Listing) -> ClassSpec:
    """The class's terms with those that are stated anew. Raises ApiError 400."""
    wanted = msgspec.to_builtins(shown_class(listing))
    wanted = {name: wanted[name] for name in resources.NewClass.__struct_encode_fields__}
    wanted |= {name: value for name, value in msgspec.to_builtins(body).items() if value is not None}
    return class_spec(msgspec.convert(wanted, resources.NewClass))


def shown_class(listing: Listing) -> resources.Class:
    spec = listing.spec
    return resources.Class(
        class_id=spec.class_id,
        accelerator=spec.accelerator,
        memory_gb=spec.memory_gb,
        form_factor=spec.form_factor,
        tick=format_usd(spec.tick),
        max_price=format_usd(spec.max_price),
        max_quantity=spec.max_quantity,
        delivery_due=format_duration(spec.delivery_due_ms),
        acceptance=format_duration(spec.acceptance_ms),
        grace=format_duration(spec.grace_ms),
        band_bps=spec.band_bps,
        reference=format_usd(listing.reference) if listing.reference else None,
        halt=name_of(listing.halt),
        retired=listing.retired,
        refund_bps=spec.refund_bps,
        sla=_shown_sla(spec.sla),
        reclaim_credit_bps=spec.reclaim_credit_bps,
    )


def command_of(order: Order) -> PlaceAsk | PlaceBid:
    """The command as it was sent, with the terms that the order has by now; of an extension the bid that it is."""
    command = _decoded(order.command)
    return _as_bid(command, order.class_id) if isinstance(command, Extend) else command


def extends(order: Order) -> LeaseId | None:
    """The lease that the order makes longer."""
    command = _decoded(order.command)
    return command.fill if isinstance(command, Extend) else None


@lru_cache(1024)
def _decoded(command: bytes) -> PlaceAsk | PlaceBid | Extend:
    """Kept, as an order is looked at three times until it is shown."""
    return _commands.decode(command)


def _as_bid(extend: Extend, class_id: str) -> PlaceBid:
    return PlaceBid(
        class_id=class_id,
        account=extend.account,
        owner=extend.owner,
        client_order_id=extend.client_order_id,
        not_after=extend.not_after,
        quantity=extend.quantity,
        price=extend.price,
        duration=extend.end - extend.start,
        starts=(extend.start,),
        accepts=Accepts(),
        min_fill=extend.quantity,
        time_in_force=TimeInForce.FOK,
        fee_bps=extend.fee_bps,
    )


def extension_command(
    body: resources.NewExtension, lease: Lease, account: Account, client_order_id: str, now: int, speed: int
) -> Extend:
    """Raises ApiError 400 where a field is not in its form."""
    return Extend(
        fill=lease.id,
        ask_id=lease.ask_id,
        account=account.id,
        owner=account.owner,
        client_order_id=client_order_id,
        not_after=_not_after(None, now, speed),
        quantity=lease.quantity,
        start=lease.end,
        end=lease.end + parsed("duration", parse_duration, body.duration),
        price=parsed("max_price", parse_usd, body.max_price),
        fee_bps=account.buyer_fee_bps,
        request_id=REQUEST.get(),
    )


def shown_order(
    order: Order, fills: list[resources.OrderFill] | None, command: PlaceBid | PlaceAsk | None = None
) -> resources.Order:
    """An order with every term as understood; `command` is what it was sent as, where that is at hand: no extension."""
    lease = None
    if command is None:
        command, lease = command_of(order), extends(order)
    now, spender = ceil_grid(order.created_at), order.spender
    state = (
        None if order.order_id is None else format_order_id(order.order_id),
        order.client_order_id,
        order.class_id,
        order.status,
        command.quantity,
        order.filled,
        order.left,
        format_usd(command.price),
        format_usd(order.held),
        order.reason,
        None if order.refusal is None else _shown_refusal(order.refusal, order.refusal_args),
        format_time(order.created_at),
        fills,
        name_of(command.time_in_force),
        format_time(command.expire_at) if command.expire_at else None,
        command.post_only,
        name_of(command.self_trade),
        format_time(command.not_after),
        command.fee_bps,
        spender.team or None,
        spender.user or None,
        spender.pool or None,
    )
    if isinstance(command, PlaceBid):
        return resources.Bid(
            *state,
            duration=format_duration(command.duration),
            starts=[format_time(start or now) for start in command.starts],
            min_fill=command.min_fill,
            accepts=_shown_accepts(command.accepts),
            prefer=name_of(command.prefer),
            ssh_key=order.ssh_key or None,
            extends=None if lease is None else format_lease_id(lease),
        )
    return resources.Ask(
        *state,
        start=format_time(command.start or now),
        end=format_time(command.end),
        **shown_attributes(command.attributes),
        min_duration=format_duration(command.min_duration),
        lot=command.lot,
        display=command.display,
    )


def _shown_refusal(refusal: Refusal, args: Args) -> resources.RefusalNote:
    return resources.RefusalNote(code=refusal, message=sentence(refusal, args), field=field(refusal, args))


@lru_cache(1024)
def _shown_accepts(accepts: Accepts) -> resources.Accepts:
    """Kept, as nearly all bids accept the same."""
    return resources.Accepts(
        regions=[name_of(region) for region in regions_of(accepts.regions)],
        delivery=name_of(accepts.delivery),
        interconnect=name_of(accepts.interconnect),
        confidential=accepts.confidential,
        interruptible=accepts.interruptible,
        only_suppliers=[format_account_id(supplier) for supplier in accepts.only_suppliers],
        not_suppliers=[format_account_id(supplier) for supplier in accepts.not_suppliers],
    )


def shown_attributes(attributes: Attributes) -> dict[str, Any]:
    return {
        "region": name_of(attributes.region),
        "delivery": name_of(attributes.delivery),
        "interconnect": name_of(attributes.interconnect),
        "confidential": attributes.confidential,
        "tier": name_of(attributes.tier),
        "notice_minutes": attributes.notice_minutes,
    }


def shown_offer(offer: Offer) -> resources.Offer:
    return resources.Offer(
        price=format_usd(offer.price),
        **shown_attributes(offer.attributes),
        lot=offer.lot,
        quantity=offer.quantity,
        most=offer.most,
        asks=offer.asks,
    )


def shown_fill(fill_id: FillId, terms: Fill | Lease) -> resources.OrderFill:
    return resources.OrderFill(
        fill_id=format_fill_id(fill_id),
        lease_id=format_lease_id(fill_id),
        price=format_usd(terms.price),
        quantity=terms.quantity,
        start=format_time(terms.start),
        end=format_time(terms.end),
    )


def fills_in(execution: Execution) -> list[resources.OrderFill]:
    """The fills of the order that the execution answers."""
    fills = [event for event in execution.events if isinstance(event, Fill)]
    return [shown_fill((execution.position, fill.index), fill) for fill in fills[:MAX_SHOWN_FILLS]]


def hours(gpu_ms: int) -> str:
    """GPU-hours as an exact decimal, rounded down to 6 places.

    >>> hours(5_400_000)
    '1.50'
    """
    return format_usd(gpu_ms * 1_000_000 // HOUR_MS)


def shown_candle(candle: Candle) -> resources.Candle:
    return resources.Candle(
        start=format_time(candle.start),
        open=format_usd(candle.open),
        high=format_usd(candle.high),
        low=format_usd(candle.low),
        close=format_usd(candle.close),
        fills=candle.fills,
        gpu_hours=hours(candle.gpu_ms),
        value=format_usd(candle.value),
    )


def shown_ticker(class_id: str, ticker: Ticker | None) -> resources.Ticker:
    if ticker is None:
        return resources.Ticker(class_id=class_id, last=None, time=None, number=0, day=None)
    return resources.Ticker(
        class_id=class_id,
        last=format_usd(ticker.last),
        time=format_time(ticker.time),
        number=ticker.number,
        day=None if ticker.day is None else shown_candle(ticker.day),
    )


def shown_lease(lease: Lease, account: int, connection: str | None, *, in_list: bool = False) -> resources.Lease:
    """For the buyer or the supplier; who is both sees it as the buyer. `connection` as the buyer can read it."""
    buys = account == lease.buyer
    return resources.Lease(
        lease_id=format_lease_id(lease.id),
        class_id=lease.class_id,
        role="buyer" if buys else "supplier",
        order_id=format_order_id(lease.bid_id if buys else lease.ask_id),
        buyer=format_account_id(lease.buyer),
        supplier=format_account_id(lease.seller),
        price=format_usd(lease.price),
        quantity=lease.quantity,
        start=format_time(lease.start),
        end=format_time(lease.end),
        **shown_attributes(lease.attributes),
        state=lease.state,
        close_reason=lease.close_reason,
        created_at=format_time(lease.created_at),
        deliver_by=format_time(lease.deliver_by),
        delivered_at=_time_or_none(lease.delivered_at),
        accepted_at=_time_or_none(lease.accepted_at),
        closed_at=_time_or_none(lease.closed_at),
        connection=connection if buys else None,
        used_gpu_ms=lease.used_gpu_ms,
        escrow=format_usd(lease.escrow) if buys else None,
        charged=format_usd(lease.charged) if buys else None,
        earned=None if buys else format_usd(lease.earned),
        refund_bps=lease.refund_bps,
        ends_at=_time_or_none(lease.ends_at),
        **shown_spender(lease.spender if buys else NOBODY),
        forfeited_gpu_ms=lease.forfeited_gpu_ms,
        sla=_shown_sla(lease.sla),
        reclaim_credit_bps=lease.reclaim_credit_bps,
        credit=_shown_credit(lease) if lease.credited else None,
        uptime_bps=lease.uptime_bps,
        degradations=None if in_list else [_shown_degradation(each) for each in lease.degradations],
        last_sequence=lease.last_sequence,
        gpus=None if in_list else list(lease.gpus),
        proof=lease.proof,
        extended_by=None if lease.next is None else format_lease_id(lease.next),
        renewal=None if lease.renewal is None else _shown_renewal(lease.renewal),
        ssh_key=None if in_list else lease.ssh_key or None,
    )


def _shown_renewal(renewal: Renewal) -> resources.Renewal:
    return resources.Renewal(
        duration=format_duration(renewal.duration), max_price=format_usd(renewal.price), sent=renewal.sent
    )


def shown_ssh_key(key: SshKey) -> resources.SshKey:
    return resources.SshKey(
        name=key.name,
        public_key=key.public_key,
        fingerprint=fingerprint(key.public_key),
        created_at=format_time(key.created_at),
    )


def _shown_sla(steps: Sequence[SlaStep]) -> list[resources.SlaStep]:
    return [resources.SlaStep(step.below_bps, step.credit_bps) for step in steps]


def _shown_credit(lease: Lease) -> resources.Credit:
    uptime = lease.uptime_bps
    reasons = [
        f"uptime {_percent(uptime)} is below {_percent(step.below_bps)}: {_percent(step.credit_bps)} of the cost"
        for step in lease.sla
        if uptime is not None and uptime < step.below_bps
    ][-1:]
    if lease.lost_gpu_ms and lease.reclaim_credit_bps:
        share = _percent(lease.reclaim_credit_bps)
        reasons.append(f"its supplier took it back: {share} of what the rest would have cost")
    return resources.Credit(format_usd(lease.credited), "; ".join(reasons))


def _percent(bps: int) -> str:
    return f"{bps // 100}.{bps % 100:02}%"


def _shown_degradation(found: Degradation) -> resources.Degradation:
    return resources.Degradation(
        since=format_time(found.since), until=_time_or_none(found.until), gpus=found.gpus, note=found.note
    )


def _time_or_none(time: int | None) -> str | None:
    return None if time is None else format_time(time)


def shown_hour_use(found: HourUse) -> resources.HourUse:
    return resources.HourUse(**_shown_use(found.use), since=format_time(found.since), until=format_time(found.until))


def shown_lease_use(found: LeaseUse) -> resources.LeaseUse:
    return resources.LeaseUse(
        **_shown_use(found.use),
        lease_id=format_lease_id(found.lease),
        class_id=found.class_id,
        quantity=found.quantity,
        start=format_time(found.start),
        end=format_time(found.end),
        state=found.state,
    )


def _shown_use(use: Use) -> dict[str, Any]:
    return {
        "gpu_ms": use.gpu_ms,
        "forfeited_gpu_ms": use.forfeited_gpu_ms,
        "cost": format_usd(use.cost),
        "fee": format_usd(use.fee),
        "amount": format_usd(use.amount),
    }


def shown_refused_usage(refused: RefusedUsage) -> resources.RefusedUsage:
    return resources.RefusedUsage(
        lease_id=format_lease_id(refused.lease),
        sequence=refused.sequence,
        gpu_ms=refused.gpu_ms,
        final=refused.final,
        measured_at=format_time(min(refused.measured_at, MAX_TIME_MS)) if refused.measured_at else None,
        refused_at=format_time(refused.refused_at),
        error=usage_problem(refused.code, refused.args),
    )


def usage_problem(code: Refusal, args: Args) -> resources.UsageProblem:
    return resources.UsageProblem(code=code.value, message=sentence(code, args), field=field(code, args))


def shown_usage(usage: Usage) -> resources.Usage:
    return resources.Usage(
        sequence=usage.sequence,
        gpu_ms=usage.gpu_ms,
        final=usage.final,
        reported_at=format_time(usage.reported_at),
        measured_at=format_time(usage.measured_at),
    )


def shown_fee(fee: Fee) -> resources.Fee:
    return resources.Fee(
        tier=fee.tier,
        since=format_time(fee.since),
        buyer_fee_bps=fee.buyer_fee_bps,
        seller_fee_bps=fee.seller_fee_bps,
    )


def shown_account(account: Account, now: int) -> resources.Account:
    return resources.Account(**_account_fields(account.at(now)))


def created_account(account: Account, secret: str | None) -> resources.CreatedAccount:
    return resources.CreatedAccount(**_account_fields(account), key=secret)


def _account_fields(account: Account) -> dict[str, Any]:
    return {
        "account_id": format_account_id(account.id),
        "name": account.name,
        "owner": format_account_id(account.owner),
        "buyer_fee_bps": account.buyer_fee_bps,
        "seller_fee_bps": account.seller_fee_bps,
        "tier": account.tier or None,
        "coming_fees": [shown_fee(fee) for fee in account.fees],
        "created_at": format_time(account.created_at),
    }


def shown_key(key: ApiKey) -> resources.Key:
    return resources.Key(**_key_fields(key))


def created_key(key: ApiKey, secret: str | None) -> resources.CreatedKey:
    return resources.CreatedKey(**_key_fields(key), key=secret)


def _key_fields(key: ApiKey) -> dict[str, Any]:
    return {
        "key_id": key.id,
        "prefix": key.prefix,
        "label": key.label,
        "scopes": sorted(key.scopes),
        "created_at": format_time(key.created_at),
        "revoked": key.revoked,
        "expires_at": None if key.ends_at is None else format_time(key.ends_at),
        "addresses": [str(network) for network in key.addresses],
        "public_key": None if key.public_key is None else ssh_line(key.public_key),
        **shown_spender(key.spender),
    }


def shown_spender(spender: Spender) -> dict[str, Any]:
    """Null where there is none."""
    return {"team": spender.team or None, "user": spender.user or None, "pool": spender.pool or None}


def shown_balance(account: int, balance: Balance) -> resources.Balance:
    return resources.Balance(
        account_id=format_account_id(account),
        cash=format_usd(balance.cash),
        held=format_usd(balance.held),
        escrow=format_usd(balance.escrow),
        receivable=format_usd(balance.receivable),
        outgoing=format_usd(balance.outgoing),
        credit=format_usd(balance.credit),
        daily_credits=format_usd(balance.daily_credits),
    )


def shown_deposit(made: Deposited) -> resources.MadeDeposit:
    return resources.MadeDeposit(
        account_id=format_account_id(made.account),
        amount=format_usd(made.amount),
        reference=made.reference,
        made_at=format_time(made.made_at),
    )


def shown_withdrawal(found: Withdrawn) -> resources.Withdrawal:
    return resources.Withdrawal(
        account_id=format_account_id(found.account),
        reference=found.reference,
        amount=format_usd(found.amount),
        destination=found.destination,
        source=found.source,
        state=found.state,
        provider_reference=found.provider_reference,
        reason=found.reason,
        requested_at=format_time(found.requested_at),
        sent_at=_time_or_none(found.sent_at),
        ended_at=_time_or_none(found.ended_at),
    )


def shown_entry(entry: Entry) -> resources.Entry:
    return resources.Entry(
        time=format_time(entry.time),
        reference=entry.reference,
        ledger_account=entry.kind,
        amount=format_usd(entry.amount),
        balance=format_usd(entry.balance),
    )
