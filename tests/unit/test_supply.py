"""A price list becomes offers, and offers the difference to what stands: the rules, without an exchange."""

from collections.abc import Sequence
from pathlib import Path

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from gateways.cli.facts.classes import standard_classes
from gateways.client.types import Ask
from gateways.supply import sources
from gateways.supply.inventory import (
    FIELDS,
    Columns,
    Inventory,
    Line,
    ListError,
    Offer,
    inventory,
    key_of,
    lines_of,
    mapped,
)
from gateways.supply.naming import Settled
from gateways.supply.plan import Market, Plan, client_order_id, named, plan, too_much
from gateways.supply.report import report
from schemas.attributes import Interconnect, Region, Tier
from schemas.units import DAY_MS, HOUR_MS, MINUTE_MS, format_time, format_usd, parse_duration, parse_time

TICKS = {spec.class_id: spec.tick for spec in standard_classes()}
NOW = parse_time("2026-11-24T03:00:00Z")
HORIZON = 30 * DAY_MS
ROW = {"gpu": "H100 SXM", "gpus": "64", "price": "2.35"}


def read(*rows: dict[str, str], settled: Settled | None = None) -> Inventory:
    lines = [Line(f"line {number}", row) for number, row in enumerate(rows, 2)]
    return inventory(lines, TICKS, settled or Settled())


def only(**said: str) -> Offer:
    found = read(ROW | said)
    assert (found.wrong, found.quarantined) == ([], [])
    return found.offers[0]


def wrong(**said: str) -> list[tuple[str, str, str]]:
    found = read(ROW | said)
    assert not found.offers
    return [(each.column, each.value, each.message) for each in found.wrong]


# Reading


CSV = '﻿GPU Model,Site,Count,USD/h,Note\r\n"H100, SXM",us-east,64,2.35,"a\r\nb"\r\n\r\nL40S,,8,.9,\r\n'


def test_a_csv_by_its_own_columns_with_lines_as_an_editor_counts_them() -> None:
    lines, unused = mapped(
        lines_of(CSV, "csv"), Columns({"GPU Model": "gpu", "Site": "region", "Count": "gpus", "USD/h": "price"})
    )
    assert [(line.where, line.get("gpu"), line.get("price")) for line in lines] == [
        ("line 3", "H100, SXM", "2.35"),
        ("line 5", "L40S", ".9"),
    ]
    assert unused == ["Note"]


def test_numbers_are_read_as_they_are_written_and_never_as_floats() -> None:
    rows = '[{"gpu": "L40S", "gpus": 8, "price": 0.1000000000000000055, "confidential": true, "at": {"x": 1}}]'
    (line,) = lines_of(rows, "json")
    assert line.said == {"gpu": "L40S", "gpus": "8", "price": "0.1000000000000000055", "confidential": "yes", "at": ""}
    (line,) = lines_of(
        "# ours\noffers:\n- {gpu: L40S, gpus: 8, price: 2.10, region: no, start: 2026-12-01T00:00:00Z}", "yaml"
    )
    assert (line.where, line.said["price"]) == ("line 3", "2.10")
    assert line.said["region"] == "no"
    assert line.said["start"] == "2026-12-01T00:00:00Z"


@pytest.mark.parametrize(
    ("form", "text", "why"),
    [
        ("csv", "a,b\n1\n", "line 2: it has 1 cells, and the first line 2"),
        ("csv", "a,a\n1,2\n", "line 1: a column is there twice"),
        ("csv", 'a\n"x', "no CSV"),
        ("json", "[{]", "no JSON"),
        ("json", '{"a": 1, "b": 2}', "no list of rows"),
        ("json", "[1]", "item 1"),
        ("json", "[" * 100_000, "no JSON"),
        ("yaml", "a: [", "no YAML"),
        ("yaml", "!!python/object/apply:os.system [echo]", "no list of rows: |is not a row|item 1"),
    ],
)
def test_what_is_no_list_is_said(form: str, text: str, why: str) -> None:
    with pytest.raises(ListError, match=why):
        lines_of(text, form)


