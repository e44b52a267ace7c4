"""That the page can be trusted, read and used: by keyboard, in the dark, on a small screen, whatever names say."""

import random

import pytest
from playwright.async_api import Page, expect

from gateways.client import Exchange as Client
from schemas import units
from tests.browser.conftest import Market
from tests.browser.screen import DOCS, NARROW, WIDE, Screens, class_view, keep, place, sign_in, write_order
from tests.integration.test_api_forms import ANYTHING, MONEY

HOSTILE = "<img src=x onerror=alert(1)>&lt;\"'#%41?"
VIEWS = {"class": "", "account": "#/account", "supply": "#/supply"}

FAINT = r"""() => {
    // WCAG 2.2, 1.4.3: text against what is behind it, layers of colour put one on the other.
    const parse = (text) => {
        const [r, g, b, a = 1] = text.match(/[\d.]+/g).map(Number);
        return [r, g, b, a];
    };
    const over = ([r, g, b, a], behind) => [r, g, b].map((each, place) => each * a + behind[place] * (1 - a));
    const light = (colour) => {
        const linear = (part) => (part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4);
        const [r, g, b] = colour.map((each) => linear(each / 255));
        return 0.2126 * r + 0.7152 * g + 0.0722 * b;
    };
    const ground = (element) => {
        const layers = [];
        for (let each = element; each; each = each.parentElement) {
            const style = getComputedStyle(each);
            const wash = style.backgroundImage.match(/rgba?\([^)]*\)/);
            if (wash) layers.push(parse(wash[0]));
            layers.push(parse(style.backgroundColor));
        }
        return layers.reverse().reduce((behind, layer) => over(layer, behind), [255, 255, 255]);
    };
    const found = [];
    const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    while (texts.nextNode()) {
        const element = texts.currentNode.parentElement;
        const text = texts.currentNode.textContent.trim();
        const seen = element.checkVisibility({ visibilityProperty: true }) && !element.closest(":disabled, noscript");
        if (!text || !seen) continue;
        const style = getComputedStyle(element);
        const behind = ground(element);
        const lights = [light(over(parse(style.color), behind)), light(behind)].sort((a, b) => b - a);
        const ratio = (lights[0] + 0.05) / (lights[1] + 0.05);
        const size = parseFloat(style.fontSize);
        const large = size >= 24 || (size >= 18.66 && style.fontWeight >= 700);
        if (ratio < (large ? 3 : 4.5)) found.push(`${text}: ${ratio.toFixed(2)}`);
    }
    return found;
}"""
CUT_OFF = """() => [...document.querySelectorAll("body *")]
    .filter((each) => each.checkVisibility() && each.getBoundingClientRect().right > innerWidth + 1)
    .filter((each) => !each.closest(".skip, legend, .tape .scroll"))
    .map((each) => each.id || each.className || each.tagName)"""
FOCUSED = "() => document.activeElement.id || document.activeElement.textContent.trim()"


async def furnish(market: Market, page: Page, name: str = "") -> None:
    """Signs in somebody who has a bid, an ask, and leases on both sides of the market."""
    key = await market.key_of("somebody", "read", "trade", "supply", money="9000")
    async with market.trader("other") as other:
        await sign_in(page, key)
        await write_order(page, "ask", quantity="8", price="2.00", duration="30d", name=name)
        await place(page)
        await other.bid(market.class_id, 2, "2.00", duration="24h", min_fill=2, start="now+1h")
        await other.ask(market.class_id, 4, "1.50", end="now+9d")
        await write_order(page, "bid", quantity="4", price="1.50", duration="24h")
        await place(page)
        await write_order(page, "bid", quantity="1", price="1.00")
        await place(page)


async def test_what_names_say_is_text_and_nothing_else(market: Market, screens: Screens) -> None:
    market.class_id = HOSTILE + market.class_id[-3:]
    await market.admin.create_class(market.class_id, accelerator="H100", memory_gb=80, form_factor="SXM")
    async with screens.open() as page:
        await page.get_by_role("link", name=market.class_id, exact=True).click()
        await expect(page.locator("#class-name")).to_have_text(market.class_id)
        await furnish(market, page, name=HOSTILE)
        await page.get_by_role("link", name="Supply").click()
        row = page.locator("#asks-rows tr").first
        await expect(row.locator(".name")).to_have_text(HOSTILE)
        await expect(row.get_by_role("link")).to_have_text(market.class_id)
        await row.get_by_role("link").click()
        await expect(page.locator("#class-name")).to_have_text(market.class_id)
        assert await page.locator("img, [onerror], body script").count() == 0
        await keep(page, "hostile_names")


