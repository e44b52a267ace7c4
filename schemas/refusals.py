"""Why something was refused: a code for programs, a field, and a sentence that a person can act on.

A refusal on the log carries the code and its arguments as plain values; the sentence is made here, so that
better wording never changes a byte of history.
"""

import string
from collections.abc import Callable
from enum import StrEnum
from typing import Any, NamedTuple

from schemas.units import format_duration, format_time, format_usd

Args = tuple[int | str, ...]


class Refusal(StrEnum):
    """Codes of refusal by the engine and by settlement."""

    # by the engine
    UNREADABLE = "unreadable"
    STALE = "stale"
    UNKNOWN_CLASS = "unknown_class"
    CLASS_EXISTS = "class_exists"
    CLASS_INVALID = "class_invalid"
    CLIENT_ORDER_ID_INVALID = "client_order_id_invalid"
    PRICE_OUT_OF_RANGE = "price_out_of_range"
    PRICE_OFF_TICK = "price_off_tick"
    QUANTITY_OUT_OF_RANGE = "quantity_out_of_range"
    QUANTITY_OFF_LOT = "quantity_off_lot"
    LOT_OUT_OF_RANGE = "lot_out_of_range"
    MIN_FILL_OUT_OF_RANGE = "min_fill_out_of_range"
    MIN_DURATION_OUT_OF_RANGE = "min_duration_out_of_range"
    DURATION_OUT_OF_RANGE = "duration_out_of_range"
    START_COUNT_OUT_OF_RANGE = "start_count_out_of_range"
    TIME_OUT_OF_RANGE = "time_out_of_range"
    WINDOW_OFF_GRID = "window_off_grid"
    WINDOW_EMPTY = "window_empty"
    WINDOW_PAST = "window_past"
    EXPIRY_PAST = "expiry_past"
    EXPIRY_NOT_ALLOWED = "expiry_not_allowed"
    FOK_ASK = "fok_ask"
    MARKET_RESTS = "market_rests"
    POST_ONLY_TAKES = "post_only_takes"
    WOULD_TRADE = "would_trade"
    FEE_OUT_OF_RANGE = "fee_out_of_range"
    ACCEPTS_INVALID = "accepts_invalid"
    UNKNOWN_ORDER = "unknown_order"
    UNKNOWN_ACCOUNT = "unknown_account"
    ATTRIBUTES_INVALID = "attributes_invalid"
    NO_REFERENCE = "no_reference"
    PRICE_OUTSIDE_BAND = "price_outside_band"
    DISPLAY_OUT_OF_RANGE = "display_out_of_range"
    CLASS_RETIRED = "class_retired"
    CLASS_FIXED = "class_fixed"
    HALTED = "halted"
    KILLED = "killed"
    TOO_MANY_ORDERS = "too_many_orders"
    TOO_MUCH_NOTIONAL = "too_much_notional"
    QUANTITY_ABOVE_LIMIT = "quantity_above_limit"
    AMEND_INVALID = "amend_invalid"
    RETURN_INVALID = "return_invalid"
    ALREADY_RETURNED = "already_returned"
    LIMITS_INVALID = "limits_invalid"
    RULES_INVALID = "rules_invalid"
    # by settlement
    AMOUNT_OUT_OF_RANGE = "amount_out_of_range"
    CREDITS_OUT_OF_RANGE = "credits_out_of_range"
    REFERENCE_REUSED = "reference_reused"
    UNKNOWN_LEASE = "unknown_lease"
    LEASE_STATE = "lease_state"
    SEQUENCE_OUT_OF_RANGE = "sequence_out_of_range"
    USAGE_CONFLICT = "usage_conflict"
    USAGE_BACKWARDS = "usage_backwards"
    USAGE_ABOVE_ALLOCATED = "usage_above_allocated"
    USAGE_NOT_YET_FINAL = "usage_not_yet_final"
    LEASE_GUARANTEED = "lease_guaranteed"
    RECLAIM_TOO_LATE = "reclaim_too_late"
    GPUS_OUT_OF_RANGE = "gpus_out_of_range"
    TOO_MANY_DEGRADATIONS = "too_many_degradations"
    INSUFFICIENT_FUNDS = "insufficient_funds"
    CORRECTION_OUT_OF_RANGE = "correction_out_of_range"
    CORRECTION_UPWARDS = "correction_upwards"
    CORRECTION_UNCOVERED = "correction_uncovered"
    TOO_MANY_CORRECTIONS = "too_many_corrections"
    UNKNOWN_WITHDRAWAL = "unknown_withdrawal"
    WITHDRAWAL_STATE = "withdrawal_state"
    CREDIT_IN_USE = "credit_in_use"
    USAGE_NOT_LAST = "usage_not_last"
    GPU_NAMES_INVALID = "gpu_names_invalid"
    GPU_IN_USE = "gpu_in_use"
    RENEWAL_INVALID = "renewal_invalid"
    # by gateways
    UNKNOWN_SSH_KEY = "unknown_ssh_key"


