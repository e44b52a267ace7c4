"""`cx` for who trades: each command is one call of the public API, through the client and nothing else."""

import sys
from collections import deque
from collections.abc import Awaitable, Sequence
from typing import Annotated, Any

import cyclopts
import msgspec
from cyclopts import Parameter
from cyclopts.types import ExistingFile

from gateways.cli import preview
from gateways.cli.access import HERE, REFUSED, USAGE, Access, fail, run
from gateways.cli.show import print_json, print_row, progress, say, show, show_one, show_order, timed
from gateways.client import Exchange, ExchangeError
from gateways.client.types import Accepts, Ask, Bid, Class, Fill, Preview, UsageReport
from schemas.units import HOUR_MS, MINUTE_MS, format_time, parse_duration, parse_time

MAX_STARTS = 32
"""Of one bid."""
HOURS_AHEAD = 23
"""A bid that names no start accepts now, or else the next hours, so many."""

app = cyclopts.App(
    name="cx",
    help="An exchange for compute: buy, sell and follow GPU time; run an exchange.",
    help_format="markdown",
)
accounts = cyclopts.App(name="accounts", help="Parties: for the exchange's own people.")
keys = cyclopts.App(name="keys", help="API keys of your account.")
app.command(accounts)
app.command(keys)
ssh_keys = cyclopts.App(name="ssh", help="SSH public keys, which the machines that you buy let in.")
keys.command(ssh_keys)


ClassOption = Annotated[str | None, Parameter(name="--class")]


# Trading


@app.command
def buy(
    class_: Annotated[str, Parameter(name="class")],
    gpus: int,
    /,
    *,
    for_: Annotated[str, Parameter(name="--for")],
    max_: Annotated[str, Parameter(name="--max")],
    start: list[str] | None = None,
    now_only: bool = False,
    cheapest: bool = False,
    split: int | None = None,
    region: str | None = None,
    delivery: str = "container",
    interconnect: str = "none",
    confidential: bool = False,
    interruptible: bool = False,
    tif: str = "gtc",
    ssh_key: str | None = None,
    id: str | None = None,
    yes: bool = False,
    access: Access = HERE,
) -> None:
    """Bid for GPUs. Without a start it accepts now, or else the next 23 hours, the earliest first.

    Says first what would fill now, and what it costs at the most; on a terminal it asks before it places.

    Parameters
    ----------
    class_
        like H100-SXM-80GB; see `cx classes`
    gpus
        how many, all from one place unless --split
    for_
        how long, like 24h, 90m, 7d
    max_
        dollars per GPU-hour at the most, like 2.60
    start
        a moment that would do (RFC 3339, or like now+6h); may be given up to 32 times, the best first; A..B is from A
        to B every hour, or as often as 32 moments allow
    now_only
        now or never
    cheapest
        of all the starts take the cheapest, not the earliest
    split
        take them so many at a time
    region
        regions that would do, with commas, like us-east,us-west
    delivery
        the least: container, vm, bare_metal
    interconnect
        the least: none, nvlink, infiniband
    confidential
        in a trusted execution environment only
    interruptible
        capacity that may be taken back will do, too
    tif
        gtc (stands until filled), ioc (what fills now), fok (all now or nothing)
    ssh_key
        one of your SSH keys (cx keys ssh), by name: the supplier lets it in
    id
        your own name for the order, without a slash: with it, sending it again is safe
    yes
        do not ask
    """
    starts = starts_of(start) if start else ["now"] + [f"now+{hours}h" for hours in range(1, HOURS_AHEAD + 1)]
    terms: dict[str, Any] = {
        "starts": ["now"] if now_only else starts,
        "prefer": "price" if cheapest else "start",
        "time_in_force": tif,
        "accepts": Accepts(
            regions=region.split(",") if region else [],
            delivery=delivery,
            interconnect=interconnect,
            confidential=confidential,
            interruptible=interruptible,
        ),
        "ssh_key": ssh_key,
    }

    async def call(exchange: Exchange) -> None:
        bid = {"duration": for_, "min_fill": split or gpus, **terms, **_named(id)}
        if not access.for_programs:
            previewed = exchange.preview_bid(class_, gpus, max_, **bid)
            await _say_before(previewed, access, yes=yes, may_be_there=id is not None)
        show_order(await exchange.bid(class_, gpus, max_, **bid), access)

    run(call, access)


