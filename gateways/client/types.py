"""What the API's answers hold: money and prices are decimal strings of dollars, times RFC 3339 in UTC.

A field that a newer exchange adds is skipped, so an older client goes on working.
"""

from msgspec import Struct


class Resource(Struct, rename={"class_id": "class"}):
    """What all answers have in common."""


class Fee(Resource):
    """What accounts of a tier pay from `since` on, in basis points."""

    tier: str
    since: str
    buyer_fee_bps: int
    seller_fee_bps: int


class Account(Resource):
    """A party; `key` is the secret of its first key, in the answer that created it alone."""

    account_id: str
    name: str
    owner: str
    buyer_fee_bps: int
    """In force now."""
    seller_fee_bps: int
    created_at: str
    key: str | None = None
    tier: str | None = None
    coming_fees: list[Fee] = []
    """Of its tier, and from when on."""


class Key(Resource):
    """An API key; `key` is its secret, in the answer that created it alone."""

    key_id: int
    prefix: str
    label: str
    scopes: list[str]
    created_at: str
    revoked: bool
    key: str | None = None
    team: str | None = None
    """Who spends with it, like the next two."""
    user: str | None = None
    pool: str | None = None
    expires_at: str | None = None
    """It is not taken from then on; None: it never ends."""
    addresses: list[str] = []
    """From where alone it is taken; none: from anywhere."""
    public_key: str | None = None
    """None: it has a secret."""


class Caps(Resource):
    """What a team, user or pool may cost at most, by UTC day and month, and does; `kind` says which of the three."""

    kind: str
    name: str
    day: str | None
    """None: no cap."""
    month: str | None
    spent_today: str
    spent_this_month: str
    committed: str


class DailyCredits(Resource):
    """An account's daily credits: charges take from them first, and what is left lapses with the UTC day."""

    account_id: str
    daily: str
    granted: str
    remaining: str
    lapse_at: str | None


class Spend(Resource):
    """What one team, user, pool or class was charged; name None is what none of them ordered."""

    name: str | None
    charged: str
    committed: str | None


class Deposit(Resource):
    """Money that is in."""

    account_id: str
    amount: str
    reference: str
    made_at: str | None = None
    """In lists alone."""


class Withdrawal(Resource):
    """Money that goes out: requested, sent, settled, or failed for a `reason` and back."""

    account_id: str
    reference: str
    amount: str
    destination: str
    source: str
    state: str
    provider_reference: str
    reason: str
    requested_at: str
    sent_at: str | None
    ended_at: str | None


class Entry(Resource):
    """What one transaction did to one of the account's ledger accounts, and the balance of that after it."""

    time: str
    reference: str
    ledger_account: str
    amount: str
    balance: str


class Balance(Resource):
    """An account's money: free, held for bids, in escrow for leases, earned, withdrawn and not out yet."""

    account_id: str
    cash: str
    held: str
    escrow: str
    receivable: str
    outgoing: str = "0.00"
    credit: str = "0.00"
    """How far cash may go below 0."""
    daily_credits: str = "0.00"
    """Of today, not spent yet."""


class Class(Resource):
    """A contract that trades."""

    class_id: str
    accelerator: str
    memory_gb: int
    form_factor: str
    tick: str
    max_price: str
    max_quantity: int
    delivery_due: str
    acceptance: str
    grace: str
    band_bps: int = 0
    reference: str | None = None
    halt: str = "none"
    """none, no_new, full."""
    retired: bool = False
    refund_bps: int = 10_000
    """What goes back of the unused rest of a lease that its buyer ends early, in basis points."""
    sla: list["SlaStep"] = []
    """What goes back of a lease's cost by its uptime."""
    reclaim_credit_bps: int = 0
    """What goes back, of what the rest of a lease that its supplier reclaims would have cost, in basis points."""


class SlaStep(Resource):
    """A lease whose uptime is below `below_bps` gets `credit_bps` of its cost back."""

    below_bps: int
    credit_bps: int


class Reference(Resource):
    """A class's reference price, and its band: orders from `low` to `high` are taken."""

    class_id: str
    price: str
    low: str
    high: str


class ClassHalt(Resource):
    """What of a class is halted: none, no_new, full."""

    class_id: str
    mode: str


class Kill(Resource):
    """Whether an account's kill switch is on."""

    account_id: str
    on: bool


class Limits(Resource):
    """What an account may have at most, in each partition for itself; 0 is no limit."""

    account_id: str
    open_orders: int
    notional: str
    quantity: int


