"""The page's files over HTTP: what they are, who may load what, and how they are kept."""

import re
import subprocess
import sys
import zipfile
from pathlib import Path

import aiohttp
from yarl import URL

from gateways.web.routes import FOLDER, TYPES, assets
from tests.integration.conftest import Venue


async def test_the_page_comes_with_a_policy_that_lets_nothing_else_in(exchange: Venue) -> None:
    async with aiohttp.ClientSession() as http, http.get(f"{exchange.url}/") as answer:
        assert (answer.status, answer.content_type, answer.charset) == (200, "text/html", "utf-8")
        policy = dict(each.split(" ", 1) for each in answer.headers["Content-Security-Policy"].split("; "))
        assert policy["default-src"] == "'none'"
        assert {policy[f"{kind}-src"] for kind in ("script", "style", "connect", "img")} == {"'self'"}
        assert policy["frame-ancestors"] == policy["base-uri"] == policy["form-action"] == "'none'"
        assert answer.headers["X-Content-Type-Options"] == "nosniff"


async def test_a_file_is_kept_until_it_is_another(exchange: Venue) -> None:
    async with aiohttp.ClientSession(exchange.url) as http:
        for name in assets():
            path, url = FOLDER / name, f"/web/{name}"
            async with http.get(url) as first:
                assert await first.read() == path.read_bytes()
                assert first.content_type == TYPES[path.suffix]
                etag = first.headers["ETag"]
            for known in (etag, f'W/{etag}, "other"'):
                async with http.get(url, headers={"If-None-Match": known}) as again:
                    assert (again.status, await again.read(), again.headers["ETag"]) == (304, b"", etag)
            async with http.get(url, headers={"If-None-Match": '"other"'}) as other:
                assert other.status == 200
            async with http.head(url) as head:
                assert (head.status, int(head.headers["Content-Length"])) == (200, path.stat().st_size)


async def test_no_other_file_is_served(exchange: Venue) -> None:
    async with aiohttp.ClientSession() as http:
        for name in ("routes.py", "__init__.py", "..%2Froutes.py", "%2Fetc%2Fpasswd", "none.js"):
            async with http.get(URL(f"{exchange.url}/web/{name}", encoded=True)) as answer:
                assert answer.status == 404, name


def test_the_page_asks_no_other_host_and_makes_no_markup_of_text() -> None:
    for path in FOLDER.iterdir():
        if path.suffix in TYPES:
            text = path.read_text().replace("http://www.w3.org/2000/svg", "")
            assert not re.search(r"https?://", text), path.name
            assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b", text), path.name


def test_what_the_page_names_is_there() -> None:
    files = assets()
    html = files["index.html"].content.decode() + files["docs.html"].content.decode()
    named = re.findall(r'(?:href|src)="/web/([^"]+)"', html)
    for name, asset in files.items():
        if name.endswith(".js"):
            named += re.findall(r'from "\./([^"]+)"', asset.content.decode())
            for element in re.findall(r'byId\("([^"]+)"\)', asset.content.decode()):
                assert f'id="{element}"' in html, f"{name} wants #{element}"
    assert set(named) == set(files) - {"index.html", "docs.html"}


def test_the_distribution_has_the_page(tmp_path: Path) -> None:
    root = FOLDER.parents[1]
    subprocess.run([sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", tmp_path], cwd=root, check=True)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as packed:
        for name, asset in assets().items():
            assert packed.read(f"gateways/web/{name}") == asset.content