async def test_the_browser_refuses_what_the_page_would_never_do(market: Market, screens: Screens) -> None:
    async with screens.open(may_fail=True) as page:
        markup = (
            "() => { try { document.body.innerHTML = '<b>x</b>'; return 'done' } catch (error) { return error.name } }"
        )
        assert await page.evaluate(markup) == "TypeError"
        inline = """() => {
            document.body.setAttribute("style", "opacity: 0");
            return getComputedStyle(document.body).opacity;
        }"""
        assert await page.evaluate(inline) == "1"
        assert (
            await page.evaluate("() => fetch('http://127.0.0.1:9/').then(() => 'done', () => 'refused')") == "refused"
        )


async def test_the_newest_of_many_keys_may_do_what_it_may(market: Market, screens: Screens) -> None:
    key = await market.key_of("collector", "read", "trade")
    async with Client(market.url, key) as collector:
        for _ in range(100):
            newest = await collector.create_key(["read", "trade"])
    assert newest.key is not None
    async with screens.open() as page:
        await sign_in(page, newest.key)
        await page.get_by_role("link", name=market.class_id, exact=True).click()
        await expect(page.locator("#ticket-review")).to_be_enabled()


async def test_money_on_the_page_is_reckoned_as_in_the_exchange(market: Market, screens: Screens) -> None:
    draw = random.Random(7)
    cases = [
        (
            draw.randint(1, 10_000_000_000),
            draw.randint(1, 65_536),
            draw.randint(1, 525_600) * 60_000,
            draw.randint(0, 1_000),
        )
        for _ in range(300)
    ]
    reckon = """async cases => {
        const { cost, formatUsd, hold, microUsd } = await import("/web/money.js");
        return cases.map((each) => {
            const [price, gpus, ms, fee] = each.map(BigInt);
            const held = formatUsd(hold(price, gpus, ms, fee)).replaceAll(",", "");
            return [held, String(cost(price, gpus, ms)), String(microUsd(held))];
        });
    }"""
    async with screens.open() as page:
        for (price, gpus, ms, fee), reckoned in zip(cases, await page.evaluate(reckon, cases), strict=True):
            held = units.hold(price, gpus, ms, fee)
            assert reckoned == [units.format_usd(held), str(units.cost(price, gpus, ms)), str(held)]


async def test_money_is_read_on_the_page_as_by_the_exchange_and_refused_in_its_words(screens: Screens) -> None:
    read = """async texts => {
        const { parseUsd } = await import("/web/money.js");
        const read = (text) => { try { return String(parseUsd(text)); } catch (error) { return error.message; } };
        return texts.map(read);
    }"""
    texts = [text for text in (*ANYTHING, *MONEY) if "'" not in text and text.isprintable()]
    async with screens.open() as page:
        for text, told in zip(texts, await page.evaluate(read, texts), strict=True):
            assert told == as_read(text)


def as_read(text: str) -> str:
    try:
        return str(units.parse_usd(text))
    except ValueError as error:
        return str(error)