class Standing(Resource):
    """What holds for an account: `killed`, all that it sends is refused; its limits, of which 0 is none; and when its
    dead man's switch acts, if it is on."""

    account_id: str
    killed: bool
    open_orders: int
    notional: str
    quantity: int
    dead_man_until: str | None


class BookLevel(Resource):
    """All orders of one side at one price."""

    price: str
    quantity: int
    orders: int


class Book(Resource):
    """A class's book for one delivery window, best prices first, true for the log up to `position`."""

    class_id: str
    position: str | None
    time: str
    start: str
    duration: str
    asks: list[BookLevel]
    bids: list[BookLevel]


class Offer(Resource):
    """All asks of one price that are alike in all else that a buyer chooses by.

    `quantity` is unsold over the whole window, over all of them; `most` comes from one place.
    """

    price: str
    region: str
    delivery: str
    interconnect: str
    confidential: bool
    tier: str
    notice_minutes: int
    lot: int
    quantity: int
    most: int
    asks: int


class Offers(Resource):
    """What of a class is for sale over one delivery window, by where and how, cheapest first."""

    class_id: str
    position: str | None
    time: str
    start: str
    duration: str
    offers: list[Offer]


class Depth(Resource):
    """A class's book for windows of one length from now on, as the stream keeps it."""

    class_id: str
    window: str
    position: str | None
    time: str
    start: str
    asks: list[BookLevel]
    bids: list[BookLevel]


class Candle(Resource):
    """The fills of a class in one interval."""

    start: str
    open: str
    high: str
    low: str
    close: str
    fills: int
    gpu_hours: str
    value: str


class Ticker(Resource):
    """What a class last traded at, and its last 24 hours; null before the first fill."""

    class_id: str
    last: str | None
    time: str | None
    number: int
    day: Candle | None


class Fill(Resource):
    """A trade as anyone may see it, numbered without gaps per class."""

    number: int
    class_id: str
    fill_id: str
    time: str
    price: str
    quantity: int
    start: str
    end: str
    region: str
    interconnect: str
    confidential: bool
    tier: str
    delivery: str
    taker: str


class Status(Resource):
    """How the exchange is: its clock, its log, its figures."""

    time: str
    speed: int
    position: list[str | None]
    settlement_lag: int
    orders: int
    fills: int
    leases_open: int
    leases_closed: int
    gpu_hours: str
    charged: str
    escrow: str
    held: str
    imbalance_microusd: int


class OrderFill(Resource):
    """A trade of an own order."""

    fill_id: str
    lease_id: str
    price: str
    quantity: int
    start: str
    end: str


class Refusal(Resource):
    """Why the exchange refused."""

    code: str
    message: str
    field: str


class Accepts(Resource):
    """What a bid accepts."""

    regions: list[str] = []
    delivery: str = "container"
    interconnect: str = "none"
    confidential: bool = False
    interruptible: bool = False
    only_suppliers: list[str] = []
    not_suppliers: list[str] = []


class OrderState(Resource):
    """Where an order stands. `status`: sent, open, filled, cancelled, expired, rejected, lost."""

    order_id: str | None
    client_order_id: str
    class_id: str
    status: str
    quantity: int
    filled: int
    left: int
    price: str
    held: str
    reason: str
    refusal: Refusal | None
    created_at: str
    fills: list[OrderFill] | None
    """None in lists."""
    time_in_force: str
    expire_at: str | None
    post_only: bool
    self_trade: str
    not_after: str
    fee_bps: int


class Bid(OrderState, tag_field="side", tag="bid"):
    """A bid as the exchange understood it."""

    duration: str
    starts: list[str]
    min_fill: int
    accepts: Accepts
    prefer: str
    team: str | None = None
    """Who placed it, like the next two: of its key."""
    user: str | None = None
    pool: str | None = None
    ssh_key: str | None = None
    """The SSH public key that it named, as it was then."""
    extends: str | None = None
    """The lease that it makes longer."""


class Ask(OrderState, tag_field="side", tag="ask"):
    """An ask as the exchange understood it."""

    start: str
    end: str
    region: str
    delivery: str
    interconnect: str
    confidential: bool
    tier: str
    notice_minutes: int
    min_duration: str
    lot: int
    display: int = 0
    team: str | None = None
    """Who placed it, like the next two: of its key."""
    user: str | None = None
    pool: str | None = None


Order = Bid | Ask


class Excluded(Resource):
    """Orders of the other side that one reason keeps from trading."""

    reason: str
    count: int
    price: str | None
    """The best of them."""
    nearest: str | None
    """How near one comes, by the reason: a region, a duration, a number of GPUs, a time, an order's id."""