@app.command
def sell(
    class_: Annotated[str, Parameter(name="class")],
    gpus: int,
    /,
    *,
    price: str,
    for_: Annotated[str | None, Parameter(name="--for")] = None,
    start: str = "now",
    end: str | None = None,
    region: str = "unspecified",
    delivery: str = "vm",
    interconnect: str = "none",
    confidential: bool = False,
    interruptible: bool = False,
    notice: int = 0,
    min_duration: str = "1h",
    lot: int = 1,
    tif: str = "gtc",
    id: str | None = None,
    access: Access = HERE,
) -> None:
    """Offer capacity at one place.

    Parameters
    ----------
    class_
        like H100-SXM-80GB; see `cx classes`
    gpus
        how many
    price
        dollars per GPU-hour at the least, like 2.50
    for_
        how long from now, like 30d; or say --end
    start
        from when (RFC 3339, or like now+6h)
    end
        until when
    region
        where, like us-east
    delivery
        container, vm or bare_metal
    interconnect
        none, nvlink or infiniband
    confidential
        in a trusted execution environment
    interruptible
        you may take it back, with notice
    notice
        minutes of notice
    min_duration
        the shortest lease
    lot
        a fill takes a multiple of it
    tif
        gtc (stands until it ends), ioc (what sells now)
    id
        your own name for the order, without a slash: with it, sending it again is safe
    """
    if (for_ is None) == (end is None):
        fail("say how long: --for 30d, or --end 2026-12-31T00:00:00Z", USAGE)
    terms: dict[str, Any] = {
        "start": start,
        "region": region,
        "delivery": delivery,
        "interconnect": interconnect,
        "confidential": confidential,
        "tier": "interruptible" if interruptible else "guaranteed",
        "notice_minutes": notice,
        "min_duration": min_duration,
        "lot": lot,
        "time_in_force": tif,
    }

    async def call(exchange: Exchange) -> None:
        order = await exchange.ask(class_, gpus, price, end=end or f"now+{for_}", **terms, **_named(id))
        show_order(order, access)

    run(call, access)


@app.command
def why(order_id: str, /, access: Access = HERE) -> None:
    """What stands in the way of an order: how many cannot trade with it, why, and what comes nearest."""

    async def call(exchange: Exchange) -> None:
        found = await exchange.why(order_id)
        nowhere = f"{found.order_id} is {found.status}: it is not in the book"
        say(nowhere if found.why is None else found.why.text, found, access)

    run(call, access)


@app.command
def amend(
    order_id: str,
    /,
    *,
    gpus: int | None = None,
    price: str | None = None,
    for_: Annotated[str | None, Parameter(name="--for")] = None,
    start: list[str] | None = None,
    end: str | None = None,
    split: int | None = None,
    min_duration: str | None = None,
    lot: int | None = None,
    tif: str | None = None,
    expire: str | None = None,
    id: str | None = None,
    access: Access = HERE,
) -> None:
    """Give an open order new terms. What is not said stays; fewer GPUs alone keep its place in the queue.

    Parameters
    ----------
    gpus
        in all, those included that it has traded; no more than those ends it
    price
        dollars per GPU-hour: of a bid at the most, of an ask at the least
    for_
        of a bid: how long, like 24h
    start
        from when (RFC 3339, or like now+6h); of a bid up to 32 times, the best first, or A..B
    end
        of an ask: until when
    split
        of a bid: take them so many at a time
    min_duration
        of an ask: the shortest lease
    lot
        of an ask: a fill takes a multiple of it
    tif
        gtc, or gtd with --expire
    expire
        when it leaves
    id
        your own name for this amend: with it, sending it again is safe
    """
    starts = starts_of(start or [])
    terms = {
        "quantity": gpus,
        "price": price,
        "duration": for_,
        "start": starts[0] if len(starts) == 1 else None,
        "starts": starts if len(starts) > 1 else None,
        "end": end,
        "min_fill": split,
        "min_duration": min_duration,
        "lot": lot,
        "time_in_force": tif,
        "expire_at": expire,
        "amend_id": id,
    }
    stated = {name: term for name, term in terms.items() if term is not None}
    if not stated.keys() - {"amend_id"}:
        fail("say what is to change: see cx amend --help", USAGE)

    async def call(exchange: Exchange) -> None:
        show_order(await exchange.amend(order_id, **stated), access)

    run(call, access)