def test_a_mapping_that_means_nothing_is_said() -> None:
    lines = lines_of("Model,GPU\nx,y\n", "csv")
    for columns, why in (
        (Columns({"Model": "colour"}), "'colour' is no field"),
        (Columns({"Modell": "gpu"}), "no column 'Modell'"),
        (Columns({"Model": "gpu", "GPU": "gpu"}), "two columns are mapped to gpu"),
        (Columns({}, {"colour": "red"}), "'colour' is no field"),
        (Columns({"Model": "gpu"}, {"price": "2"}), "no column says gpus: there is Model, GPU"),
        (Columns(), "no column says gpu, gpus, price: "),
    ):
        with pytest.raises(ListError, match=why):
            mapped(lines, columns)


def test_what_is_set_holds_for_every_row_and_wins() -> None:
    same = {"region": "us-east", "gpus": "8", "price": "2"}
    lines, unused = mapped(lines_of("gpu,region\nL40S,mars\n", "csv"), Columns({}, same))
    assert lines[0].said == {"gpu": "L40S"} | same
    assert unused == []


# Rows


def test_a_row_with_its_defaults() -> None:
    offer = only()
    assert (offer.class_id, offer.quantity, offer.price, offer.lot) == ("H100-SXM-80GB", 64, 2_350_000, 1)
    assert (offer.region, offer.min_duration, offer.start, offer.end) == (Region.UNSPECIFIED, HOUR_MS, None, None)


def test_a_row_with_all_that_it_may_say() -> None:
    offer = only(
        region="eu-north",
        delivery="Bare_Metal",
        interconnect="infiniband",
        confidential="YES",
        tier="interruptible",
        notice_minutes="15",
        min_duration="1d",
        lot="8",
        start="2026-12-01T00:00:00Z",
        end="2026-12-31T00:00:00+01:00",
    )
    assert (offer.region, offer.interconnect, offer.tier) == (
        Region.EU_NORTH,
        Interconnect.INFINIBAND,
        Tier.INTERRUPTIBLE,
    )
    assert (offer.notice_minutes, offer.min_duration, offer.lot, offer.confidential) == (15, DAY_MS, 8, True)
    assert offer.end == parse_time("2026-12-30T23:00:00Z")


@pytest.mark.parametrize(
    ("usd", "microusd"), [("2.35", 2_350_000), ("$2.35", 2_350_000), ("2", 2_000_000), ("2.350000000", 2_350_000)]
)
def test_prices_are_exact(usd: str, microusd: int) -> None:
    assert only(price=usd).price == microusd


@pytest.mark.parametrize(
    ("whole", "gpus", "each"),
    [("98.32", 8, "12.29"), ("10", 7, "1.4286"), ("0.0001", 8, "0.0001"), ("12.0", 8, "1.50")],
)
def test_an_instance_s_price_is_divided_and_rounded_up_to_the_tick(whole: str, gpus: int, each: str) -> None:
    """Never down: nobody is sold a GPU for less than its list says."""
    offer = only(price="", instance_price=whole, instance_gpus=str(gpus), gpus=str(gpus * 10))
    assert (format_usd(offer.price), offer.lot) == (each, gpus)


