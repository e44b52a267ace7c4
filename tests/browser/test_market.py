"""What the page shows of the market, as it changes, and over a lost connection."""

import asyncio
import json

from playwright.async_api import CDPSession, Page, WebSocket, WebSocketRoute, expect

from gateways.client import Exchange
from tests.browser.conftest import Market
from tests.browser.proxy import wire
from tests.browser.screen import SOON_MS, Screens, class_view, keep

UPDATES = 40
UPDATES_PER_S = 10
FRAME_S = 1 / 60
PAINTED = """canvas => {
    const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
    return data.some((value) => value > 0);
}"""


async def trade(cloud: Exchange, dev: Exchange, market: Market, *prices: str) -> None:
    """One fill at each price."""
    for price in prices:
        await cloud.ask(market.class_id, 1, price, end="now+9d")
        await dev.bid(market.class_id, 1, price, duration="1h", min_fill=1, start="now", time_in_force="ioc")


async def numbers_on(page: Page) -> list[int]:
    """Of the fills that are shown, newest first."""
    found: list[str] = await page.locator("#fills-rows tr").evaluate_all("rows => rows.map(row => row.dataset.key)")
    return [int(each) for each in found]


async def test_what_changes_in_the_market_shows_at_once(market: Market, screens: Screens) -> None:
    async with (
        market.trader("cloud") as cloud,
        market.trader("dev") as dev,
        screens.open(class_view(market.class_id)) as page,
    ):
        asks, listed = page.locator("#book-asks tr"), page.locator("#markets-rows tr", has_text=market.class_id)
        await cloud.ask(market.class_id, 8, "2.50", end="now+30d")
        await expect(asks).to_have_text(["2.500088"])  # a price, 8 GPUs, 8 up to it
        await cloud.ask(market.class_id, 1_500, "2.40", end="now+2d")
        await expect(asks).to_have_text(["2.50008 1,508".replace(" ", ""), "2.40001,5001,500"])
        await dev.bid(market.class_id, 4, "1.25", duration="24h", min_fill=4, start="now+6h")
        await expect(page.locator("#book-bids tr")).to_have_text(["1.250044"])
        await expect(page.locator("#book-spread")).to_have_text("spread 1.1500")
        await expect(listed.locator(".bid")).to_have_text("1.2500 × 4")
        await expect(listed.locator(".ask")).to_have_text("2.4000 × 1,508")
        await expect(page.locator("#depth")).to_have_attribute("aria-label", "Depth: 1,508 GPUs on sale, 4 wanted")

        await page.locator("input[name=window][value='7d']").check()
        await expect(asks).to_have_text(["2.500088"])  # the other ask is too short for it

        await trade(cloud, dev, market, "2.00", "2.20")
        await expect(page.locator("#class-last")).to_have_text("2.2000")
        await expect(page.locator("#class-change")).to_have_text("+10.00 %")
        await expect(listed).to_contain_text("+10.00 %")
        await expect(page.locator("#fills-rows tr")).to_have_count(2)
        await expect(page.locator("#candle-read")).to_contain_text(
            "high 2.2000  low 2.0000  close 2.2000  2 GPU-h in 2 fills"
        )
        for chart in ("candles", "depth", "curve"):
            assert await page.locator(f"#{chart}").evaluate(PAINTED), chart
        await keep(page, "class")


async def test_a_lost_connection_goes_on_behind_what_it_knew(market: Market, screens: Screens) -> None:
    heard: list[dict[str, object]] = []

    def listen(socket: WebSocket) -> None:
        socket.on("framereceived", lambda frame: heard.append(json.loads(frame)))

    async with (
        market.trader("cloud") as cloud,
        market.trader("dev") as dev,
        wire(market.url) as cable,
        screens.open(class_view(market.class_id), url=cable.url, may_fail=True) as page,
    ):
        page.on("websocket", listen)
        await trade(cloud, dev, market, "2.00")
        await expect(page.locator("#fills-rows tr")).to_have_count(1)
        await cable.cut()
        await expect(page.locator("#stream-state")).to_contain_text("Connection lost")
        await keep(page, "connection_lost")
        await trade(cloud, dev, market, "2.01", "2.02", "2.03")
        await cloud.ask(market.class_id, 16, "3.00", end="now+30d")
        await cable.mend()
        await expect(page.locator("#stream-state")).to_contain_text("Live · back after")
        await expect(page.locator("#class-last")).to_have_text("2.0300")
        await expect(page.locator("#book-asks tr")).to_have_text(["3.00001616"])
        assert await numbers_on(page) == [4, 3, 2, 1]

        ours = [each for each in heard if each.get("class") == market.class_id]
        assert {each["type"] for each in ours if each["channel"] in ("fills", "depth")} == {"change"}
        assert int(await page.locator("#stream").get_attribute("data-resumed") or 0) >= 2
        await trade(cloud, dev, market, "2.04")
        await expect(page.locator("#class-last")).to_have_text("2.0400")