@app.command
def cancel(
    order_id: str | None = None,
    /,
    *,
    id: str | None = None,
    all: bool = False,
    class_: ClassOption = None,
    access: Access = HERE,
) -> None:
    """End what is unsold of an order, or of all; leases stay.

    Parameters
    ----------
    id
        your own name for the order, instead of its id
    all
        all your open orders
    class_
        with --all, in this class alone
    """
    if (order_id is not None) + (id is not None) + all != 1:
        fail("say which: an order's id, --id with your own name for it, or --all", USAGE)
    if class_ is not None and not all:
        fail("--class goes with --all", USAGE)

    async def call(exchange: Exchange) -> None:
        if all:
            show_one(await exchange.cancel_all(class_), access)
        elif id is not None:
            show_order(await exchange.cancel_named(id), access)
        else:
            show_order(await exchange.cancel(order_id or ""), access)

    run(call, access)


@app.command(name="dead-man")
def dead_man(
    seconds: int | None = None, /, *, until: str | None = None, off: bool = False, access: Access = HERE
) -> None:
    """Cancel all your open orders after so many seconds, unless you say so again before.

    Parameters
    ----------
    until
        a moment (RFC 3339, or like now+6h) instead of seconds
    off
        switch it off
    """
    if (seconds is not None) + (until is not None) + off != 1:
        fail("say when: seconds, --until, or --off", USAGE)

    async def call(exchange: Exchange) -> None:
        armed = exchange.disarm_dead_man() if off else exchange.arm_dead_man(seconds=seconds, until=until)
        state = await armed
        say(f"all open orders end at {state.until}" if state.until else "off", state, access)

    run(call, access)


@app.command
def standing(*, access: Access = HERE) -> None:
    """Show whether your account is barred, what limits it has, and when its dead man's switch acts."""

    async def call(exchange: Exchange) -> None:
        show_one(await exchange.standing(), access)

    run(call, access)


@app.command
def order(order_id: str, /, *, access: Access = HERE) -> None:
    """Show an order: every term as understood, and its fills."""

    async def call(exchange: Exchange) -> None:
        show_order(await exchange.order(order_id), access)

    run(call, access)


@app.command
def orders(*, status: str | None = None, class_: ClassOption = None, limit: int = 50, access: Access = HERE) -> None:
    """List your orders, newest first.

    Parameters
    ----------
    status
        open, filled, cancelled, expired, rejected
    """

    async def call(exchange: Exchange) -> None:
        found = await exchange.orders(status=status, class_id=class_, limit=limit)
        columns = ("order", "side", "class", "GPUs", "filled", "$/GPU-h", "window", "status")
        show(found, columns, (_order_row(each) for each in found), access)

    run(call, access)


@app.command
def asks(
    *,
    all: bool = False,
    class_: ClassOption = None,
    limit: int = 50,
    access: Access = HERE,
) -> None:
    """List what you have on sale, newest first: GPUs offered and sold, where, for how much, and until when.

    Parameters
    ----------
    all
        what is no longer on sale, too
    """

    async def call(exchange: Exchange) -> None:
        found = await exchange.orders(status=None if all else "open", class_id=class_, side="ask", limit=limit)
        columns = ("ask", "class", "GPUs", "filled", "$/GPU-h", "region", "fabric", "tier", "from", "until", "status")
        show(found, columns, (_ask_row(each) for each in found if isinstance(each, Ask)), access)

    run(call, access)


# The market


@app.command
def classes(*, access: Access = HERE) -> None:
    """List what can be traded."""

    async def call(exchange: Exchange) -> None:
        found = await exchange.classes()
        rows = (
            (c.class_id, c.accelerator, str(c.memory_gb), c.form_factor, c.tick, c.reference or "", _class_state(c))
            for c in found
        )
        show(found, ("class", "accelerator", "GB", "form", "tick $", "reference $", ""), rows, access)

    run(call, access)


