"""How often a key, an account and an address may ask: a token bucket each, so that who asks too often is told to wait.

As GCRA (ITU-T I.371): of a bucket only the moment is kept at which it will be full again.
"""

from typing import NamedTuple

from msgspec import Struct

from gateways.api.errors import ApiError
from gateways.api.turns import Name

NS = 1_000_000_000
MAX_BUCKETS = 20_000
"""Of a kind: beyond, who has asked for nothing for longest is forgotten; as a rule its bucket is full, and that changes
nothing."""
RATE = "rate"
"""In the state of an ASGI scope: what is left."""


class Rate(Struct, frozen=True):
    """Requests a second, and how many at once after a rest."""

    per_s: int
    burst: int


class Rates(Struct, frozen=True):
    """At each gateway."""

    key: Rate = Rate(500, 1_000)
    """A small part of what a gateway does, so that a key which asks for all that it may slows no other."""
    account: Rate = Rate(1_000, 2_000)
    """Of all its keys together: a hundred keys have no hundred shares."""
    preview: Rate = Rate(20, 100)
    """Of an account's previews and whys, each of which walks over a book."""
    walk: Rate = Rate(50, 200)
    """Of books and offers, which want no key: of an account all the same where its key is sent, else of an address."""


USUAL = Rates()
"""Where its operator says nothing."""


class Left(NamedTuple):
    """What a bucket has after a request."""

    remaining: int
    limit: int
    reset_s: int

    @property
    def headers(self) -> dict[str, str]:
        """As a caller is told it."""
        return {
            "RateLimit-Limit": str(self.limit),
            "RateLimit-Remaining": str(self.remaining),
            "RateLimit-Reset": str(self.reset_s),
        }

    def encoded(self) -> list[tuple[bytes, bytes]]:
        """The same, as ASGI has headers."""
        return [
            (b"ratelimit-limit", b"%d" % self.limit),
            (b"ratelimit-remaining", b"%d" % self.remaining),
            (b"ratelimit-reset", b"%d" % self.reset_s),
        ]

    def lines(self) -> bytes:
        """The same, as HTTP has headers."""
        line = b"ratelimit-limit: %d\r\nratelimit-remaining: %d\r\nratelimit-reset: %d\r\n"
        return line % (self.limit, self.remaining, self.reset_s)


class Buckets:
    """Of one kind, by number or name. `what` has one of them, as people are told. Times are ns of a monotonic clock."""

    def __init__(self, rate: Rate, what: str) -> None:
        self._rate = rate
        self._what = what
        self._step = NS // rate.per_s
        self._full_at: dict[Name, int] = {}
        """Who asked last is last."""

    def asked(self, number: Name, now: int, weight: int = 1) -> int:
        """When the bucket is full again if it gives so many more. Raises ApiError 429 where it has not even one: what
        weighs more than is left passes, and who asks next waits for it."""
        full_at = max(self._full_at.get(number, 0), now)
        over = full_at + self._step - now - self._rate.burst * self._step
        if over > 0:
            headers = self._left(full_at - now).headers | {"Retry-After": str(-(-over // NS))}
            message = (
                f"{self._what} may ask {self._rate.per_s} times a second, and {self._rate.burst} times at once: wait"
            )
            raise ApiError(429, "rate_limited", message, headers=headers)
        return full_at + weight * self._step

    def further(self, number: Name, now: int, weight: int) -> Left:
        """It gives so many more, of what was asked for already, whether it has them or not; what is left."""
        return self.give(number, max(self._full_at.get(number, 0), now) + weight * self._step, now)

    def give(self, number: Name, full_at: int, now: int) -> Left:
        """It gives what was asked for; what is left."""
        if self._full_at.pop(number, None) is None and len(self._full_at) >= MAX_BUCKETS:
            del self._full_at[next(iter(self._full_at))]
        self._full_at[number] = full_at
        return self._left(full_at - now)

    def _left(self, until_full: int) -> Left:
        burst = self._rate.burst
        return Left(max(0, burst - -(-until_full // self._step)), burst, -(-until_full // NS))


class Limits:
    """Of keys and of their accounts, and of addresses."""

    def __init__(self, rates: Rates) -> None:
        self._keys = Buckets(rates.key, "a key")
        self._accounts = Buckets(rates.account, "an account, with all its keys,")
        self._previews = Buckets(rates.preview, "an account, for what an order would do or why it waits,")
        self._walks = Buckets(rates.walk, "an address, or an account, for books and offers,")

    def walk(self, party: Name, now: int) -> Left:
        """One walk more over a book, which wants no key: likewise."""
        return self._walks.give(party, self._walks.asked(party, now), now)

    def take(self, key_id: int, account: int, now: int, *, weight: int = 1, preview: bool = False) -> Left:
        """One request more, which counts as so many: what is left where least is. Raises ApiError 429 where nothing
        is, and then it costs nothing."""
        of_key, of_account = self._keys.asked(key_id, now, weight), self._accounts.asked(account, now, weight)
        of_previews = self._previews.asked(account, now) if preview else None
        left = min(self._keys.give(key_id, of_key, now), self._accounts.give(account, of_account, now))
        if of_previews is not None:
            left = min(left, self._previews.give(account, of_previews, now))
        return left

    def further(self, key_id: int, account: int, now: int, weight: int) -> Left:
        """What was taken as one request counts as so many more; what is left where least is."""
        return min(self._keys.further(key_id, now, weight), self._accounts.further(account, now, weight))