async def test_a_change_that_is_missing_or_wrong_is_noticed(market: Market, screens: Screens) -> None:
    """A wire that loses one change of the book and one fill, and falsifies another change of the book."""
    lost, falsified, fill_lost = asyncio.Event(), asyncio.Event(), asyncio.Event()

    def between(socket: WebSocketRoute) -> None:
        exchange = socket.connect_to_server()

        def pass_on(frame: str | bytes) -> None:
            text = str(frame)
            is_ours = '"channel":"depth"' in text and '"type":"change"' in text and market.class_id in text
            if '"channel":"fills"' in text and '"number":2,' in text and not fill_lost.is_set():
                fill_lost.set()
                return
            if is_ours and '"2.10"' in text and not lost.is_set():
                lost.set()
                return
            if is_ours and '"2.30"' in text and not falsified.is_set():
                falsified.set()
                text = text.replace("2.30", "9.30")
            socket.send(text)

        exchange.on_message(pass_on)

    async with (
        market.trader("cloud") as cloud,
        market.trader("dev") as dev,
        screens.open(class_view(market.class_id)) as page,
    ):
        await page.route_web_socket("**/v1/stream", between)
        await page.reload()
        asks = page.locator("#book-asks tr")
        await cloud.ask(market.class_id, 1, "2.00", end="now+30d")
        await expect(asks).to_have_count(1)
        await cloud.ask(market.class_id, 1, "2.10", end="now+30d")
        await asyncio.wait_for(lost.wait(), SOON_MS / 1_000)
        await expect(asks).to_have_count(1)
        await cloud.ask(market.class_id, 1, "2.20", end="now+30d")
        await expect(asks).to_have_text(["2.200013", "2.100012", "2.000011"])
        await cloud.ask(market.class_id, 1, "2.30", end="now+30d")
        await expect(asks).to_have_text(["2.300014", "2.200013", "2.100012", "2.000011"])
        assert falsified.is_set()

        await trade(cloud, dev, market, "1.00", "1.01")
        await asyncio.wait_for(fill_lost.wait(), SOON_MS / 1_000)
        await trade(cloud, dev, market, "1.02")
        await expect(page.locator("#fills-rows tr")).to_have_count(3)
        assert await numbers_on(page) == [3, 2, 1]


async def test_ten_updates_a_second_are_drawn_each_within_a_frame(market: Market, screens: Screens) -> None:
    async with (
        market.trader("cloud") as cloud,
        market.trader("dev") as dev,
        screens.open(class_view(market.class_id)) as page,
    ):
        await trade(cloud, dev, market, "2.00")
        await expect(page.locator("#fills-rows tr")).to_have_count(1)
        session = await page.context.new_cdp_session(page)
        await session.send("Performance.enable", {"timeDomain": "threadTicks"})
        before, began = await work(session), asyncio.get_running_loop().time()
        for number in range(UPDATES):
            await trade(cloud, dev, market, f"2.{number:02}")
            await asyncio.sleep(max(0.0, began + number / UPDATES_PER_S - asyncio.get_running_loop().time()))
        await expect(page.locator("#fills-rows tr")).to_have_count(1 + UPDATES)
        cpu_s, drawn = (now - then for now, then in zip(await work(session), before, strict=True))
        assert drawn >= UPDATES / 4
        assert cpu_s / drawn < FRAME_S, (
            f"{1_000 * cpu_s / drawn:.1f} ms of the main thread each time something is drawn"
        )


async def work(session: CDPSession) -> tuple[float, float]:
    """CPU seconds of the page's main thread so far, and how often something was drawn anew."""
    metrics = (await session.send("Performance.getMetrics"))["metrics"]
    found = {each["name"]: float(each["value"]) for each in metrics}
    return found["TaskDuration"], found["RecalcStyleCount"]