@app.command
def book(
    class_: Annotated[str, Parameter(name="class")],
    /,
    *,
    start: str = "now",
    for_: Annotated[str, Parameter(name="--for")] = "1h",
    levels: int = 10,
    access: Access = HERE,
) -> None:
    """Show what is for sale and what is wanted over one delivery window.

    Parameters
    ----------
    start
        of the window (RFC 3339, or like now+6h)
    for_
        its length
    levels
        prices a side
    """

    async def call(exchange: Exchange) -> None:
        found = await exchange.book(class_, start=start, duration=for_, levels=levels)
        asks = [("ask", level.price, str(level.quantity), str(level.orders)) for level in reversed(found.asks)]
        bids = [("bid", level.price, str(level.quantity), str(level.orders)) for level in found.bids]
        title = f"{found.class_id}, {found.duration} from {found.start}"
        show(found, ("side", "$/GPU-h", "GPUs", "orders"), [*asks, *bids], access, title)

    run(call, access)


@app.command
def fills(
    *,
    class_: ClassOption = None,
    follow: bool = False,
    after: str | None = None,
    limit: int = 20,
    access: Access = HERE,
) -> None:
    """Print the public stream of fills. With --json, one JSON object a line.

    Parameters
    ----------
    follow
        go on with those to come, until Ctrl-C
    after
        `start` for all there are, `end` for those to come alone; end is what --follow does by itself
    limit
        without --follow, the newest so many
    """

    async def call(exchange: Exchange) -> None:
        if access.csv:
            print(",".join(field.encode_name for field in msgspec.structs.fields(Fill)))
        if follow:
            async for fill in exchange.fills(class_id=class_, after=after or "end"):
                _line(fill, access)
        newest: deque[Fill] = deque(maxlen=limit)
        total = (await exchange.status()).fills if class_ is None else None
        with progress("reading fills", "fills") as on_read:
            read = 0
            async for fill in exchange.fills(class_id=class_, after=after or "start", follow=False):
                newest.append(fill)
                read += 1
                on_read(read, None if total is None else max(read, total))  # settlement counts a moment later
        for fill in newest:
            _line(fill, access)

    run(call, access)


@app.command
def status(*, access: Access = HERE) -> None:
    """Show how the exchange is: its clock and its figures."""

    async def call(exchange: Exchange) -> None:
        show_one(await exchange.status(), access)

    run(call, access)


@app.command
def openapi(*, access: Access = HERE) -> None:
    """Print the API's description: OpenAPI 3.1, for generators of clients. To read it, open /docs of the exchange."""

    async def call(exchange: Exchange) -> None:
        print((await exchange.openapi()).decode())

    run(call, access)


# Use and money


@app.command
def report(lease_id: str, sequence: int, gpu_ms: int, /, *, final: bool = False, access: Access = HERE) -> None:
    """As its supplier, report what a lease has used so far, in all: GPUs x milliseconds. `cx meter` does it by itself.

    Parameters
    ----------
    sequence
        1, 2, 3, ... of this lease's reports
    final
        no more will come; only after the lease's end
    """
    said = UsageReport(lease_id=lease_id, sequence=sequence, gpu_ms=gpu_ms, final=final)

    async def call(exchange: Exchange) -> None:
        (answer,) = await exchange.report_usage([said])
        if answer.error is not None:
            fail(answer.error.message, REFUSED)
        show_one(answer, access)

    run(call, access)


@app.command
def balance(*, access: Access = HERE) -> None:
    """Show your account's money."""

    async def call(exchange: Exchange) -> None:
        show_one(await exchange.balance(), access)

    run(call, access)


@app.command
def deposit(account_id: str, amount: str, /, *, reference: str, access: Access = HERE) -> None:
    """As the exchange, book money that came in from outside; the same reference again changes nothing."""

    async def call(exchange: Exchange) -> None:
        made = await exchange.deposit(account_id, amount, reference=reference)
        say(f"{amount} USD are in for {account_id}", made, access)

    run(call, access)


# Accounts and keys


@accounts.command(name="create")
def create_account(
    name: str, /, *, scopes: str = "read,trade", owner: str | None = None, access: Access = HERE
) -> None:
    """Open an account and print its first key, which is shown this once.

    Parameters
    ----------
    scopes
        of the key, with commas: read, trade, supply, meter, withdraw, audit, admin
    owner
        whose sub-account it is, like acc_3: its orders and its owner's do not trade with each other
    """

    async def call(exchange: Exchange) -> None:
        show_one(await exchange.create_account(name, scopes=scopes.split(","), owner=owner), access)

    run(call, access)


