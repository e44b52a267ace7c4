"""What a sync found and did, for people and programs."""

from collections.abc import Iterator, Sequence
from typing import Any

from msgspec import Struct

from gateways.client.types import Ask
from gateways.supply.inventory import Inventory, Quarantined, Wrong
from gateways.supply.plan import Change, Plan, Post, Withdrawal
from gateways.supply.sync import Done, Outcome, Step
from schemas.attributes import name_of
from schemas.units import format_usd


class Entry(Struct, rename={"class_id": "class"}):
    """One ask, and what is to become of it or became of it."""

    row: str
    """Empty where the list has none."""
    name: str
    class_id: str
    gpus: int
    price: str
    region: str
    order_id: str | None
    what: str
    """Of a change: what is other. Of a withdrawal: why."""
    status: str
    """planned, done, refused, unsent."""
    refused: str = ""


class Report(Struct):
    """A whole sync. What is refused, and why, is in its entry; `refused` says why nothing was sent at all."""

    list: str
    applied: bool
    posted: Sequence[Entry]
    changed: Sequence[Entry]
    withdrawn: Sequence[Entry]
    unchanged: int
    quarantined: Sequence[Quarantined]
    wrong: Sequence[Wrong]
    unused_columns: Sequence[str]
    refused: str = ""
    stopped: str = ""

    @property
    def went_well(self) -> bool:
        entries = (*self.posted, *self.changed, *self.withdrawn)
        troubled = any(entry.status in ("refused", "unsent") for entry in entries)
        return not (self.wrong or self.refused or self.stopped or troubled)

    @property
    def found_anything(self) -> bool:
        return bool(self.posted or self.changed or self.withdrawn) or not self.went_well

    def summary(self) -> str:
        verb = "" if self.applied else "would be "
        counts = {"posted": self.posted, "changed": self.changed, "withdrawn": self.withdrawn}
        parts = [f"{len(entries)} {verb}{name}" for name, entries in counts.items()]
        return ", ".join(
            [*parts, f"{self.unchanged} unchanged", f"{len(self.quarantined)} quarantined", f"{len(self.wrong)} wrong"]
        )

    def rows(self) -> Iterator[Sequence[str]]:
        """For a table: what, row, name, class, GPUs, price, region, and what there is to say."""
        for verb, entries in (("withdraw", self.withdrawn), ("change", self.changed), ("post", self.posted)):
            for entry in entries:
                said = f"{entry.what}; {entry.refused}" if entry.what and entry.refused else entry.what or entry.refused
                shown = verb if entry.status in ("planned", "done") else f"{verb}: {entry.status}"
                terms = entry.class_id, str(entry.gpus), entry.price, entry.region
                yield shown, entry.row, entry.name, *terms, said
        for each in self.quarantined:
            yield "quarantine", each.where, each.name, "", "", "", "", each.reason
        for wrong in self.wrong:
            yield "wrong", wrong.where, "", "", "", "", "", f"{wrong.column} is {wrong.value!r}: {wrong.message}"


def report(
    list_name: str, inventory: Inventory, plan: Plan, outcomes: Sequence[Outcome] = (), refused: str = ""
) -> Report:
    """`outcomes` of all the plans that were carried out; none, if it is what would be done."""
    entries: dict[type[Step], list[Entry]] = {Post: [], Change: [], Withdrawal: []}
    steps: list[Step] = [*plan.withdrawals, *plan.changes, *plan.posts]
    done = [each for outcome in outcomes for each in outcome.done] if outcomes else [Done(step) for step in steps]
    for each in done:
        status = "refused" if each.refused else "done" if outcomes else "planned"
        entries[type(each.step)].append(_entry(each.step, status, each.refused))
    for step in (step for outcome in outcomes for step in outcome.unsent):
        entries[type(step)].append(_entry(step, "unsent", ""))
    return Report(
        list=list_name,
        applied=bool(outcomes),
        posted=entries[Post],
        changed=entries[Change],
        withdrawn=entries[Withdrawal],
        unchanged=len(plan.unchanged),
        quarantined=[*inventory.quarantined, *plan.held_back],
        wrong=inventory.wrong,
        unused_columns=inventory.unused,
        refused=refused,
        stopped=next((outcome.stopped for outcome in outcomes if outcome.stopped), ""),
    )


def _entry(step: Step, status: str, refused: str) -> Entry:
    match step:
        case Post(offer, quantity):
            less = (
                f"{offer.quantity - quantity} of {offer.quantity} are still leased" if quantity < offer.quantity else ""
            )
            terms = offer.class_id, quantity, format_usd(offer.price), name_of(offer.region)
            return Entry(offer.where, offer.name, *terms, None, less, status, refused)
        case Change(offer, ask, changes):
            what = ", ".join(f"{name} {_said(getattr(ask, name))} -> {_said(new)}" for name, new in changes.items())
            return Entry(offer.where, offer.name, *_stands(ask), ask.order_id, what, status, refused)
        case Withdrawal(ask, reason):
            return Entry("", "", *_stands(ask), ask.order_id, reason, status, refused)


def _stands(ask: Ask) -> tuple[str, int, str, str]:
    return ask.class_id, ask.quantity, ask.price, ask.region


def _said(value: Any) -> str:
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value)
