"""What the API takes is what it says that it takes: every parameter and field of every route, each with values that are
nearly right, held against the description by a JSON Schema validator. Nothing here is random."""

import contextlib
import json
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any
from urllib.parse import quote, urlencode

import jsonschema_rs
import pytest
from litestar import Litestar
from msgspec import Struct
from prometheus_client import CollectorRegistry

from gateways.api import parameters
from gateways.api.app import Exchange, create_app
from gateways.api.document import described
from gateways.api.errors import ApiError
from gateways.api.limits import Rate, Rates
from gateways.api.server import serve
from gateways.api.vault import Vault, new_vault_secret
from gateways.client import Exchange as Client
from gateways.log.embedded import EmbeddedLog
from gateways.market_data.replica import Replica
from gateways.market_data.tape import Tape
from matching_engine import checks
from schemas import units
from settlement.service import SettlementService
from settlement.store import Store
from tests.integration.conftest import CLASS, admin_key, engines, running
from tests.integration.test_api_doors import example_value, routes

ANYTHING = (
    *("", " ", "null", "true", "x", "ä", "😀", "\0", "a\0b", "\n", "\x7f", "\u202e", "%00", ".", "..", "a/b", "'"),
    *(
        "0",
        "-0",
        "00",
        "1",
        "+1",
        "-1",
        " 1",
        "1 ",
        "1\n",
        "01",
        "1_0",
        "0x1",
        "1.0",
        "1e3",
        "1e-05",
        "1.",
        ".5",
        "1,0",
    ),
    *("١", "９", "²", "nan", "NaN", "inf", "-Infinity", "9" * 18, "9" * 19, "9" * 30, str(2**63 - 1), str(2**63)),
    *("x" * 32, "x" * 33, "x" * 64, "x" * 65, "x" * 5_000),
)
TIMES = (
    *("2026-11-24T03:00:00Z", "2026-11-24T03:00:00.5Z", "2026-11-24T03:00:00.123456Z", "2026-11-24T03:00:00.1234567Z"),
    *("2026-11-24t03:00:00Z", "2026-11-24T03:00:00z", "2026-11-24 03:00:00Z", "2026-11-24T03:00Z", "2026-11-24T03Z"),
    *("2026-11-24T03:00:00", "2026-11-24", "20261124T030000Z", "2026-W48-2T03:00:00Z", "2026-328T03:00:00Z"),
    *("2026-11-24T03:00:00,5Z", "2026-11-24T03:00:00+14:00", "2026-11-24T03:00:00-23:59", "2026-11-24T03:00:00+24:00"),
    *("2026-11-24T03:00:00+0100", "2026-11-24T03:00:00+01", "2026-11-24T03:00:00-00:00", "2026-11-24T24:00:00Z"),
    *("2026-11-24T03:00:00+01:00:30", "2026-11-24T23:59:60Z", "2026-11-31T03:00:00Z", "2026-02-29T00:00:00Z"),
    *("2028-02-29T00:00:00Z", "2100-02-29T00:00:00Z", "2000-02-29T00:00:00Z", "0000-01-01T00:00:00Z", "now", "Now"),
    *("0001-01-01T00:00:00Z", "1969-12-31T23:59:59Z", "1970-01-01T00:00:00Z", "1970-01-01T00:00:00+01:00", "now+1h"),
    *("9999-12-31T23:59:59.999Z", "9999-12-31T23:59:59-23:59", "10000-01-01T00:00:00Z", "٢٠٢٦-11-24T03:00:00Z"),
    *(
        "now-1h",
        "now+",
        "now +1h",
        "now+1h ",
        "now+-1h",
        "now+99999d",
        "2026-11-24T03:00:00Z\n",
        "2026-11-24T03:00:01Z",
    ),
)
DAYS = (
    *("2026-11-24", "2026-11-31", "2026-1-1", "2026-13-01", "1969-12-31", "1970-01-01", "9999-12-31", "2028-02-29"),
    *(
        "2026-02-29",
        "20261124",
        "2026-W48-2",
        "2026-11",
        "2026-13",
        "2026-00",
        "2026-1",
        "1969-12",
        "1970-01",
        "9999-12",
    ),
    *("9998-12", "２026-11", "2026-11 ", "2026-11-24\n"),
)
DURATIONS = (
    *("24h", "1d2h30m", "90m", "7d", "1h1d", "1h1h", "1.5h", "90", "1H", "h", "-1h", "+1h", "1w", "1s", "1 h", "24h "),
    *("0m", "0h", "99999d", "100000d", "999999h", "99999999m", "100000000m", "１h", "24h\n"),
)
IDS = tuple(
    f"{prefix}_{rest}"
    for prefix in ("acc", "ord", "lse", "evt", "ORD", "key")
    for rest in (
        *("0", "1", "2", "01", "00", "zz", "7k2", "i", "A", "-1", "", "1-0", "7k2-0", "1-00", "1-", "1-999999999"),
        *(
            "1-9999999999",
            "7zzzzzzzzzzzz",
            "8000000000000",
            "zzzzzzzzzzzz",
            "fffffffffff",
            "1-0.1",
            "1.0",
            "1:x",
            "9" * 18,
        ),
    )
)
MONEY = (
    *("2.60", "0.0001", "-0", "-1", "-2.60", "1.123456", "1.1234567", "1,000", "$1", "€1", "٣", "1 ", "2.60\n", "--1"),
    *("999999999999.999999", "-999999999999.999999", "1000000000000", "-9999999999999", "1e3", "1_0", "0x10"),
)
CURSORS = (
    *(f"gold:{time}" for time in TIMES),
    *("acc_2:nov-1", "acc_02:nov-1", "acc_2:", ":nov-1", "1.2.3", "-1.2.-3", "1.2", "1..2", "1.2.3.4", "01.2.3"),
    *("9999999999999999999.1.1", "999999999999999999.999999999.999999999999999999", "evt_7", "evt_0", "evt_07"),
)
TEXTS = ANYTHING + TIMES + DAYS + DURATIONS + IDS + MONEY + CURSORS
NUMBERS = (
    0,
    -1,
    1,
    2,
    65_537,
    2**53 + 1,
    2**63 - 1,
    2**63,
    -(2**63),
    -(2**63) - 1,
    10**30,
    1.5,
    "1",
    "",
    True,
    None,
    [1],
)
OTHER_TYPES: tuple[Any, ...] = (None, True, 0, 1.5, "", [], {}, [None], {"x": 1})