@accounts.command(name="list")
def list_accounts(*, limit: int = 50, access: Access = HERE) -> None:
    """List all accounts."""

    async def call(exchange: Exchange) -> None:
        found = await exchange.accounts(limit=limit)
        show(found, ("account", "name", "created"), ((a.account_id, a.name, a.created_at) for a in found), access)

    run(call, access)


@keys.command(name="create")
def create_key(
    *,
    scopes: str,
    label: str = "",
    team: str | None = None,
    user: str | None = None,
    pool: str | None = None,
    expires: str | None = None,
    public_key: ExistingFile | None = None,
    from_: Annotated[list[str] | None, Parameter(name="--from")] = None,
    account: str = "me",
    access: Access = HERE,
) -> None:
    """Make a key and print its secret, which is shown this once; or with a public key, its key_id.

    Parameters
    ----------
    scopes
        with commas: read, trade, supply, meter, withdraw, audit, admin; no more than your own key has
    team
        that spends with it; its caps are met by all that the key orders
    user
        likewise, alone or with a team
    pool
        of machine users, instead of team and user
    expires
        after so long, like 90d, or at a moment (RFC 3339); without it, never
    public_key
        file of an Ed25519 public key, as ssh-keygen makes it, instead of a secret: see CX_SIGNING_KEY
    from_
        an address or a network, like 10.0.0.0/8, from where alone it is taken; may be given up to 32 times
    """
    spender = {"team": team, "user": user, "pool": pool}
    line = public_key.read_text() if public_key else None

    async def call(exchange: Exchange) -> None:
        key = await exchange.create_key(
            scopes.split(","),
            label=label,
            account_id=account,
            expires_at=_from_now(expires),
            addresses=from_ or [],
            public_key=line,
            **spender,
        )
        show_one(key, access)

    run(call, access)


@keys.command(name="rotate")
def rotate_key(
    key_id: int,
    /,
    *,
    overlap: str = "24h",
    expires: str | None = None,
    public_key: ExistingFile | None = None,
    account: str = "me",
    access: Access = HERE,
) -> None:
    """Make a new secret for a key and print it, which is shown this once. The old one is good for a while.

    Parameters
    ----------
    overlap
        how long both are taken, like 24h, at most 30d; 0m ends the old one now
    expires
        after so long, like 90d, or at a moment (RFC 3339); without it, when the old one would have
    public_key
        file of the new public key, instead of a secret
    """
    line = public_key.read_text() if public_key else None

    async def call(exchange: Exchange) -> None:
        made = await exchange.rotate_key(
            key_id, overlap=overlap, expires_at=_from_now(expires), public_key=line, account_id=account
        )
        show_one(made, access)

    run(call, access)


@keys.command(name="list")
def list_keys(*, account: str = "me", limit: int = 100, access: Access = HERE) -> None:
    """List your keys, the oldest first and without their secrets; those too that have ended."""

    async def call(exchange: Exchange) -> None:
        found = await exchange.keys(account_id=account, limit=limit)
        rows = (
            (
                str(k.key_id),
                k.prefix,
                k.label,
                ",".join(k.scopes),
                " ".join(name for name in (k.team, k.user, k.pool) if name),
                " ".join(k.addresses),
                "revoked" if k.revoked else k.expires_at or "",
            )
            for k in found
        )
        show(found, ("key", "prefix", "label", "scopes", "for", "from", "until"), rows, access)

    run(call, access)


@keys.command(name="revoke")
def revoke_key(key_id: int, /, *, account: str = "me", access: Access = HERE) -> None:
    """Revoke a key."""

    async def call(exchange: Exchange) -> None:
        await exchange.revoke_key(key_id, account_id=account)
        say(f"key {key_id} is revoked", {"key_id": key_id, "revoked": True}, access)

    run(call, access)


@ssh_keys.command(name="add")
def add_ssh_key(name: str, public_key: ExistingFile, /, *, access: Access = HERE) -> None:
    """Keep an SSH public key, for bids to name it.

    Parameters
    ----------
    name
        your own name for it; a key that has that name already makes place
    public_key
        its file, like ~/.ssh/id_ed25519.pub
    """
    line = public_key.read_text()

    async def call(exchange: Exchange) -> None:
        show_one(await exchange.add_ssh_key(name, line), access)

    run(call, access)


