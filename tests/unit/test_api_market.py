"""Which classes a gateway knows, and when it asks the store again."""

import asyncio
from typing import Any, cast

from gateways.api.market import Classes
from matching_engine import checks
from schemas.attributes import ClassSpec
from schemas.store import Listing, Store

LISTING = Listing(ClassSpec("H100-SXM-80GB", "NVIDIA H100", 80, "SXM"), 0)


class SlowStore:
    """Only what is asked of it here: the classes, after the others have had their turn."""

    def __init__(self) -> None:
        self.asked = 0

    async def classes(self) -> list[Listing]:
        self.asked += 1
        await asyncio.sleep(0.01)
        return [LISTING]


async def test_who_comes_while_the_classes_are_being_read_waits_for_them() -> None:
    store = SlowStore()
    classes = Classes(cast(Any, None), cast(Store, store), [], checks, 1.0)
    found = await asyncio.gather(*(classes.listing("H100-SXM-80GB") for _ in range(20)))
    assert found == [LISTING] * 20
    assert store.asked == 1