class Wording(NamedTuple):
    """The field of the request that the refusal is about ('' for the whole) and the sentence's template."""

    field: str
    template: str


WORDINGS: dict[Refusal, Wording] = {
    Refusal.UNREADABLE: Wording("", "the record is not a command: {0}"),
    Refusal.STALE: Wording(
        "not_after", "the command reached the log at {0:time}, after its not_after {1:time}: send it again"
    ),
    Refusal.UNKNOWN_CLASS: Wording("class", "there is no class {0}: see the list of classes"),
    Refusal.CLASS_EXISTS: Wording("class", "the class {0} exists already"),
    Refusal.CLASS_INVALID: Wording("class", "the class's {0} is {1}: it must be {2}"),
    Refusal.CLIENT_ORDER_ID_INVALID: Wording(
        "client_order_id", "client_order_id must be 1 to 64 printable ASCII characters"
    ),
    Refusal.PRICE_OUT_OF_RANGE: Wording("price", "price {0:usd} is out of range: {2} takes {3:usd} to {1:usd}"),
    Refusal.PRICE_OFF_TICK: Wording("price", "price {0:usd} is not a multiple of the tick {1:usd} of {2}"),
    Refusal.QUANTITY_OUT_OF_RANGE: Wording(
        "quantity", "quantity {0} is out of range: {2} takes 1 to {1} GPUs an order"
    ),
    Refusal.QUANTITY_OFF_LOT: Wording("quantity", "quantity {0} is not a multiple of the lot {1}"),
    Refusal.LOT_OUT_OF_RANGE: Wording("lot", "lot {0} is out of range: it must be 1 to {1}, the quantity"),
    Refusal.MIN_FILL_OUT_OF_RANGE: Wording(
        "min_fill", "min_fill {0} is out of range: it must be 1 to {1}, the quantity"
    ),
    Refusal.MIN_DURATION_OUT_OF_RANGE: Wording(
        "min_duration",
        "min_duration {0:duration} is out of range: it must be whole minutes, 1m to {1:duration}",
    ),
    Refusal.DURATION_OUT_OF_RANGE: Wording(
        "duration", "duration {0:duration} is out of range: it must be whole minutes, 1m to {1:duration}"
    ),
    Refusal.START_COUNT_OUT_OF_RANGE: Wording("starts", "{0} starts were given: state 1 to {1}, each once"),
    Refusal.TIME_OUT_OF_RANGE: Wording("{0}", "{0} {1} is not a time between 1970 and 9999"),
    Refusal.WINDOW_OFF_GRID: Wording("{0}", "{0} {1:time} is not on the grid: use whole minutes"),
    Refusal.WINDOW_EMPTY: Wording(
        "end", "the window from {0:time} to {1:time} is shorter than min_duration {2:duration}"
    ),
    Refusal.WINDOW_PAST: Wording("{0}", "{0} {1:time} is past: it is {2:time} on the exchange"),
    Refusal.EXPIRY_PAST: Wording("expire_at", "expire_at {0:time} is not after now, {1:time}"),
    Refusal.EXPIRY_NOT_ALLOWED: Wording("expire_at", "expire_at is for time in force gtd alone, and gtd needs it"),
    Refusal.FOK_ASK: Wording("time_in_force", "fok is for bids only: post the ask as gtc, gtd or ioc"),
    Refusal.MARKET_RESTS: Wording("time_in_force", "a market bid cannot rest: use ioc or fok"),
    Refusal.POST_ONLY_TAKES: Wording("post_only", "post_only contradicts ioc and fok: drop one"),
    Refusal.WOULD_TRADE: Wording("post_only", "the order would trade at once with {0}, and post_only forbids that"),
    Refusal.FEE_OUT_OF_RANGE: Wording("fee_bps", "fee {0} bps is out of range: 0 to {1}"),
    Refusal.ACCEPTS_INVALID: Wording("accepts", "accepts.{0} is not valid: {1}"),
    Refusal.ATTRIBUTES_INVALID: Wording("attributes", "attributes.{0} is not valid: {1}"),
    Refusal.UNKNOWN_ORDER: Wording("order_id", "there is no live order {0} of this account: it may have left the book"),
    Refusal.NO_REFERENCE: Wording(
        "price", "{0} has no reference price yet, so a market bid has nothing to go by: state a limit"
    ),
    Refusal.PRICE_OUTSIDE_BAND: Wording(
        "price", "price {0:usd} is outside the band of {3}: it takes {1:usd} to {2:usd} now"
    ),
    Refusal.DISPLAY_OUT_OF_RANGE: Wording(
        "display", "display {0} is out of range: it must be 1 to {1}, the quantity, or 0 for all"
    ),
    Refusal.CLASS_RETIRED: Wording("class", "the class {0} is retired: see the list of classes"),
    Refusal.CLASS_FIXED: Wording("class", "{1} says what the class {0} is, and cannot change: open another class"),
    Refusal.HALTED: Wording("class", "{0} is halted: try again when it trades"),
    Refusal.KILLED: Wording("account", "the kill switch of account {0} is on: switch it off first"),
    Refusal.TOO_MANY_ORDERS: Wording("", "the account has {0} open orders, and its limit is {1}: cancel one first"),
    Refusal.TOO_MUCH_NOTIONAL: Wording(
        "",
        "with this order the account's open orders would come to {0:usd} dollars, and its limit is {1:usd}: "
        "cancel one first, or ask for less",
    ),
    Refusal.QUANTITY_ABOVE_LIMIT: Wording(
        "quantity", "quantity {0} is above the account's limit of {1} an order: split it"
    ),
    Refusal.AMEND_INVALID: Wording("{0}", "{0} cannot be amended: {1}"),
    Refusal.RETURN_INVALID: Wording("{0}", "{0} of the returned lease is not valid: {1}"),
    Refusal.ALREADY_RETURNED: Wording("fill_id", "the lease of fill {0} was returned or withdrawn before"),
    Refusal.LIMITS_INVALID: Wording("{0}", "the limit {0} is {1}: it must be {2}"),
    Refusal.RULES_INVALID: Wording("number", "rules {0} cannot follow rules {1}"),
    Refusal.CREDITS_OUT_OF_RANGE: Wording("daily", "credits of {0:usd} a day are out of range: 0 to {1:usd}"),
    Refusal.AMOUNT_OUT_OF_RANGE: Wording(
        "amount", "amount {0:usd} is out of range: it must be above 0 and at most {1:usd}"
    ),
    Refusal.REFERENCE_REUSED: Wording("reference", "reference {0} was used before with another content"),
    Refusal.UNKNOWN_ACCOUNT: Wording("account", "there is no account {0}"),
    Refusal.UNKNOWN_LEASE: Wording("lease_id", "there is no lease {0} of this account"),
    Refusal.LEASE_STATE: Wording("lease_id", "the lease {0} is {1}: this needs it to be {2}"),
    Refusal.SEQUENCE_OUT_OF_RANGE: Wording(
        "sequence", "sequence {0} is out of range: a lease's reports are numbered 1 to {1}"
    ),
    Refusal.USAGE_CONFLICT: Wording("sequence", "usage {0} of this lease was reported before with another content"),
    Refusal.USAGE_BACKWARDS: Wording(
        "gpu_ms", "usage {0} reports {1} gpu_ms in all, which does not fit between its neighbours {2} and {3}"
    ),
    Refusal.USAGE_ABOVE_ALLOCATED: Wording(
        "gpu_ms", "usage {0} reports {1} gpu_ms, but the lease allocated at most {2} up to {3:time}"
    ),
    Refusal.USAGE_NOT_YET_FINAL: Wording("final", "the lease runs until {0:time}: usage can be final only after that"),
    Refusal.USAGE_NOT_LAST: Wording(
        "sequence", "usage {0} says that it is the last, but usage {1} of this lease was reported: number it higher"
    ),
    Refusal.LEASE_GUARANTEED: Wording(
        "lease_id", "the lease {0} is guaranteed: only one that was sold as interruptible can be reclaimed"
    ),
    Refusal.RECLAIM_TOO_LATE: Wording(
        "lease_id",
        "the lease {0} cannot be reclaimed: its notice of {1:duration} is over at {2:time}, and it {3} before",
    ),
    Refusal.GPUS_OUT_OF_RANGE: Wording("gpus", "{0} GPUs are out of range: the lease {2} has 1 to {1}"),
    Refusal.TOO_MANY_DEGRADATIONS: Wording(
        "lease_id", "the lease {0} was degraded {1} times, which is the most that is kept: agree on its end"
    ),
    Refusal.INSUFFICIENT_FUNDS: Wording(
        "amount", "the withdrawal {0} needs {1:usd}, but of the account's {3} {2:usd} is free: withdraw less"
    ),
    Refusal.CREDIT_IN_USE: Wording(
        "credit", "a credit of {1:usd} is too little: account {0} owes or holds {2:usd} of it now, so say that or more"
    ),
    Refusal.CORRECTION_OUT_OF_RANGE: Wording(
        "gpu_ms", "gpu_ms {0} is out of range: the lease {1} can have used 0 to {2} in all"
    ),
    Refusal.CORRECTION_UPWARDS: Wording(
        "gpu_ms", "gpu_ms {0} is more than the {2} that the lease {1} used: a supplier can only correct downwards"
    ),
    Refusal.CORRECTION_UNCOVERED: Wording(
        "", "the correction of {0} takes {1:usd} out of the {2}, where {3:usd} is free: correct it by less, or later"
    ),
    Refusal.TOO_MANY_CORRECTIONS: Wording(
        "lease_id", "the lease {0} was corrected {1} times, which is the most that is kept"
    ),
    Refusal.UNKNOWN_WITHDRAWAL: Wording("reference", "there is no withdrawal {0} of this account"),
    Refusal.WITHDRAWAL_STATE: Wording(
        "state", "the withdrawal {0} is {1} for good: what came of it since is a deposit, or a new withdrawal"
    ),
    Refusal.GPU_NAMES_INVALID: Wording(
        "gpus",
        "{0} GPUs are named, {1} different ones: name all {2} of the lease, up to {3}, each once and in 1 to {4} "
        "printable ASCII characters, or none",
    ),
    Refusal.GPU_IN_USE: Wording("gpus", "the GPU {0} is bound to the lease {1} until {2:time}: name another"),
    Refusal.UNKNOWN_SSH_KEY: Wording(
        "ssh_key", "there is no SSH key {0} of this account: add it first (cx keys ssh add)"
    ),
    Refusal.RENEWAL_INVALID: Wording("{0}", "{0} of the renewal is not valid: {1}"),
}


class _Formatter(string.Formatter):
    """Adds the formats usd, time and duration; falls back to the plain number where one is out of their range."""

    def format_field(self, value: Any, format_spec: str) -> str:
        formats: dict[str, Callable[[int], str]] = {"usd": format_usd, "time": format_time, "duration": format_duration}
        if format_spec in formats:
            try:
                return formats[format_spec](value)
            except ValueError:
                return str(value)
        return str(value)


_formatter = _Formatter()


def sentence(code: Refusal, args: Args) -> str:
    """The refusal as a sentence that names the thing, the value and what to do.

    >>> sentence(Refusal.PRICE_OFF_TICK, (2_499_950, 100, "H100-SXM-80GB"))
    'price 2.49995 is not a multiple of the tick 0.0001 of H100-SXM-80GB'
    """
    return _formatter.vformat(WORDINGS[code].template, args, {})


def field(code: Refusal, args: Args) -> str:
    """The request's field that the refusal is about; '' for the request as a whole."""
    return _formatter.vformat(WORDINGS[code].field, args, {})
