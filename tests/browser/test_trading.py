"""What people do on the page: rent, offer, cancel, take over, end."""

from datetime import UTC, datetime, timedelta

from playwright.async_api import Page, expect

from gateways.client import Exchange
from gateways.client.types import UsageReport
from tests.browser.conftest import Market
from tests.browser.screen import Screens, class_view, facts, keep, place, sign_in, write_order

ANEW_MS = 5_000
"""The page reads all anew so often, whether it is told something or not (`account.js`)."""


async def own_row(page: Page, name: str, text: str) -> None:
    await expect(page.locator(f"#{name}-rows tr").first).to_contain_text(text)


async def test_a_newcomer_places_a_bid_and_sees_it_fill(market: Market, screens: Screens) -> None:
    newcomer = await market.key_of("newcomer", "read", "trade", money="5000")
    async with market.trader("cloud") as cloud, screens.open() as page:
        await cloud.sell(market.class_id, gpus=8, price="2.35", hours=720)
        row = page.locator("#markets-rows tr", has_text=market.class_id)
        await row.scroll_into_view_if_needed()  # those in sight alone are live, and other tests leave classes
        await expect(row).to_contain_text("2.3500")
        await row.get_by_role("link").click()
        await expect(page.get_by_role("button", name="Review bid")).to_be_disabled()
        await sign_in(page, newcomer)
        await write_order(page, quantity="8", price="2.60", duration="24h")
        await expect(page.locator("#ticket-cost")).to_have_text("Costs and holds at most $499.20")

        await page.get_by_role("button", name="Review bid").click()
        said = await facts(page)
        assert said["Rent"] == f"8 × {market.class_id} for 24h"
        assert said["Places"] == "all from one place, or none"
        assert said["Held now"] == "$499.20; what it does not cost comes back"
        assert said["Free to use"] == "$5,000.00 now, $4,500.80 then"
        assert said["Fills now"] == "8 at $2.3500 (unspecified, vm): $451.20"
        await keep(page, "review")
        await page.get_by_role("button", name="Place bid").click()

        await expect(page.locator("#ticket-answer")).to_contain_text("filled; 8 at $2.3500: lse_")
        await own_row(page, "fills", "2.3500")
        await expect(page.locator("#class-last")).to_have_text("2.3500")
        await expect(page.locator("header [data-balance=cash]")).to_have_text("$4,548.80")
        await page.get_by_role("link", name="Orders and leases").click()
        await own_row(page, "leases", "pending delivery")
        await expect(page.locator("#account [data-balance=escrow]")).to_have_text("$451.20")
        await page.locator("input[name=orders][value=all]").check()
        await own_row(page, "orders", "filled")
        await keep(page, "orders_and_leases")


async def test_a_key_stays_in_its_tab(market: Market, screens: Screens) -> None:
    key = await market.key_of("careful", "read", "trade")
    async with screens.open() as page:
        await page.get_by_role("button", name="Sign in").click()
        await page.get_by_label("API key").fill("no key at all")
        await page.keyboard.press("Enter")
        await expect(page.locator("#sign-in-error")).to_contain_text("a key is one word")
        await page.get_by_label("API key").fill(key)
        await page.keyboard.press("Enter")
        await expect(page.locator("#account-name")).to_contain_text("careful")
        await page.reload()
        await expect(page.locator("#account-name")).to_contain_text("careful")

        kept = "() => [localStorage.length, document.cookie, location.href.includes('cx_')]"
        assert await page.evaluate(kept) == [0, "", False]
        other = await page.context.new_page()
        await other.goto(screens.url)
        await expect(other.get_by_role("button", name="Sign in")).to_be_visible()
        await page.get_by_role("button", name="Sign out").click()
        await expect(page.get_by_role("link", name="Supply")).to_be_hidden()
        assert await page.evaluate("() => sessionStorage.length") == 0


async def test_a_key_that_is_revoked_signs_out(market: Market, screens: Screens) -> None:
    key = await market.key_of("leaver", "read", "trade")
    async with screens.open(class_view(market.class_id), may_fail=True) as page:
        await sign_in(page, key)
        async with Exchange(market.url, key) as leaver:
            account = (await leaver.account()).account_id
            for each in await leaver.keys():
                await market.admin.revoke_key(each.key_id, account_id=account)
        await expect(page.locator("#sign-in-error")).to_have_text("the key is unknown or revoked")
        await expect(page.locator("#account-name")).to_have_text("")
        assert await page.evaluate("() => sessionStorage.length") == 0