class Obstacles(Resource):
    """What stands in the way of an order."""

    looked: int
    complete: bool
    halted: bool
    suit: int
    excluded: list[Excluded]
    text: str
    """All of it in one sentence."""


class Why(Resource):
    """Why an order does not trade."""

    order_id: str
    status: str
    position: str | None
    time: str
    why: Obstacles | None
    """None: the order is not in the book."""


class PreviewFill(Resource):
    """A trade that would happen now."""

    price: str
    quantity: int
    start: str
    end: str
    region: str
    delivery: str
    interconnect: str
    confidential: bool
    tier: str
    notice_minutes: int


class Preview(Resource):
    """What an order would do if it came now; nothing is placed."""

    class_id: str
    position: str | None
    time: str
    fills: list[PreviewFill]
    filled: int
    left: int
    status: str
    """open, filled or cancelled."""
    reason: str
    until: str | None
    """The last moment at which what is left would stand."""
    cancels: list[str]
    """Own orders that it would cancel instead of trading with them."""
    cost: str
    fee: str
    held: str
    most: str
    """What it can cost in all."""
    needed: str
    """What has to be free when it is placed."""
    short: str
    """Of that, what the account lacks now."""
    why: Obstacles
    """What stands in its way before it comes."""


class AllCancelled(Resource):
    """How many orders a cancel of all ended; in every class where `class_id` is None."""

    class_id: str | None
    orders: int


class DeadMan(Resource):
    """When all open orders are cancelled unless that is put off; None: never."""

    until: str | None


class Degradation(Resource):
    """For so long so many of a lease's GPUs did not work, as its supplier said; `until` None: still."""

    since: str
    until: str | None
    gpus: int
    note: str


class Renewal(Resource):
    """How a lease goes on by itself, an hour before it ends; `sent`: it was extended, or could not be."""

    duration: str
    max_price: str
    sent: bool


class Webhook(Resource):
    """Where the account is told what; `secret` signs it, in the answer that made it alone."""

    webhook_id: int
    url: str
    kinds: list[str]
    created_at: str
    secret: str | None = None


class Delivery(Resource):
    """An event on its way to a webhook (`waiting`), there (`delivered`), or given up (`dead`)."""

    event_id: str
    webhook_id: int
    kind: str
    happened_at: str
    state: str
    attempts: int
    status: int | None
    """Of the last answer."""
    error: str
    next_attempt_at: str | None
    done_at: str | None
    body: str
    """What is sent, byte by byte."""


class SshKey(Resource):
    """An SSH public key of the account, by its own name for it."""

    name: str
    public_key: str
    fingerprint: str
    created_at: str


class Credit(Resource):
    """What a lease's buyer got back by its class's terms, and why."""

    amount: str
    reason: str


class LeaseChange(Resource):
    """A lease as it became, for the account that reads it."""

    event: str
    """sold, bought, delivered, active, degraded, reclaiming, ended, closed; '' where it is merely so by now."""
    time: str
    role: str
    """buyer or supplier: what the account is in it."""
    lease_id: str
    order_id: str
    class_id: str
    quantity: int
    price: str
    start: str
    end: str
    state: str
    close_reason: str


class Lease(Resource):
    """Capacity that was sold, as its buyer or its supplier sees it; None is the other side's money.

    `state`: pending_delivery, delivered, active, degraded, reclaiming, ended, closed.
    """

    lease_id: str
    class_id: str
    role: str
    order_id: str
    buyer: str
    supplier: str
    price: str
    quantity: int
    start: str
    end: str
    region: str
    delivery: str
    interconnect: str
    confidential: bool
    tier: str
    notice_minutes: int
    state: str
    close_reason: str
    created_at: str
    deliver_by: str
    delivered_at: str | None
    accepted_at: str | None
    closed_at: str | None
    connection: str | None
    """How to reach the machines; None for its supplier, who said it."""
    used_gpu_ms: int
    escrow: str | None
    charged: str | None
    earned: str | None
    refund_bps: int = 10_000
    """What goes back of the unused rest when the buyer ends it early, in basis points."""
    ends_at: str | None = None
    """Where it ends before its window does."""
    forfeited_gpu_ms: int = 0
    """Of the unused rest, what is billed all the same."""
    sla: list[SlaStep] = []
    """What its class promised at the fill, like the next."""
    reclaim_credit_bps: int = 0
    credit: Credit | None = None
    """Once it is closed: what went back to its buyer."""
    uptime_bps: int | None = None
    """Once it is closed: of the time that was to be billed, what was metered and not degraded, in basis points."""
    degradations: list[Degradation] | None = None
    """Oldest first; None in lists."""
    last_sequence: int = 0
    """Of its usage reports, the highest accepted; 0: none yet."""
    team: str | None = None
    """Who ordered it, like the next two; None for its supplier."""
    user: str | None = None
    pool: str | None = None
    gpus: list[str] | None = None
    """As its supplier named them; None in lists."""
    proof: str = ""
    extended_by: str | None = None
    """The lease with which it goes on, on the same machines."""
    renewal: Renewal | None = None
    ssh_key: str | None = None
    """The SSH public key that its bid named; None in lists."""


