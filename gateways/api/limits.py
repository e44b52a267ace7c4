"""How often a key may ask: a token bucket each, so that a noisy one is told to wait before it slows the others.

As GCRA (ITU-T I.371): of a bucket only the moment is kept at which it will be full again.
"""

from msgspec import Struct

from gateways.api.errors import ApiError

NS = 1_000_000_000
MAX_BUCKETS = 20_000
"""From here on those that are full are forgotten, which changes nothing."""
RATE = "rate"
"""In the state of an ASGI scope: the headers that tell how much is left."""


class Rate(Struct, frozen=True):
    """Requests a second, and how many at once after a rest. Of each key, at each gateway."""

    per_s: int = 2_000
    burst: int = 4_000


USUAL = Rate()
"""Where its operator says nothing."""


class Buckets:
    """Of keys, by their ids. Times are ns of a monotonic clock."""

    def __init__(self, rate: Rate) -> None:
        self._rate = rate
        self._step = NS // rate.per_s
        self._full_at: dict[int, int] = {}

    def take(self, key_id: int, now: int) -> dict[str, str]:
        """One request more: the headers that say what is left. Raises ApiError 429 where nothing is."""
        full_at = max(self._full_at.get(key_id, 0), now) + self._step
        over = full_at - now - self._rate.burst * self._step
        if over > 0:
            headers = self._headers(full_at - self._step - now) | {"Retry-After": str(-(-over // NS))}
            message = f"a key may ask {self._rate.per_s} times a second, and {self._rate.burst} times at once: wait"
            raise ApiError(429, "rate_limited", message, headers=headers)
        if len(self._full_at) >= MAX_BUCKETS:
            self._full_at = {key: full for key, full in self._full_at.items() if full > now}
        self._full_at[key_id] = full_at
        return self._headers(full_at - now)

    def _headers(self, until_full: int) -> dict[str, str]:
        return {
            "RateLimit-Limit": str(self._rate.burst),
            "RateLimit-Remaining": str(max(0, self._rate.burst - -(-until_full // self._step))),
            "RateLimit-Reset": str(-(-until_full // NS)),
        }