def variants(text: str) -> tuple[str, ...]:
    """Nearly the same."""
    return (
        text,
        text.upper(),
        text.title(),
        f" {text}",
        f"{text} ",
        f"{text}\n",
        f"{text}\0",
        f"{text},{text}",
        f"{text},",
    )


def texts_for(shape: Any) -> Iterator[str]:
    """For a parameter, or a field that is a text."""
    known = [str(each) for each in (*shape.get("enum", ()), *shape.get("examples", ()))]
    yield from dict.fromkeys((*(near for each in known for near in variants(each)), *TEXTS))


class Judge:
    """Whether an instance is in a shape of the description."""

    def __init__(self, document: Any) -> None:
        self._components = document["components"]
        self._known: dict[str, jsonschema_rs.Draft202012Validator] = {}

    def __call__(self, shape: Any, instance: Any) -> bool:
        name = json.dumps(shape, sort_keys=True)
        if name not in self._known:
            whole = {"components": self._components, "allOf": [shape]}
            self._known[name] = jsonschema_rs.Draft202012Validator(whole)
        return self._known[name].is_valid(instance)


def meant(shape: Any, text: str) -> Any:
    """What a parameter's text says, as JSON."""
    if shape["type"] == "string":
        return text
    try:
        value = json.loads(text, parse_constant=str, parse_float=str if shape["type"] == "integer" else None)
    except ValueError:
        return text
    return value if text.strip() == text and not isinstance(value, bool) else text