class UsageReport(Resource):
    """What a lease has used so far, in all: GPUs × milliseconds, numbered 1, 2, 3, …"""

    lease_id: str
    sequence: int
    gpu_ms: int
    final: bool = False
    measured_at: str | None = None
    """Up to when the figure counts; None: when it arrives."""


class UsageAnswer(Resource):
    """What became of one report. `status`: accepted, refused, unknown."""

    lease_id: str
    sequence: int
    status: str
    error: Refusal | None


class Use(Resource):
    """What was used in some time, and what it comes to for the account that asks, as buyer or as supplier."""

    gpu_ms: int
    forfeited_gpu_ms: int
    cost: str
    fee: str
    amount: str


class HourUse(Use):
    """What was used in an hour of the clock in UTC, or in the part of it that was asked for."""

    since: str
    until: str


class LeaseUse(Use):
    """What was used of a lease."""

    lease_id: str
    class_id: str
    quantity: int
    start: str
    end: str
    state: str


class RefusedUsage(Resource):
    """A report that had no effect, and why; `measured_at` is as the report says."""

    lease_id: str
    sequence: int
    gpu_ms: int
    final: bool
    measured_at: str | None
    refused_at: str
    error: Refusal


class Usage(Resource):
    """An accepted report."""

    sequence: int
    gpu_ms: int
    final: bool
    reported_at: str
    measured_at: str = ""
    """Up to when the figure counts."""


class InvoiceMonth(Resource):
    """A month of the account: the invoice of what it bought or, as `role` supplier, the statement of what it sold.

    `status`: preliminary, final. `total`: to pay, or to receive.
    """

    invoice_id: str
    account_id: str
    role: str
    month: str
    number: int
    status: str
    period_start: str
    period_end: str
    line_count: int
    gpu_hours: str
    cost: str
    fees: str
    corrections: str
    credits: str
    """Of the total, what the buyer's daily credits paid."""
    total: str


class InvoiceLine(Resource):
    """What one lease came to in the month; `amount` is to pay, or to receive."""

    line: str
    kind: str
    lease_id: str
    class_id: str
    supplier: str
    supplier_name: str
    buyer: str
    region: str
    tier: str
    team: str
    user: str
    quantity: int
    price: str
    start: str
    end: str
    gpu_ms: int
    forfeited_gpu_ms: int
    gpu_hours: str
    cost: str
    fee_bps: int
    fee: str
    amount: str
    note_id: str
    """Of a correction, whose figures are differences; else ''."""
    corrects: str
    reason: str


class Correction(Resource):
    """A credit note (crn_…) or debit note (dbn_…) of a lease; its figures are differences."""

    note_id: str
    lease_id: str
    invoice_id: str
    corrects: str
    reason: str
    made_at: str
    gpu_ms: int
    cost: str
    fee: str
    amount: str


class Invoice(InvoiceMonth):
    """A month with its lines."""

    lines: list[InvoiceLine]
    next: str | None = None


class AuditFinding(Resource):
    """What must not be."""

    rule: str
    what: str
    found: str
    expected: str
    age_s: int


class AuditStatus(Resource):
    """Where the audit stands that goes on all the time. `alarm`: look at the findings, or why it has stopped."""

    alarm: bool
    transaction: int
    digest: str
    """Of the ledger up to that transaction: equal ledgers have equal ones."""
    behind: int
    round_age_s: int | None
    sweep: int
    """The how manyth look at everything is under way."""
    sweep_age_s: int | None
    imbalance_microusd: int
    findings: list[AuditFinding]


class Spread(Resource):
    """A tenth, half and nine tenths of the leases have no more."""

    p10: int
    median: int
    p90: int


class SupplierRecord(Resource):
    """What became of a supplier's leases that closed in the time range; basis points and seconds."""

    account_id: str
    name: str
    since: str
    until: str
    leases: int
    delivered: int
    not_delivered: int
    delivered_on_time_bps: int | None
    delivery_s: Spread | None
    uptime_bps: Spread | None
    degraded: int
    ended_early: int