@pytest.mark.parametrize(
    ("said", "column", "advice"),
    [
        ({"price": "2.34995"}, "price", "say 2.3499 or 2.35"),
        ({"price": "2,35"}, "price", "dollars an hour"),
        ({"price": "-1"}, "price", "dollars an hour"),
        ({"price": "NaN"}, "price", "dollars an hour"),
        ({"price": "0"}, "price", "more than nothing"),
        ({"price": ""}, "price", "dollars an hour"),
        ({"instance_price": "9"}, "price", "not both"),
        ({"price": "", "instance_price": "9"}, "instance_gpus", "how many GPUs an instance has"),
        ({"gpus": "0"}, "gpus", "from 1 to 65536"),
        ({"gpus": "8.5"}, "gpus", "whole number"),
        ({"gpus": "٣"}, "gpus", "whole number"),
        ({"gpus": "many"}, "gpus", "whole number"),
        ({"gpus": "9", "lot": "8"}, "gpus", "a multiple of 8"),
        ({"gpu": "8x H100 SXM", "gpus": "3"}, "gpus", "is 8 GPUs"),
        ({"gpu": ""}, "gpu", "--map COLUMN=gpu"),
        ({"gpu": "H100\x1b[2J"}, "gpu", "can be printed"),
        ({"region": "us\neast"}, "region", "can be printed"),
        ({"delivery": "truck"}, "delivery", "container, vm, bare_metal"),
        ({"confidential": "perhaps"}, "confidential", "yes, true"),
        ({"min_duration": "1 day"}, "min_duration", "like 24h"),
        ({"start": "tomorrow"}, "start", "RFC 3339"),
        ({"end": "2026-12-31T00:00:30Z"}, "end", "whole minute"),
    ],
)
def test_what_is_wrong_with_a_row_says_where_what_and_what_to_do(
    said: dict[str, str], column: str, advice: str
) -> None:
    (found,) = wrong(**said)
    assert found[:2] == (column, (ROW | said).get(column, ""))
    assert advice in found[2]


def test_all_that_is_wrong_with_a_row_is_said_at_once() -> None:
    assert [column for column, _, _ in wrong(price="x", gpus="y", tier="z")] == ["price", "gpus", "tier"]


def test_a_name_or_a_place_that_nobody_knows_is_quarantined_with_the_command_that_settles_it() -> None:
    found = read(ROW | {"gpu": "H100's", "seller": "acme"}, ROW | {"region": "hall 7"}, ROW | {"gpu": "A100"})
    assert [each.settle for each in found.quarantined] == [
        """cx supply name 'H100'"'"'s' CLASS --seller acme""",
        "cx supply region 'hall 7' REGION",
        "cx supply name A100 CLASS",
    ]
    settled = Settled({("acme", "h100 s"): "H100-PCIe-80GB"}, {("", "hall 7"): "eu-west"})
    found = read(ROW | {"gpu": "H100's", "seller": "acme"}, ROW | {"region": "hall 7"}, settled=settled)
    assert [(offer.class_id, offer.region) for offer in found.offers] == [
        ("H100-PCIe-80GB", Region.UNSPECIFIED),
        ("H100-SXM-80GB", Region.EU_WEST),
    ]


def test_a_second_name_is_nobody_s_in_particular() -> None:
    """SkyPilot's catalogues shorten names: their "H100" is not what Hyperstack means by it."""
    row = ROW | {"seller": "Hyperstack", "accelerator": "H100"}
    assert read(row | {"gpu": "NVIDIA H100"}).offers[0].class_id == "H100-PCIe-80GB"
    assert read(row | {"gpu": "n3-H100x8"}).quarantined[0].name == "n3-H100x8"
    assert read(row | {"gpu": "n3-L40Sx8", "accelerator": "L40S", "gpus": "8"}).offers[0].class_id == "L40S-48GB"


def test_a_row_is_the_same_row_whatever_its_price_quantity_and_end() -> None:
    same = key_of(Line("", ROW | {"price": "9", "gpus": "1", "end": "2027-01-01T00:00:00Z", "lot": ""}))
    assert same == key_of(Line("", ROW))
    assert key_of(Line("", ROW | {"region": "us-east"})) != key_of(Line("", ROW))
    assert key_of(Line("", ROW | {"id": "a"})) == key_of(Line("", {"id": "a", "gpu": "L40S", "region": "us-east"}))
    (twin,) = read(ROW, ROW | {"price": "9"}).wrong
    assert (twin.where, twin.column) == ("line 3", "id")
    assert "line 2 is the same" in twin.message


# Names that were settled, and files


