"""Where a list comes from: a file or a URL, in one of the forms, with names that the supplier settled beside it."""

import csv
import io
from pathlib import Path
from urllib.parse import urlsplit

import aiohttp
import msgspec

from gateways.supply.inventory import Columns, ListError, read_json, read_yaml
from gateways.supply.naming import Settled, read_settled

MAX_BYTES = 32 << 20
TIMEOUT_S = 30.0
NAMES = "supply-names.csv"
"""The file of settled names, in the folder of the list."""
MAPPING = ".mapping.yaml"
"""The ending of the file that says what a list's columns are, in the folder of the list."""
_COLUMNS = ("what", "seller", "raw", "means")
_FORMS = {".csv": "csv", ".json": "json", ".yaml": "yaml", ".yml": "yaml"}


def is_url(source: str) -> bool:
    return source.startswith(("http://", "https://"))


def form_of(source: str) -> str:
    """`csv`, `json` or `yaml`, by the name's ending. Raises ListError."""
    ending = Path(urlsplit(source).path if is_url(source) else source).suffix.lower()
    if ending not in _FORMS:
        raise ListError(f"{source!r} ends in none of {', '.join(_FORMS)}: say --format")
    return _FORMS[ending]


def names_beside(source: str) -> Path:
    """The file of settled names that goes with a list; with one from elsewhere, that of the folder one is in."""
    return Path(NAMES) if is_url(source) else Path(source).parent / NAMES


def mapping_beside(source: str) -> Path | None:
    """What says which column is which: `inventory.mapping.yaml` beside `inventory.csv`, where there is such a file;
    for a list from elsewhere, that in the folder one is in."""
    name = Path(urlsplit(source).path) if is_url(source) else Path(source)
    path = (Path() if is_url(source) else name.parent) / f"{name.stem}{MAPPING}"
    return path if path.is_file() else None


async def read(source: str) -> str:
    """The text of a list. Raises ListError."""
    content = await _fetch(source) if is_url(source) else _load(Path(source))
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ListError(f"it is no UTF-8 text: byte {error.start} is {content[error.start]:#04x}") from None


def _load(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise ListError(f"it cannot be read: {error.strerror}") from None
    if len(content) > MAX_BYTES:
        raise ListError(f"it is larger than {MAX_BYTES:,} bytes")
    return content


async def _fetch(url: str) -> bytes:
    try:
        async with (
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=TIMEOUT_S)) as http,
            http.get(url) as answer,
        ):
            if answer.status != 200:
                raise ListError(f"its server answers {answer.status}")
            content = await answer.content.read(MAX_BYTES + 1)
            while len(content) <= MAX_BYTES and (more := await answer.content.read(MAX_BYTES + 1)):
                content += more
    except (aiohttp.ClientError, TimeoutError, ValueError) as error:
        raise ListError(f"it cannot be fetched: {str(error) or type(error).__name__}") from None
    if len(content) > MAX_BYTES:
        raise ListError(f"it is larger than {MAX_BYTES:,} bytes")
    return content


def columns(path: Path | None, mapped: dict[str, str], same: dict[str, str]) -> Columns:
    """From a mapping file in YAML or JSON, and from what was said beside it. Raises ListError."""
    found = Columns()
    if path is not None:
        text = _load(path).decode("utf-8", errors="replace")
        try:
            content = read_json(text) if path.suffix == ".json" else read_yaml(text)
            found = msgspec.convert(content, Columns)
        except (ListError, msgspec.ValidationError) as error:
            raise ListError(f"{path}: {error}") from None
    return Columns({**found.fields, **mapped}, {**found.same, **same})


def settled(path: Path) -> Settled:
    """What names mean, as the supplier settled it; nothing where there is no such file. Raises ListError."""
    try:
        return read_settled(_rows(path))
    except ValueError as error:
        raise ListError(f"{path}: {error}") from None


def settle(path: Path, what: str, seller: str, raw: str, means: str) -> None:
    """Writes one name down: what it meant before is forgotten. Raises ListError."""
    row = {"what": what, "seller": seller, "raw": raw, "means": means}
    same = (what, seller.casefold(), raw.casefold())
    rows = [each for each in _rows(path) if (each["what"], each["seller"].casefold(), each["raw"].casefold()) != same]
    text = io.StringIO()
    writer = csv.DictWriter(text, _COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows([*rows, row])
    beside = path.with_name(f"{path.name}.new")
    beside.write_text(text.getvalue(), "utf-8")
    beside.replace(path)


def _rows(path: Path) -> list[dict[str, str]]:
    if not path.exists():
        return []
    rows = list(csv.DictReader(io.StringIO(_load(path).decode("utf-8-sig", errors="replace"), newline="")))
    for number, row in enumerate(rows, 2):
        if set(row) != set(_COLUMNS) or None in row.values():
            raise ListError(f"{path}: line {number} is no row of {','.join(_COLUMNS)}")
    return rows