async def test_a_review_says_what_would_fill_and_so_it_fills(market: Market, screens: Screens) -> None:
    async with market.trader("cloud") as cloud, screens.open(class_view(market.class_id)) as page:
        for gpus, price, terms in (
            (8, "1.10", {"region": "eu-west"}),
            (8, "1.20", {"region": "us-east", "tier": "interruptible", "notice_minutes": 5}),
            (8, "1.30", {"region": "us-east", "lot": 4}),
            (2, "1.40", {"region": "us-east", "delivery": "container"}),
            (1, "1.50", {"region": "us-east", "interconnect": "infiniband"}),
            (9, "2.50", {"region": "us-east"}),
        ):
            await cloud.ask(market.class_id, gpus, price, end="now+30d", **terms)
        await sign_in(page, await market.key_of("dev", "read", "trade", money="9000"))
        bid = {"quantity": "7", "price": "2.00", "duration": "10h", "region": "us-east", "min_fill": "1"}
        await write_order(page, **bid, start="now", delivery="vm", time_in_force="ioc")
        said = await place(page)
        us_east = "4 at $1.3000 (us-east, vm), 1 at $1.5000 (us-east, vm, infiniband)"
        assert said["Fills now"] == f"{us_east}: $67.00; 2 not at all"
        await expect(page.locator("#ticket-answer")).to_contain_text("4 at $1.3000: lse_")
        await expect(page.locator("#ticket-answer")).to_contain_text("1 at $1.5000: lse_")
        await expect(page.locator("header [data-balance=cash]")).to_have_text("$8,933.00")

        await write_order(page, quantity="3", price="2.00", min_fill="")
        said = await place(page)
        assert said["Fills now"].startswith(
            "nothing; 6 asks: 2 too small (the largest has 8 GPUs), 1 in another region"
        )
        await expect(page.locator("#ticket-answer")).to_contain_text("cancelled ioc_rest")


async def test_an_order_that_stands_is_cancelled(market: Market, screens: Screens) -> None:
    key = await market.key_of("patient", "read", "trade", money="1000")
    async with screens.open(class_view(market.class_id)) as page:
        await sign_in(page, key)
        await write_order(page, quantity="4", price="1.00", duration="10h", name="my first")
        assert (await place(page))["Fills now"] == "nothing; there are no asks"
        await expect(page.locator("#book-bids tr")).to_contain_text("1.0000")
        await own_row(page, "here", "40.00")
        await expect(page.locator("header [data-balance=cash]")).to_have_text("$960.00")
        await page.get_by_role("link", name="Orders and leases").click()
        await own_row(page, "orders", "my first")

        await page.locator("#orders-rows").get_by_role("button", name="Cancel").click()
        assert (await facts(page))["Comes back"] == "$40.00"
        await page.keyboard.press("Escape")
        await expect(page.locator("#orders-rows tr")).to_have_count(1)
        await page.locator("#orders-rows").get_by_role("button", name="Cancel").click()
        await page.get_by_role("button", name="Cancel the order").click()
        await expect(page.locator("#orders-none")).to_be_visible()
        await expect(page.locator("header [data-balance=cash]")).to_have_text("$1,000.00")


async def test_a_class_that_is_not_there_is_said_to_be_none(market: Market, screens: Screens) -> None:
    async with screens.open(class_view("NONE"), may_fail=True) as page:
        await expect(page.locator("#class-none")).to_be_visible()
        await page.goto(f"{market.url}/{class_view(market.class_id)}")
        await expect(page.locator("#class-none")).to_be_hidden()


async def test_what_is_wrong_is_said_and_nothing_is_placed(market: Market, screens: Screens) -> None:
    key = await market.key_of("poor", "read", "trade", money="10")
    async with screens.open(class_view(market.class_id), may_fail=True) as page:  # a refusal is an error on the console
        await sign_in(page, key)
        review, error = page.locator("#ticket-review"), page.locator("#ticket-error")
        for fields, words in (
            ({"quantity": "eight"}, "GPUs must be a whole number"),
            ({"quantity": "8", "price": "2,60"}, "'2,60' is not an amount in dollars"),
            ({"price": "2.60", "duration": "a day"}, "a day is no duration"),
            ({"duration": "24h", "start": "at"}, "say when it begins"),
        ):
            await write_order(page, **fields)
            await review.click()
            await expect(error).to_contain_text(words)
        await write_order(page, start="soon")
        await review.click()
        assert (await facts(page))["Free to use"] == "$10.00 now, $489.20 too little"
        await page.get_by_role("button", name="Place bid").click()
        await expect(error).to_contain_text("499.20")
        await page.locator("input[name=side][value=ask]").check()
        await expect(page.locator("#ticket-scope")).to_have_text("Your key may not supply.")
        await expect(review).to_be_disabled()