class Forms(Struct):
    """An API that runs, what it says of itself, and something of each kind that there is."""

    app: Litestar
    document: Any
    judge: Judge
    key: str
    values: dict[str, str]
    """Of parameters and fields, by their names."""
    tried: set[str] = set()
    """Forms of texts that were tried with all that there is to try."""

    async def ask(self, method: str, path: str, *, query: str = "", body: Any = None) -> tuple[int, Any]:
        """The status of the answer, and its body."""
        sent = b"" if body is None else json.dumps(body).encode()
        scope: Any = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "1.1",
            "method": method,
            "scheme": "http",
            "path": path,
            "raw_path": quote(path).encode(),
            "root_path": "",
            "query_string": query.encode(),
            "headers": [(b"authorization", f"Bearer {self.key}".encode()), (b"content-type", b"application/json")],
            "client": ("127.0.0.1", 1),
            "server": ("127.0.0.1", 2),
            "state": {},
        }
        parts: list[bytes] = []
        status = 0

        async def receive() -> Any:
            return {"type": "http.request", "body": sent, "more_body": False}

        async def send(message: Any) -> None:
            nonlocal status
            status = message.get("status", status)
            parts.append(message.get("body", b""))

        await self.app(scope, receive, send)
        return status, b"".join(parts)

    async def answer(self, method: str, url: str, operation: Any, *, query: str = "", body: Any = None) -> Any:
        """(status, what it says), which is held against the description; of several items those of the first."""
        status, content = await self.ask(method, url, query=query, body=body)
        told = operation["responses"][str(status)]
        if "$ref" in told:
            told = self.document["components"]["responses"][told["$ref"].rpartition("/")[2]]
        if "content" not in told:
            assert not content, f"{method} {url}: {content!r}"
            return status, {}
        said = json.loads(content)
        shape = told["content"]["application/json"]["schema"]
        assert self.judge(shape, said), f"{method} {url} is answered by {said}, which is not as described"
        if (method, url) in EACH_FOR_ITSELF and status == 200:
            (said, *_) = said["answers"]
            status = said["status"] if isinstance(said["status"], int) else 200
        return status, said

    def operations(self) -> Iterator[tuple[str, str, Any]]:
        """(method, path, operation), those that end things last."""
        listed = [
            (method.upper(), path, operation)
            for path, methods in self.document["paths"].items()
            for method, operation in methods.items()
        ]
        return iter(sorted(listed, key=lambda each: (each[0] == "DELETE", each[1])))

    def example(self, shape: Any, name: str = "") -> Any:
        """One that is in the shape, and of something that is there."""
        if name in self.values:
            return self.values[name]
        shape = self.resolved(shape)
        if "anyOf" in shape:
            return self.example(shape["anyOf"][0], name)
        if shape.get("type") == "object":
            return {each: self.example(shape["properties"][each], each) for each in shape.get("required", ())}
        if shape.get("type") == "array":
            return [self.example(shape["items"])]
        return example_value(shape, self.document)

    def resolved(self, shape: Any) -> Any:
        while "$ref" in shape:
            shape = self.document["components"]["schemas"][shape["$ref"].rpartition("/")[2]]
        return shape

    def wrong_ones(self, shape: Any, base: Any) -> Iterator[tuple[str, Any]]:
        """(place, body): `base`, which is in the shape, with one place after the other as it should be or not."""
        shape = self.resolved(shape)
        if "anyOf" in shape:
            for kind in shape["anyOf"]:
                if kind.get("type") != "null":
                    yield from self.wrong_ones(kind, base if self.judge(kind, base) else self.example(kind))
            return
        yield from (("", each) for each in OTHER_TYPES)
        match shape.get("type"):
            case "object":
                yield "nonsense", {**base, "nonsense": 1}
                for name, inner in shape.get("properties", {}).items():
                    yield name, {each: value for each, value in base.items() if each != name}
                    start = base.get(name)
                    start = self.example(inner, name) if start is None else start
                    for place, value in self.wrong_ones(inner, start):
                        yield f"{name}.{place}", {**base, name: value}
            case "array":
                yield "many", base[:1] * (shape.get("maxItems", 999) + 1)
                yield from ((f"0.{place}", [value]) for place, value in self.wrong_ones(shape["items"], base[0]))
            case "integer":
                edges = [shape[name] for name in ("minimum", "maximum") if name in shape]
                yield from (("", each) for each in NUMBERS)
                yield from (("", edge + by) for edge in edges for by in (-1, 0, 1))
            case "string":
                assert not self.judge(shape, "a\0b"), f"{shape} may have a zero byte"
                form = json.dumps([shape.get("pattern"), shape.get("enum")])
                step = 5 if form in self.tried else 1  # one parser reads them all, where it is asked
                self.tried.add(form)
                yield from (("", text) for text in [*texts_of_body(shape)][::step])


