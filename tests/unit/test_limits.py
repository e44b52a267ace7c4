"""How often a key and an account may ask."""

import pytest

from gateways.api.errors import ApiError
from gateways.api.limits import NS, Buckets, Limits, Rate, Rates


def take(buckets: Buckets, number: int, now: int) -> dict[str, str]:
    return buckets.give(number, buckets.asked(number, now), now).headers


def test_a_key_has_its_burst_and_then_its_rate_and_another_has_its_own() -> None:
    buckets, now = Buckets(Rate(per_s=2, burst=3), "a key"), 5 * NS
    left = [take(buckets, 1, now)["RateLimit-Remaining"] for _ in range(3)]
    assert left == ["2", "1", "0"]
    with pytest.raises(ApiError, match="a key may ask 2 times a second, and 3 times at once") as refused:
        buckets.asked(1, now)
    assert (refused.value.status, refused.value.code) == (429, "rate_limited")
    assert refused.value.headers == {
        "Retry-After": "1",
        "RateLimit-Limit": "3",
        "RateLimit-Remaining": "0",
        "RateLimit-Reset": "2",
    }
    assert take(buckets, 2, now)["RateLimit-Remaining"] == "2"
    with pytest.raises(ApiError):
        buckets.asked(1, now + NS // 2 - 1)
    assert take(buckets, 1, now + NS // 2)["RateLimit-Remaining"] == "0", "what was refused cost nothing"
    rested = take(buckets, 1, now + 60 * NS)
    assert (rested["RateLimit-Remaining"], rested["RateLimit-Reset"]) == ("2", "1"), "a rest gives the burst, no more"


def test_what_weighs_more_than_is_left_passes_and_who_asks_next_waits_for_it() -> None:
    buckets = Buckets(Rate(per_s=2, burst=3), "a key")
    assert buckets.give(1, buckets.asked(1, 0, weight=2), 0).remaining == 1
    assert buckets.give(1, buckets.asked(1, 0, weight=7), 0) == (0, 3, 5), "six more than it had"
    with pytest.raises(ApiError) as refused:
        buckets.asked(1, 0)
    assert refused.value.headers["Retry-After"] == "4"
    with pytest.raises(ApiError):
        buckets.asked(1, 7 * NS // 2 - 1)
    assert buckets.give(1, buckets.asked(1, 7 * NS // 2), 7 * NS // 2).remaining == 0


def test_what_was_taken_as_one_may_count_as_more() -> None:
    limits = Limits(Rates(key=Rate(1, 10), account=Rate(1, 12)))
    assert limits.take(1, 7, 0, weight=3).remaining == 7
    assert limits.further(1, 7, 0, 6) == (1, 10, 9)
    assert limits.further(2, 7, 0, 2) == (1, 12, 11), "of the account there is less than of its other key"
    assert limits.further(2, 7, 0, 0) == (1, 12, 11)


def test_who_asked_longest_ago_is_forgotten_where_there_are_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateways.api.limits.MAX_BUCKETS", 2)
    buckets = Buckets(Rate(per_s=1, burst=2), "a key")
    for key_id, now in ((1, 0), (2, 5 * NS), (2, 5 * NS), (3, 5 * NS)):
        take(buckets, key_id, now)
    with pytest.raises(ApiError):
        buckets.asked(2, 5 * NS)
    assert take(buckets, 1, 5 * NS)["RateLimit-Remaining"] == "1"
    assert take(buckets, 2, 5 * NS)["RateLimit-Remaining"] == "1", "it was the first of the two to ask"
    buckets = Buckets(Rate(per_s=1, burst=2), "a key")
    for key_id in (1, 2, 1, 3):
        take(buckets, key_id, 0)
    with pytest.raises(ApiError):
        buckets.asked(1, 0)
    assert take(buckets, 2, 0)["RateLimit-Remaining"] == "1", "the other one asked again meanwhile"


def test_an_account_has_one_share_however_many_keys_it_has() -> None:
    limits = Limits(Rates(key=Rate(1, 2), account=Rate(1, 3)))
    left = [limits.take(key, 7, 0).headers["RateLimit-Remaining"] for key in (1, 2, 3)]
    assert left == ["1", "1", "0"], "what is told is what stops first"
    with pytest.raises(ApiError, match="an account, with all its keys, may ask 1 times a second") as refused:
        limits.take(4, 7, 0)
    assert refused.value.headers["RateLimit-Limit"] == "3"
    assert limits.take(5, 8, 0).headers["RateLimit-Remaining"] == "1"
    assert limits.take(4, 7, NS).headers["RateLimit-Remaining"] == "0", (
        "what the account's refused had cost the key nothing"
    )


def test_previews_have_a_bucket_of_their_own() -> None:
    limits = Limits(Rates(preview=Rate(1, 1)))
    assert limits.take(1, 7, 0, preview=True).headers["RateLimit-Remaining"] == "0"
    with pytest.raises(ApiError, match="for what an order would do or why it waits"):
        limits.take(2, 7, 0, preview=True)
    assert limits.take(1, 7, 0).headers["RateLimit-Remaining"] == "998"