def test_settled_names_are_kept_beside_the_list(tmp_path: Path) -> None:
    path = sources.names_beside(str(tmp_path / "inventory.csv"))
    assert path == tmp_path / "supply-names.csv"
    assert sources.settled(path) == Settled()
    sources.settle(path, "class", "", "H100, old", "H100-PCIe-80GB")
    sources.settle(path, "region", "", "hall 7", "eu-west")
    sources.settle(path, "class", "", "h100, OLD", "H100-NVL-94GB")
    assert sources.settled(path).class_of("acme", "H100 old") == "H100-NVL-94GB"
    assert sources.settled(path).region_of("", "Hall-7") == "eu-west"
    assert path.read_text().splitlines()[0] == "what,seller,raw,means"
    path.write_text("what,seller\nclass,x\n")
    with pytest.raises(ListError, match="line 2 is no row of"):
        sources.settled(path)


async def test_a_list_that_cannot_be_read_says_why(tmp_path: Path) -> None:
    latin = tmp_path / "latin.csv"
    latin.write_bytes(b"gpu\n\xe9")
    for source, why in ((str(tmp_path / "no.csv"), "cannot be read: No such file"), (str(latin), "no UTF-8")):
        with pytest.raises(ListError, match=why):
            await sources.read(source)
    with pytest.raises(ListError, match="say --format"):
        sources.form_of("inventory.xls")
    assert sources.form_of("https://acme.example/list.JSON?x=a.csv") == "json"


async def test_a_list_at_an_address() -> None:
    async def answer(request: web.Request) -> web.Response:
        if request.path == "/list.csv":
            return web.Response(text=CSV)
        large = request.path == "/large.csv"
        return web.Response(body=b"x" * (sources.MAX_BYTES + 1)) if large else web.Response(status=503)

    app = web.Application()
    app.router.add_get("/{name}", answer)
    async with TestServer(app) as server:
        assert lines_of(await sources.read(str(server.make_url("/list.csv"))), "csv") == lines_of(CSV, "csv")
        for name, why in (("other.csv", "answers 503"), ("large.csv", "larger than")):
            with pytest.raises(ListError, match=why):
                await sources.read(str(server.make_url(f"/{name}")))
        gone = str(server.make_url("/list.csv"))
    with pytest.raises(ListError, match="cannot be fetched"):
        await sources.read(gone)


def test_a_mapping_file(tmp_path: Path) -> None:
    path = tmp_path / "mapping.yaml"
    path.write_text("columns: {GPU Model: gpu}\nset: {region: us-east, gpus: 8}\n")
    assert sources.columns(path, {"Site": "region"}, {"gpus": "4"}) == Columns(
        {"GPU Model": "gpu", "Site": "region"}, {"region": "us-east", "gpus": "4"}
    )
    path.write_text("colums: {}\n")
    with pytest.raises(ListError, match="colums"):
        sources.columns(path, {}, {})


def test_the_mapping_of_a_list_lies_beside_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert sources.mapping_beside(str(tmp_path / "inventory.csv")) is None
    beside = tmp_path / "inventory.mapping.yaml"
    beside.write_text("columns: {GPU Model: gpu}\n")
    assert sources.mapping_beside(str(tmp_path / "inventory.csv")) == beside
    assert sources.mapping_beside(str(tmp_path / "other.csv")) is None
    monkeypatch.chdir(tmp_path)
    assert sources.mapping_beside("https://acme.example/lists/inventory.csv?day=1") == Path(beside.name)
    assert sources.mapping_beside("https://acme.example/") is None


# The difference


def ask_of(offer: Offer, quantity: int | None = None, *, number: int = 1, now: int = NOW) -> Ask:
    """The ask that a first sync of the offer would have placed."""
    (post,) = plan(Inventory([offer], [], []), Market(now, []), HORIZON).posts
    terms = post.terms | {"start": format_time(offer.start or now)}
    terms["class_id"] = terms.pop("class")
    if offer.end is None:
        terms["end"] = format_time(now + parse_duration(terms["end"].removeprefix("now+")))
    return Ask(
        **terms | {"quantity": quantity or post.quantity},
        order_id=f"ord_{offer.key}_{number}",
        client_order_id=client_order_id("inventory", offer.key, number),
        status="open",
        filled=0,
        left=0,
        held="0.00",
        reason="",
        refusal=None,
        created_at=format_time(now),
        fills=None,
        time_in_force="gtc",
        expire_at=None,
        post_only=False,
        self_trade="cancel_newest",
        not_after=format_time(now),
        fee_bps=0,
        team=None,
        user=None,
        pool=None,
    )