def texts_of_body(shape: Any) -> Iterator[str]:
    """A part of those for parameters: what is like the form, and the rest of it."""
    pattern = shape.get("pattern", "")
    pools = {"T(": TIMES, "d)?": DURATIONS, "_(0|": IDS, "{1,12}([": MONEY}
    near = [text for mark, pool in pools.items() if mark in pattern for text in pool]
    wanted = {*ANYTHING, *near, *(str(each) for each in shape.get("examples", ()))}
    return (text for text in texts_for(shape) if text in wanted or text.strip(" ,\n\0") in shape.get("enum", ()))


def api_of(log: EmbeddedLog, store: Store, books: Replica, tape: Tape) -> Exchange:
    without_end = Rate(1_000_000, 1_000_000)
    return Exchange(
        log=log,
        store=store,
        books=books,
        standings=books,
        tape=tape,
        vault=Vault([new_vault_secret()]),
        checks=checks,
        registry=CollectorRegistry(),
        rates=Rates(without_end, without_end, without_end),
    )


@pytest.fixture
async def forms(embedded_log: EmbeddedLog, store: Store) -> AsyncIterator[Forms]:
    log = embedded_log
    books, tape = Replica(log), Tape(log)
    api = api_of(log, store, books, tape)
    app = create_app(api)
    document = json.loads(described(app))
    async with running([*engines(log), SettlementService(log, store), books, tape, api]), serve(app) as server:
        key = await admin_key(store, log)
        async with Client(server.url, key) as admin:
            values = await something_of_each(admin, server.url)
        yield Forms(app, document, Judge(document), key, values)


async def something_of_each(admin: Client, url: str) -> dict[str, str]:
    await admin.create_class(CLASS, accelerator="H100", memory_gb=80, form_factor="SXM")
    await admin.deposit("acc_1", "100000", reference="first")
    other = await admin.create_account("other", scopes=["read", "trade", "supply"])
    assert other.key is not None
    async with Client(url, other.key) as client:
        await client.sell(CLASS, gpus=64, price="2.50", hours=720)
        bought = await admin.buy(CLASS, gpus=8, hours=24, max_price="2.60")
    standing = await admin.buy(CLASS, gpus=8, hours=24, max_price="1.00", client_order_id="standing")
    assert bought.fills
    assert standing.order_id is not None
    return {
        "account_id": other.account_id,
        "class": CLASS,
        "class_id": CLASS,
        "client_order_id": "standing",
        "lease_id": bought.fills[0].lease_id,
        "order_id": standing.order_id,
        "key_id": "2",
        "webhook_id": "1",
    }


