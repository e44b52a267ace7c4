"""What a person has before them: the page in a window of some size, and what went wrong in it."""

import contextlib
import os
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import quote

from playwright.async_api import Browser, Page, expect

SOON_MS = 15_000
"""What takes longer has failed, on a machine that does much else, too."""
expect.set_options(timeout=SOON_MS)

WIDE = (1440, 900)
NARROW = (360, 740)

DOCS = "docs"
"""The view that describes the API."""


class Screens:
    """Opens the page of an exchange."""

    def __init__(self, browser: Browser, url: str) -> None:
        self._browser = browser
        self.url = url

    @contextlib.asynccontextmanager
    async def open(
        self,
        view: str = "",
        *,
        size: tuple[int, int] = WIDE,
        scheme: str = "dark",
        url: str = "",
        may_fail: bool = False,
    ) -> AsyncIterator[Page]:
        """The page in a browser of its own. Afterwards: nothing failed in it, and it asked nobody but the exchange.

        `may_fail` lets connections fail, for who cuts them.
        """
        url = url or self.url
        failures: list[str] = []
        context = await self._browser.new_context(
            viewport={"width": size[0], "height": size[1]}, color_scheme="light" if scheme == "light" else "dark"
        )
        context.set_default_timeout(SOON_MS)
        page = await context.new_page()
        page.on("pageerror", lambda error: failures.append(str(error)))
        page.on("console", lambda said: failures.append(said.text) if said.type == "error" and not may_fail else None)
        page.on("dialog", lambda dialog: failures.append(f"a dialog of the browser's: {dialog.message}"))
        page.on("request", lambda asked: None if asked.url.startswith(url) else failures.append(asked.url))
        await page.goto(f"{url}/{view}")
        if view != DOCS:  # which stands still
            await expect(page.locator("#stream-state")).to_contain_text("Live")
        yield page
        await context.close()
        assert not failures


def class_view(class_id: str) -> str:
    return f"#/class/{quote(class_id, safe='')}"


async def sign_in(page: Page, key: str) -> None:
    await page.get_by_role("button", name="Sign in").click()
    await page.get_by_label("API key").fill(key)
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("button", name="Sign out")).to_be_visible()


async def write_order(page: Page, side: str = "bid", **fields: str) -> None:
    """Writes an order on the ticket, as far as `fields` say."""
    await page.locator(f"input[name=side][value={side}]").check()
    for name, value in fields.items():
        field = page.locator(f"#ticket-form [name={name}]")
        if not await field.is_visible():
            await page.get_by_text("Terms", exact=True).first.click()
        if await field.evaluate("field => field.tagName") == "SELECT":
            await field.select_option(value)
        else:
            await field.fill(value)


async def place(page: Page) -> dict[str, str]:
    """Reviews the order and places it; what the review said, by its labels."""
    await page.locator("#ticket-review").click()
    said = await facts(page)
    await page.locator("#confirm-yes").click()
    await expect(page.locator("#confirm")).to_be_hidden()
    await expect(page.locator("#ticket-answer")).to_contain_text("ord_")
    return said


async def facts(page: Page) -> dict[str, str]:
    """What the page asks to confirm, or shows, by its labels."""
    await expect(page.locator("#confirm")).to_be_visible()
    labels = await page.locator("#confirm-facts dt").all_inner_texts()
    return dict(zip(labels, await page.locator("#confirm-facts dd").all_inner_texts(), strict=True))


async def keep(page: Page, name: str) -> None:
    """A picture of the screen, where somebody wants them: in `$OUT`."""
    if out := os.environ.get("OUT"):
        await page.screenshot(path=Path(out) / "page" / f"{name}.png", full_page=True)
