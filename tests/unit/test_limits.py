"""How often a key may ask."""

import pytest

from gateways.api.errors import ApiError
from gateways.api.limits import NS, Buckets, Rate


def test_a_key_has_its_burst_and_then_its_rate_and_another_has_its_own() -> None:
    buckets, now = Buckets(Rate(per_s=2, burst=3)), 5 * NS
    left = [buckets.take(1, now)["RateLimit-Remaining"] for _ in range(3)]
    assert left == ["2", "1", "0"]
    with pytest.raises(ApiError, match="2 times a second, and 3 times at once") as refused:
        buckets.take(1, now)
    assert (refused.value.status, refused.value.code) == (429, "rate_limited")
    assert refused.value.headers == {
        "Retry-After": "1",
        "RateLimit-Limit": "3",
        "RateLimit-Remaining": "0",
        "RateLimit-Reset": "2",
    }
    assert buckets.take(2, now)["RateLimit-Remaining"] == "2"
    with pytest.raises(ApiError):
        buckets.take(1, now + NS // 2 - 1)
    assert buckets.take(1, now + NS // 2)["RateLimit-Remaining"] == "0", "what was refused cost nothing"
    rested = buckets.take(1, now + 60 * NS)
    assert (rested["RateLimit-Remaining"], rested["RateLimit-Reset"]) == ("2", "1"), "a rest gives the burst, no more"


def test_buckets_that_are_full_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateways.api.limits.MAX_BUCKETS", 2)
    buckets = Buckets(Rate(per_s=1, burst=2))
    for key_id, now in ((1, 0), (2, 5 * NS), (2, 5 * NS), (3, 5 * NS)):
        buckets.take(key_id, now)
    with pytest.raises(ApiError):
        buckets.take(2, 5 * NS)