async def test_parameters_are_held_to_what_is_said_of_them(embedded_log: EmbeddedLog, store: Store) -> None:
    """Every parameter of every route, by itself."""
    app = create_app(api_of(embedded_log, store, Replica(embedded_log), Tape(embedded_log)))
    document = json.loads(described(app))
    judge = Judge(document)
    differ = []
    held = set()
    for method, path, handler in routes(app):
        if path in parameters.HIDDEN or method == "HEAD":
            continue
        said = {
            each["name"]: each["schema"]
            for each in document["paths"][path][method.lower()]["parameters"]
            if "name" in each
        }
        checked = parameters.checks_of(path, handler)
        assert said.keys() == checked.keys()
        for name, shape in said.items():
            assert shape["type"] != "string" or not judge(shape, "a\0b"), f"{path} {name} may have a zero byte"
            if (form := json.dumps(shape)) in held:
                continue
            held.add(form)
            differ += [
                (path, name, text[:80])
                for text in texts_for(shape)
                if judge(shape, meant(shape, text)) != taken(checked[name], text)
            ]
    assert not differ
    assert len(held) > 30


def taken(check: Callable[[str], None], text: str) -> bool:
    with contextlib.suppress(ApiError):
        check(text)
        return True
    return False


EACH_FOR_ITSELF = {("POST", "/v1/orders/batch"), ("POST", "/v1/orders/cancel"), ("POST", "/v1/usage")}
"""Whose answer has an answer for each item."""
MOST_OF_A_PLACE = 6
"""Bodies that are as they should be, as such a request takes as long as fifty others."""


BEYOND_WORDS = {
    "addresses": "an address or a network",
    "connection": "printable characters, like the next",
    "destination": "",
    "ed25519": "a point of the curve",
    "expires_at": "still to come, and within some years",
    "measured_at": "",
    "not_after": "within a day",
    "proof": "printable characters, like the next",
    "provider_reference": "",
    "reason": "",
    "public_key": "a key that SSH reads",
    "start": "one of start and starts",
    "starts": "",
    "until": "one of until and seconds",
    "url": "a URL, of a host that is public",
}
"""Fields of which the description cannot say all that is wrong with them."""
ONE_OF_TWO = {("PUT", "/v1/dead-man"), ("POST", "/v1/orders/cancel")}