def carried_out(plan: Plan, asks: Sequence[Ask], now: int) -> list[Ask]:
    """What an exchange has after it, by what it says of amends: what is not said stays."""
    gone = {withdrawal.ask.order_id for withdrawal in plan.withdrawals}
    changed = {change.ask.order_id: change.terms for change in plan.changes}
    left = [
        replace(ask, **{name: _resolved(value, now) for name, value in changed.get(ask.order_id, {}).items()})
        for ask in asks
        if ask.order_id not in gone
    ]
    posted = [ask_of(post.offer, post.quantity, number=2, now=now) for post in plan.posts if not post.replaces]
    return [*left, *posted]


def _resolved(value: object, now: int) -> object:
    if value == "now":
        return format_time(now)
    if isinstance(value, str) and value.startswith("now+"):
        return format_time(now + parse_duration(value.removeprefix("now+")))
    return value


def difference(offers: Sequence[Offer], asks: Sequence[Ask], now: int = NOW, **market: dict[str, int]) -> Plan:
    return plan(Inventory(offers, [], []), Market(now, asks, **market), HORIZON)


def test_what_is_new_is_posted_what_is_other_changed_what_is_gone_withdrawn_and_the_rest_let_be() -> None:
    first, second, third = only(id="1"), only(id="2"), only(id="3")
    asks = [ask_of(first), ask_of(second), ask_of(third)]
    found = difference([first, replace(second, price=2_000_000), only(id="4")], asks)
    assert [(post.offer.name, post.terms["price"]) for post in found.posts] == [("H100 SXM", "2.35")]
    assert [(change.ask, change.terms) for change in found.changes] == [(asks[1], {"price": "2.00"})]
    assert [withdrawal.ask for withdrawal in found.withdrawals] == [asks[2]]
    assert found.unchanged == [asks[0]]


def test_fewer_gpus_alone_are_said_alone_so_that_the_ask_keeps_its_place() -> None:
    offer = only()
    (change,) = difference([replace(offer, quantity=8)], [ask_of(offer)]).changes
    assert change.terms == {"quantity": 8}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"region": Region.US_WEST}, {"region": "us-west"}),
        ({"tier": Tier.INTERRUPTIBLE, "notice_minutes": 5}, {"tier": "interruptible", "notice_minutes": 5}),
        ({"lot": 8}, {"lot": 8}),
        ({"min_duration": 90 * MINUTE_MS}, {"min_duration": "1h30m"}),
        ({"confidential": True}, {"confidential": True}),
        ({"start": NOW + DAY_MS}, {"start": "2026-11-25T03:00:00Z"}),
        ({"end": NOW + DAY_MS}, {"end": "2026-11-25T03:00:00Z"}),
    ],
)
def test_each_term_that_is_other_is_amended(change: dict[str, object], said: dict[str, object]) -> None:
    offer = only(id="1")
    (found,) = difference([replace(offer, **change)], [ask_of(offer)]).changes
    assert found.terms == said


def test_an_offer_without_an_end_is_put_off_once_half_of_its_time_is_over() -> None:
    offer = only()
    ask = ask_of(offer)
    assert difference([offer], [ask], NOW + 15 * DAY_MS).is_empty
    (change,) = difference([offer], [ask], NOW + 15 * DAY_MS + MINUTE_MS).changes
    assert change.terms == {"start": "now", "end": "now+30d"}, "from now on: no window may be longer than a year"
    longer = replace(ask, end=format_time(NOW + 60 * DAY_MS))
    assert difference([offer], [longer]).changes[0].terms["end"] == "now+30d"


def test_an_offer_that_begins_now_does_not_wait_for_its_ask() -> None:
    offer = only(id="1")
    later = replace(ask_of(offer), start=format_time(NOW + DAY_MS))
    assert difference([offer], [later]).changes[0].terms == {"start": "now"}