async def test_the_keyboard_is_enough(market: Market, screens: Screens) -> None:
    key = await market.key_of("typist", "read", "trade", money="100")
    async with market.trader("cloud") as cloud, screens.open() as page:
        await cloud.sell(market.class_id, gpus=2, price="1.00", hours=720)
        press = page.keyboard.press

        async def tab_to(wanted: str) -> None:
            for _ in range(60):
                await press("Tab")
                if await page.evaluate(FOCUSED) == wanted:
                    outline = "() => getComputedStyle(document.activeElement).outlineStyle"
                    assert await page.evaluate(outline) != "none", f"{wanted} does not show that it has the focus"
                    return
            raise AssertionError(f"no way to {wanted}")

        await tab_to("To the content")
        await press("Enter")
        await tab_to("markets-filter")
        await page.keyboard.type(market.class_id)
        await tab_to(market.class_id)
        await press("Enter")
        await expect(page.locator("#class-name")).to_have_text(market.class_id)
        await page.reload()
        await tab_to("sign-in-open")
        await press("Enter")
        await page.keyboard.type(key)
        await press("Enter")
        await expect(page.get_by_role("button", name="Sign out")).to_be_visible()

        await page.locator("[name=quantity]").focus()
        await press("Control+A")
        await page.keyboard.type("2")
        await press("Tab")
        await page.keyboard.type("1.00")
        await press("Enter")
        await expect(page.locator("#confirm-yes")).to_be_focused()
        await press("Escape")
        await expect(page.locator("#confirm")).to_be_hidden()
        await expect(page.locator("[name=price]")).to_be_focused()
        await press("Enter")
        await expect(page.locator("#confirm-yes")).to_be_focused()
        await press("Enter")
        await expect(page.locator("#ticket-answer")).to_contain_text("filled")

        await page.locator("input[name=window][value='24h']").focus()
        await press("ArrowRight")
        await expect(page.locator("#book-window")).to_have_text("7d from now")
        await page.locator("#candles").focus()
        await press("ArrowLeft")
        await expect(page.locator("#candle-read")).to_contain_text("close 1.0000")


@pytest.mark.parametrize("scheme", ["dark", "light"])
async def test_all_can_be_read_in_the_dark_and_in_the_light(market: Market, screens: Screens, scheme: str) -> None:
    async with screens.open(class_view(market.class_id), scheme=scheme) as page:
        ground = "() => getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number)[0]"
        assert (await page.evaluate(ground) < 128) == (scheme == "dark")
        await furnish(market, page)
        await page.locator("#ticket-review").click()
        await expect(page.locator("#confirm")).to_be_visible()
        assert not await page.evaluate(FAINT)
        await page.keyboard.press("Escape")
        for name, view in VIEWS.items():
            await page.goto(f"{market.url}/{view or class_view(market.class_id)}")
            await expect(page.locator(f"#{name}")).to_be_visible()
            await page.wait_for_timeout(900)  # until no figure is marked as changed
            assert not await page.evaluate(FAINT), name
            await keep(page, f"{name}_{scheme}")


async def test_a_narrow_screen_needs_no_sideways_scrolling(market: Market, screens: Screens) -> None:
    async with screens.open(size=NARROW) as page:
        await expect(page.locator("#markets-rows tr").first).to_be_visible()
        await expect(page.locator("#class")).to_be_hidden()
        assert not await page.evaluate(CUT_OFF)
        await keep(page, "markets_narrow")
        await page.get_by_role("link", name=market.class_id, exact=True).click()
        await furnish(market, page)
        for name, view in VIEWS.items():
            await page.goto(f"{market.url}/{view or class_view(market.class_id)}")
            await expect(page.locator(f"#{name} tbody tr").first).to_be_visible()
            assert await page.evaluate("() => document.documentElement.scrollWidth <= innerWidth"), name
            assert not await page.evaluate(CUT_OFF), name
            await keep(page, f"{name}_narrow")
        await page.set_viewport_size({"width": WIDE[0], "height": WIDE[1]})
        await page.goto(f"{market.url}/{class_view(market.class_id)}")
        await expect(page.locator("#markets")).to_be_visible()


async def test_the_api_is_described_to_people(market: Market, screens: Screens) -> None:
    async with screens.open(DOCS) as page:
        await expect(page.locator("#routes details#place_bid")).to_be_visible()
        assert await page.locator("#routes details").count() > 90
        await page.locator("#filter").fill("of-everybody")
        await expect(page.locator("#routes details:visible")).to_have_count(1)
        await page.locator("#filter").fill("post /v1/bids")
        await page.get_by_text("POST /v1/bids", exact=True).click()
        bid = page.locator("details#place_bid")
        await expect(bid).to_contain_text("a key with the scope trade")
        await expect(bid.locator("pre")).to_contain_text('"class": "H100-SXM-80GB"')
        await expect(bid).to_contain_text("dollars per GPU-hour as a decimal string")
        await expect(bid).to_contain_text("402 Payment Required")
        await keep(page, "docs")