@ssh_keys.command(name="list")
def list_ssh_keys(*, access: Access = HERE) -> None:
    """List your SSH public keys."""

    async def call(exchange: Exchange) -> None:
        found = await exchange.ssh_keys()
        show(found, ("name", "fingerprint", "since"), ((k.name, k.fingerprint, k.created_at) for k in found), access)

    run(call, access)


@ssh_keys.command(name="remove")
def remove_ssh_key(name: str, /, *, access: Access = HERE) -> None:
    """Forget an SSH public key: no bid can name it any more. Leases keep what they had."""

    async def call(exchange: Exchange) -> None:
        await exchange.remove_ssh_key(name)
        say(f"the SSH key {name} is removed", {"name": name, "removed": True}, access)

    run(call, access)


# How it shows


def starts_of(said: Sequence[str]) -> list[str]:
    """Moments as they are, and those that A..B stands for."""
    found: list[str] = []
    for each in said:
        first, dots, last = each.partition("..")
        found += _between(each, first, last) if dots else [each]
    return found


def _between(text: str, first: str, last: str) -> list[str]:
    from_now = first.startswith("now")
    try:
        if from_now != last.startswith("now"):
            raise ValueError("both must be from now on, or neither")
        parse = _after_now if from_now else parse_time
        begin, end = parse(first), parse(last)
        if begin > end:
            raise ValueError(f"{first} is after {last}")
    except ValueError as error:
        fail(f"--start {text}: {error}", USAGE)
    step = max(HOUR_MS, -(-(end - begin) // (MAX_STARTS - 1) // MINUTE_MS) * MINUTE_MS)
    moments = range(begin, end + 1, step)
    return [f"now+{at // MINUTE_MS}m" for at in moments] if from_now else [format_time(at) for at in moments]


def _after_now(text: str) -> int:
    """now+6h -> ms"""
    return 0 if text == "now" else parse_duration(text.removeprefix("now+"))


def _from_now(text: str | None) -> str | None:
    """A moment of the API's: a length of time is from now on."""
    return text if text is None or "T" in text else f"now+{text}"


async def _say_before(seeing: Awaitable[Preview], access: Access, *, yes: bool, may_be_there: bool) -> None:
    """What an order would do; on a terminal a person says whether it may. One that `may_be_there` already is shown as
    it is now, though it would be refused if it were new."""
    try:
        seen = await seeing
    except ExchangeError:
        if may_be_there:
            return
        raise
    print(*(timed(line, access) for line in preview.lines(seen)), sep="\n", file=sys.stderr)
    if not yes and not _agreed("place it?"):
        fail("not placed", REFUSED)


def _agreed(question: str) -> bool:
    """What a person says; where nobody is there to ask, yes."""
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        return True
    return input(f"{question} [y/N] ").strip().lower() in ("y", "yes")


def _named(client_order_id: str | None) -> dict[str, Any]:
    return {} if client_order_id is None else {"client_order_id": client_order_id}


def _line(fill: Fill, access: Access) -> None:
    if access.json:
        print_json(fill)
    elif access.csv:
        print_row(msgspec.to_builtins(fill).values())
    else:
        what = f"{fill.class_id:<20} #{fill.number:<6} {fill.quantity:>4} x {fill.price:>9}  {fill.start} to {fill.end}"
        print(timed(f"{fill.time}  {what}", access), flush=True)


def _order_row(order: Bid | Ask) -> Sequence[str]:
    if isinstance(order, Bid):
        side, window = "bid", f"{order.duration} from {order.starts[0]}"
    else:
        side, window = "ask", f"{order.start} to {order.end}"
    quantities = str(order.quantity), str(order.filled)
    return order.order_id or "", side, order.class_id, *quantities, order.price, window, order.status


def _ask_row(ask: Ask) -> Sequence[str]:
    quantities = str(ask.quantity), str(ask.filled)
    window = ask.start, ask.end
    return (
        *(ask.order_id or "", ask.class_id, *quantities, ask.price),
        *(ask.region, ask.interconnect, ask.tier, *window, ask.status),
    )


def _class_state(found: Class) -> str:
    if found.retired:
        return "retired"
    return "" if found.halt == "none" else f"halted ({found.halt})"
