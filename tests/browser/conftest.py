"""A real Chromium before the page of a real exchange, both started once: each test has its own class and accounts."""

import contextlib
import itertools
import os
import shutil
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from msgspec import Struct
from playwright.async_api import Browser, async_playwright

from gateways.client import Exchange as Client
from tests.browser.screen import Screens
from tests.exchange_process import ExchangeProcess

NAMES = ("chromium", "chromium-browser", "google-chrome")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Runs this folder's tests in the one event loop that the browser lives in."""
    for item in items:
        if item.path.is_relative_to(os.path.dirname(__file__)):
            item.add_marker(pytest.mark.asyncio(loop_scope="session"), append=False)


class Market(Struct):
    """A class of its own on a running exchange."""

    url: str
    class_id: str
    admin: Client

    async def key_of(self, name: str, *scopes: str, money: str = "") -> str:
        """The key of a new account."""
        account = await self.admin.create_account(f"{name} of {self.class_id}", scopes=scopes)
        if money:
            await self.admin.deposit(account.account_id, money, reference=account.account_id)
        assert account.key is not None
        return account.key

    @contextlib.asynccontextmanager
    async def trader(self, name: str) -> AsyncIterator[Client]:
        """A new account with a million dollars that may do all but administer."""
        key = await self.key_of(name, "read", "trade", "supply", "meter", money="1000000")
        async with Client(self.url, key) as client:
            yield client


@pytest.fixture(scope="session")
def chromium() -> str:
    """The path of a Chromium. Skips where there is none; fails in CI, where this leg must run."""
    found = os.environ.get("CX_TEST_CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)
    if found is not None:
        return found
    reason = "no Chromium: apt-get install chromium, or say where one is with CX_TEST_CHROMIUM=/path/to/it"
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def browser(chromium: str) -> AsyncIterator[Browser]:
    sandbox = [] if os.geteuid() else ["--no-sandbox"]  # Chromium has none for root
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=chromium, args=sandbox)
        yield browser
        await browser.close()


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def running(chromium: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[ExchangeProcess]:
    """`cx up`, once there is a browser for it."""
    async with ExchangeProcess.running(tmp_path_factory.mktemp("exchange")) as process:
        yield process


_numbers = itertools.count(1)


@pytest_asyncio.fixture(loop_scope="session")
async def market(running: ExchangeProcess) -> AsyncIterator[Market]:
    async with Client(running.url, running.key) as admin:
        class_id = f"H100-TEST-{next(_numbers):03}"
        await admin.create_class(class_id, accelerator="H100", memory_gb=80, form_factor="SXM")
        yield Market(running.url, class_id, admin)


@pytest.fixture
def screens(browser: Browser, market: Market) -> Screens:
    """Screens on the exchange's page."""
    return Screens(browser, market.url)