def test_what_has_ended_is_not_posted_and_an_ask_that_should_have_ended_goes() -> None:
    offer = only(id="1", end="2026-11-24T03:30:00Z")
    found = difference([offer], [])
    assert found.is_empty
    assert "is over" in found.held_back[0].reason
    assert difference([offer], [ask_of(only(id="1"))]).withdrawals[0].ask.class_id == "H100-SXM-80GB"
    ends_by_itself = replace(ask_of(only(id="1")), end=format_time(offer.end or 0))
    assert difference([offer], [ends_by_itself]).is_empty


def test_what_is_leased_from_an_ask_that_is_gone_is_not_sold_twice() -> None:
    offer = replace(only(), lot=8)
    assert difference([offer], [], leased={offer.key: 20}).posts[0].quantity == 40, "whole lots of the 44 that are left"
    (change,) = difference([offer], [ask_of(offer)], leased={offer.key: 8}).changes
    assert change.terms == {"quantity": 56}
    found = difference([offer], [], leased={offer.key: 64})
    assert found.is_empty
    assert "still leased" in found.held_back[0].reason


def test_a_row_of_another_class_goes_first_and_comes_after() -> None:
    offer = only(id="1")
    other = replace(offer, class_id="H200-SXM-141GB")
    ask = ask_of(offer)
    found = difference([other], [ask], leased_live={ask.order_id or "": 8})
    assert [withdrawal.reason for withdrawal in found.withdrawals] == ["the row is H200-SXM-141GB now"]
    assert [(post.replaces, post.quantity) for post in found.posts] == [(True, 56)]
    assert carried_out(found, [ask], NOW) == []


def test_the_ask_of_a_row_that_nobody_can_tell_or_that_is_wrong_is_let_be() -> None:
    asks = [ask_of(only(id="1")), ask_of(only(id="2")), ask_of(only(id="3"))]
    found = plan(
        read(ROW | {"id": "1", "gpu": "H100"}, ROW | {"id": "2", "price": "x"}), Market(NOW, asks), horizon_ms=HORIZON
    )
    assert [withdrawal.ask for withdrawal in found.withdrawals] == [asks[2]]
    assert (found.live_gpus, found.less_gpus) == (192, 64)


def test_of_two_asks_of_one_row_the_older_stays() -> None:
    offer = only()
    asks = [ask_of(offer, number=12), ask_of(offer, number=2)]
    found = difference([offer], asks)
    assert [withdrawal.ask for withdrawal in found.withdrawals] == [asks[0]]
    assert found.unchanged == [asks[1]]


def test_too_much_at_once_is_refused_with_the_figures() -> None:
    offers = [only(id=str(number)) for number in range(5)]
    asks = [ask_of(offer) for offer in offers]
    assert too_much(difference(offers[:4], asks), 20) == ""
    refused = too_much(difference([*offers[:3], replace(offers[3], quantity=63)], asks), 20)
    assert "65 of 320 GPUs" in refused
    assert "(21 %), 1 ask in whole" in refused
    assert "--max-withdraw 21%" in refused
    assert too_much(difference([], asks), 99)
    assert too_much(difference([], asks), 100) == ""
    assert too_much(difference([], []), 0) == "", "nothing of nothing"
    grown = [replace(offers[0], quantity=128), *offers[2:]]
    assert "64 of 320 GPUs" in too_much(difference(grown, asks), 19), "nor does a row that grows"
    assert too_much(difference([replace(offers[0], quantity=1), only(id="new")], asks[:1]), 20), (
        "new rows make up for none"
    )


def test_an_ask_is_the_list_s_own_by_its_name() -> None:
    mine = client_order_id("inventory", "0123456789abcdef", 12)
    assert len(client_order_id("l" * 24, "0123456789abcdef", 10**9)) <= 64
    found = named("inventory", mine)
    assert found is not None
    assert (found.key, found.number) == ("0123456789abcdef", 12)
    assert named("inv", mine) is None
    assert named("inventory", "mine") is None
    assert named("inventory", "supply:inventory:x:y") is None