async def test_a_supplier_sells_and_delivers_and_a_buyer_accepts_and_ends(market: Market, screens: Screens) -> None:
    cloud = await market.key_of("cloud", "read", "supply", "meter")
    dev = await market.key_of("dev", "read", "trade", money="1000")
    async with (
        screens.open(class_view(market.class_id)) as selling,
        screens.open(class_view(market.class_id)) as buying,
    ):
        await sign_in(selling, cloud)
        await write_order(selling, "ask", quantity="8", price="2.00", duration="30d", region="us-east", lot="4")
        assert (await place(selling))["Brings in"] == "$11,520.00 if all of it is sold at that"
        await sign_in(buying, dev)
        tomorrow = (datetime.now(UTC) + timedelta(days=1)).strftime("%Y-%m-%dT%H:%M")
        await write_order(buying, quantity="4", price="2.00", duration="24h", start="at", at=tomorrow, region="us-east")
        assert (await place(buying))["From"] == f"{tomorrow}:00Z"
        await selling.get_by_role("link", name="Supply").click()
        await own_row(selling, "asks", market.class_id)
        await own_row(selling, "sold", "pending delivery")

        await selling.get_by_role("button", name="Deliver").click()
        await selling.get_by_label("How the buyer reaches").fill("ssh ubuntu@node-17.example")
        await selling.locator("#tell-yes").click()
        await own_row(selling, "sold", "delivered")
        await buying.get_by_role("link", name="Orders and leases").click()
        await own_row(buying, "leases", "ssh ubuntu@node-17.example")
        await buying.locator("#leases-rows").get_by_role("button", name="Accept").click()
        await buying.locator("#confirm-yes").click()
        await own_row(buying, "leases", "active")

        lease = (await buying.locator("#leases-rows th").inner_text()).strip()
        async with Exchange(market.url, cloud) as client:
            await client.report_usage([UsageReport(lease, 1, 0)])
        await buying.locator("#leases-rows").get_by_role("button", name="Usage").click()
        assert (await facts(buying))["1"].startswith("0.00 GPU-h by ")
        await buying.locator("#confirm-back").click()
        await buying.locator("#leases-rows").get_by_role("button", name="End").click()
        assert (await facts(buying))["In escrow"] == "$192.00"
        await buying.get_by_role("button", name="End the lease").click()
        await own_row(buying, "leases", "ended early")
        await expect(buying.locator("header [data-balance=cash]")).to_have_text("$1,000.00")
        await keep(selling, "supply")


NOW_AND_THEN_NEVER = f"""
const set = window.setInterval.bind(window);
window.setInterval = (work, ms) => (ms === {ANEW_MS} ? 0 : set(work, ms));
"""


async def test_what_becomes_of_a_lease_is_told_by_the_stream(market: Market, screens: Screens) -> None:
    """On a page that asks for nothing from time to time."""
    dev = await market.key_of("dev", "read", "trade", money="1000")
    async with market.trader("cloud") as cloud, screens.open("#/account") as page:
        await page.add_init_script(NOW_AND_THEN_NEVER)
        await page.reload()
        await sign_in(page, dev)
        await cloud.sell(market.class_id, gpus=2, price="2.00", hours=48)
        async with Exchange(market.url, dev) as client:
            await client.buy(market.class_id, gpus=2, hours=24, max_price="2.00")
            (lease,) = await client.leases()
            await own_row(page, "leases", "pending delivery")
            await cloud.deliver(lease.lease_id, "ssh ubuntu@node-17.example")
            await own_row(page, "leases", "ssh ubuntu@node-17.example")
            await client.accept(lease.lease_id)
            await own_row(page, "leases", "active")
            await cloud.degrade(lease.lease_id, 1, "a fan")
            await own_row(page, "leases", "degraded")