async def test_cursors_and_bodies_are_taken_where_they_are_as_described_and_only_there(forms: Forms) -> None:
    """First all that should be refused, and so changes nothing; then what should not, whatever it comes to."""
    await lists_go_on(forms)
    await parameters_in_their_form_are_read(forms)
    await the_largest_is_as_described(forms)
    differ: list[str] = []
    later: list[tuple[Any, str, str, str, Any]] = []
    wrong = 0

    async def ask(operation: Any, method: str, url: str, place: str, body: Any, *, in_form: bool) -> None:
        status, said = await forms.answer(method, url, operation, body=body)
        error = said.get("error")
        names = place.split(".")
        if in_form:
            beyond = BEYOND_WORDS.keys() & {*names} or (method, url) in ONE_OF_TWO
            as_it_should = status < 500 and (status != 400 or beyond)
        else:
            as_it_should = status == 400 or (status in (404, 422) and error["field"].rpartition(".")[2] in names)
        if not as_it_should:
            differ.append(f"{method} {url} {place}: {status} {error} of {json.dumps(body)[:400]}")

    for method, path, operation in forms.operations():
        if "requestBody" not in operation:
            continue
        shape = operation["requestBody"]["content"]["application/json"]["schema"]
        named = {each["name"]: each["schema"] for each in operation["parameters"] if each.get("in") == "path"}
        url = path.format(**{name: forms.example(each, name) for name, each in named.items()})
        base = forms.example(shape)
        assert forms.judge(shape, base), f"{method} {path}: {base}"
        right: defaultdict[str, list[Any]] = defaultdict(list)
        for place, body in [("", base), *forms.wrong_ones(shape, base)]:
            if forms.judge(shape, body):
                right[place].append(body)
            else:
                wrong += 1
                await ask(operation, method, url, place, body, in_form=False)
        for place, bodies in right.items():
            step = -(-len(bodies) // MOST_OF_A_PLACE)
            later += [(operation, method, url, place, body) for body in bodies[::step]]
    for each in later:
        await ask(*each, in_form=True)
    assert not differ, "\n".join(differ)
    assert wrong > 3_000
    assert len(later) > 500


async def lists_go_on(forms: Forms) -> None:
    """Every list takes the cursor that it gives, and its one answer of one item is as described."""
    gone_on = set()
    for method, path, operation in forms.operations():
        named = {each["name"]: each for each in operation["parameters"] if "name" in each}
        if method != "GET" or not {"after", "limit"} <= named.keys():
            continue
        needed = {name: forms.example(each["schema"], name) for name, each in named.items() if each["required"]}
        url = path.format(**needed)
        asked = {name: value for name, value in needed.items() if named[name]["in"] == "query"} | {"limit": 1}
        after = None
        for _ in range(3):
            query = urlencode(asked | ({} if after is None else {"after": after}))
            status, said = await forms.answer(method, url, operation, query=query)
            assert status == 200 or after is None, f"{url}?{query}: {said}"
            after = said.get("next") if status == 200 else None
            if after is None:
                break
            gone_on.add(path)
    assert len(gone_on) >= 10, gone_on


MOST_OF_A_PARAMETER = 16
BEYOND_A_PATTERN = {
    ("/v1/entries", "after"),
    ("/v1/fills", "after"),
    ("/v1/spend", "after"),
    ("/v1/spend", "from"),
    ("/v1/spend", "until"),
    ("/v1/suppliers", "since"),
    ("/v1/suppliers", "until"),
    ("/v1/suppliers/{account_id}/record", "since"),
    ("/v1/suppliers/{account_id}/record", "until"),
    ("/v1/usage", "after"),
    ("/v1/usage", "from"),
    ("/v1/usage", "lease_id"),
    ("/v1/usage", "until"),
}
"""Parameters of which the description cannot say all: cursors that the list gave, and times that go with another."""


async def parameters_in_their_form_are_read(forms: Forms) -> None:
    """By the handler, whatever it finds: what it refuses beyond their form, the description does not say."""
    differ = []
    read = 0
    for method, path, operation in forms.operations():
        named = {each["name"]: each for each in operation["parameters"] if "name" in each}
        needed = {name: forms.example(each["schema"], name) for name, each in named.items() if each["required"]}
        if method != "GET" or "application/json" not in operation["responses"]["200"]["content"]:
            continue
        for name in named.keys() - {"wait_s"}:
            shape = named[name]["schema"]
            near = TIMES + CURSORS if "T(" in shape.get("pattern", "") else ()
            taken = [text for text in texts_for(shape) if forms.judge(shape, meant(shape, text))]
            step = max(1, len(taken) // MOST_OF_A_PARAMETER)
            for text in dict.fromkeys((*taken[::step], *(each for each in near if each in taken))):
                values = needed | {name: text}
                url = path.format(**{each: values[each] for each in values if named[each]["in"] == "path"})
                query = urlencode({each: values[each] for each in values if named[each]["in"] == "query"})
                status, said = await forms.answer(method, url, operation, query=query)
                read += 1
                if status >= 500 or (status == 400 and (path, name) not in BEYOND_A_PATTERN):
                    differ.append(f"{url}?{query}: {status} {said.get('error')}")
    assert not differ, "\n".join(differ)
    assert read > 600, read


async def the_largest_is_as_described(forms: Forms) -> None:
    """Of an order: the most GPUs, at the highest price, for the longest time."""
    largest = {"class": CLASS, "quantity": units.MAX_QUANTITY, "price": units.format_usd(units.MAX_PRICE)}
    for url, terms in (
        ("/v1/bids/preview", {"duration": "365d", "min_fill": 1}),
        ("/v1/asks/preview", {"start": "now+1h", "end": "now+8761h"}),
    ):
        operation = forms.document["paths"][url]["post"]
        status, said = await forms.answer("POST", url, operation, body=largest | terms)
        assert status == 200, said