def offers() -> st.SearchStrategy[list[Offer]]:
    offer = st.builds(
        lambda key, **terms: replace(only(id=str(key)), **terms),
        st.integers(0, 5),
        quantity=st.sampled_from([8, 16, 64]),
        price=st.sampled_from([1_000_000, 2_350_000]),
        region=st.sampled_from([Region.UNSPECIFIED, Region.EU_NORTH]),
        tier=st.sampled_from(Tier),
        lot=st.sampled_from([1, 8]),
        class_id=st.sampled_from(["H100-SXM-80GB", "L40S-48GB"]),
        start=st.sampled_from([None, NOW, NOW + HOUR_MS]),
        end=st.sampled_from([None, NOW + DAY_MS, NOW + 90 * DAY_MS]),
    )
    return st.lists(offer, max_size=6, unique_by=lambda offer: offer.key)


@settings(max_examples=300, deadline=None)
@given(offers(), offers(), st.sampled_from([0, HOUR_MS, 20 * DAY_MS]))
def test_after_it_is_carried_out_there_is_nothing_to_do_and_the_book_is_the_list(
    before: list[Offer], after: list[Offer], later: int
) -> None:
    now = NOW + later
    asks = [ask_of(offer) for offer in before]
    for _ in range(2):  # what replaces comes in the second
        asks = carried_out(difference(after, asks, now), asks, now)
    again = difference(after, asks, now)
    assert again.is_empty
    sold = [offer for offer in after if offer.end is None or offer.end - offer.min_duration >= now]
    ends = [ask for ask in asks if parse_time(ask.end) - parse_duration(ask.min_duration) < now]
    stands = {(ask.class_id, ask.quantity, ask.price, ask.region, ask.tier, ask.lot) for ask in asks if ask not in ends}
    wanted = {_terms(offer) for offer in sold}
    assert stands == wanted
    assert len(asks) - len(ends) == len(sold)


def _terms(offer: Offer) -> tuple[object, ...]:
    ask = ask_of(replace(offer, end=None))
    return ask.class_id, ask.quantity, ask.price, ask.region, ask.tier, ask.lot


def test_a_report_says_the_same_to_people_and_programs() -> None:
    first, second = only(id="1"), only(id="2")
    found = read(ROW | {"id": "1", "price": "2.40"}, ROW | {"gpu": "A100"}, ROW | {"gpus": "x"})
    shown = report("inventory", found, plan(found, Market(NOW, [ask_of(first), ask_of(second)]), HORIZON))
    assert not shown.went_well
    assert shown.summary() == (
        "0 would be posted, 1 would be changed, 1 would be withdrawn, 0 unchanged, 1 quarantined, 1 wrong"
    )
    rows = {row[0]: row[1:] for row in shown.rows()}
    assert rows["change"] == ("line 2", "H100 SXM", "H100-SXM-80GB", "64", "2.35", "unspecified", "price 2.35 -> 2.40")
    assert rows["withdraw"][-1] == "the list has no such row"
    assert rows["wrong"][-1].startswith("gpus is 'x': say a whole number")
    assert "leaves open" in rows["quarantine"][-1]


ENOUGH = {"accelerator": "L40S", "gpus": "8", "instance_price": "2"}
"""For a list to be read, whatever its columns are."""


@settings(max_examples=500, deadline=None)
@given(
    st.sampled_from(["csv", "json", "yaml"]),
    st.text(st.sampled_from("gpu,rice\"\n\r:-[]{}#&*!|>%@` '0.é\x00\ud800"), max_size=60),
)
def test_any_text_is_a_list_or_said_to_be_none(form: str, text: str) -> None:
    try:
        lines, unused = mapped(lines_of(text, form), Columns({}, ENOUGH))
        inventory(lines, TICKS, Settled(), unused)
    except ListError:
        pass


@settings(max_examples=300, deadline=None)
@given(st.dictionaries(st.sampled_from(sorted(FIELDS)), st.text(max_size=12)))
def test_any_row_is_an_offer_or_quarantined_or_wrong(said: dict[str, str]) -> None:
    found = read(said)
    assert len(found.offers) + len(found.quarantined) + bool(found.wrong) == 1
