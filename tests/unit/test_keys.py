"""What a gateway remembers of keys."""

import asyncio
from typing import Any

from gateways.api.keys import Keys
from schemas.store import Account, ApiKey, Scope

SCOPE: dict[str, Any] = {"headers": [], "client": ("203.0.113.7", 5000), "state": {}}


class SlowStore:
    """Knows one key, and says so when it is let."""

    def __init__(self) -> None:
        self.asked = 0
        self.let = asyncio.Event()
        self.revoked = False

    async def key(self, digest: bytes) -> ApiKey:
        self.asked += 1
        revoked = self.revoked
        await self.let.wait()
        account = Account(1, "buyer", 1, 0, 0, 0)
        return ApiKey(7, account, "cx_", "", frozenset({Scope.READ}), 0, revoked)


async def test_however_many_come_at_once_with_a_key_the_store_is_asked_once() -> None:
    store: Any = SlowStore()
    keys = Keys(store, lambda: 0)
    coming = [asyncio.create_task(keys.holder("Bearer cx_secret", SCOPE)) for _ in range(50)]
    await asyncio.sleep(0)
    coming.pop().cancel()
    store.let.set()
    assert {key.id for key in await asyncio.gather(*coming)} == {7}
    await keys.holder("Bearer cx_secret", SCOPE)
    assert store.asked == 1


async def test_what_was_asked_before_a_key_changed_is_not_kept() -> None:
    store: Any = SlowStore()
    keys = Keys(store, lambda: 0)
    before = asyncio.create_task(keys.holder("Bearer cx_secret", SCOPE))
    await asyncio.sleep(0)
    keys.forget(7)
    after = asyncio.create_task(keys.holder("Bearer cx_secret", SCOPE))
    await asyncio.sleep(0)
    store.let.set()
    await asyncio.gather(before, after)
    assert store.asked == 2
