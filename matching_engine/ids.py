"""Live orders by their ids. The compiled core has a table of C's own in place of a dict: `core/ids.pyx`."""

from collections.abc import Sequence

from matching_engine.orders import Ask, Bid


class ById(dict[int, Ask | Bid]):
    """Orders by id, in any order."""

    __slots__ = ()

    def put_all(self, ids: list[int], orders: Sequence[Ask | Bid]) -> None:
        """These have come."""
        self.update(zip(ids, orders, strict=True))

    def expect(self, count: int) -> None:
        """So many come: the compiled core's table does not grow on the way."""
