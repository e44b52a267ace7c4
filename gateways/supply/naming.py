"""From a seller's own names to a class and a region of the market; what a name leaves open is not guessed.

A name's class is, in this order: what the supplier settled; the class whose id it is; what this seller means by it
(facts/gpu_names.csv); what anyone means by it (the same); and what it spells out (facts/accelerators.csv), where every
word of it is understood and one class alone is left. A name stands for the model, its form factor and its memory, so
"H100" and "A100 80GB" leave open what they are, and a slice of a GPU is never the whole one.
"""

import re
from collections.abc import Iterable, Mapping
from functools import cache

from msgspec import Struct

from gateways.supply.facts import rows
from schemas.attributes import REGIONS, Region

MEASURED_OFF_PERCENT = 8
"""What a driver reports is less than what the vendor states: 46,068 MiB of an L40S's 48 GB."""
_COUNT = re.compile(
    r"(?<![a-z0-9])(\d{1,3}) ?[x×](?![a-z0-9])"  # 8x H100, gpu_8x_h100, h100.sxm.8x
    r"|(?<![a-z0-9])[x×] ?(\d{1,3})(?![a-z0-9])"  # H100 x8
    r"|(?<=[0-9gb])x(\d{1,2})(?![a-z0-9])"  # H100x8, A100-80Gx4
)
_MEMORY = re.compile(r"(\d{1,4}) ?(?:g|gb|gib|gi)\b")
_SPACES = re.compile(r"[^a-z0-9×]+")
_FORMS = {
    **dict.fromkeys(("sxm", "sxm2", "sxm3", "sxm4", "sxm5", "sxm6", "hgx"), "sxm"),
    **dict.fromkeys(("pcie", "pci"), "pcie"),
    **dict.fromkeys(("nvl", "nvl72"), "nvl"),
    "oam": "oam",
    "superchip": "superchip",
}
_SAYS_NOTHING = {
    *("nvidia", "amd", "instinct", "geforce", "tesla", "gpu", "gpus", "edition", "generation", "grace", "hopper"),
    *("hbm2", "hbm2e", "hbm3", "hbm3e", "gddr6", "gddr6x", "gddr7"),
}
_UNSPECIFIED = {"", "global", "any", "worldwide", "unspecified", "n a"}
_PLACE = re.compile(r"\s*(.*?)\s*,\s*([A-Za-z]{2})\s*")


class Unclear(Struct, frozen=True):
    """Why a name does not tell what it stands for."""

    reason: str


class Accelerator(Struct, frozen=True):
    """One thing that is sold; `class_id` is empty where no standard class is for it."""

    model: str
    form: str
    memory_gb: int
    class_id: str


class Settled(Struct, frozen=True):
    """What a supplier said that names mean, by (seller, name); an empty seller is any."""

    classes: Mapping[tuple[str, str], str] = {}
    regions: Mapping[tuple[str, str], str] = {}

    def class_of(self, seller: str, raw: str) -> str | None:
        return self.classes.get((plain(seller), plain(raw))) or self.classes.get(("", plain(raw)))

    def region_of(self, seller: str, raw: str) -> str | None:
        return self.regions.get((plain(seller), plain(raw))) or self.regions.get(("", plain(raw)))


def plain(text: str) -> str:
    """A name without what spellings differ in: case, and what is between words.

    >>> plain(" NVIDIA-H100_80GB (SXM5)")
    'nvidia h100 80gb sxm5'
    """
    return _SPACES.sub(" ", text.casefold()).strip()


def stated_count(raw: str) -> int | None:
    """How many GPUs the name itself speaks of.

    >>> stated_count("8x NVIDIA H100"), stated_count("NVIDIA H100")
    (8, None)
    """
    match = _COUNT.search(plain(raw))
    return int(next(number for number in match.groups() if number)) if match else None


def class_of(seller: str, raw: str, settled: Settled, classes: Iterable[str], memory_mib: int = 0) -> str | Unclear:
    """The id of the class that the seller's name stands for. `classes` are those that the exchange lists.

    `memory_mib` is a GPU's memory where the list measured it beside the name; 0 where it did not.
    """
    listed = {plain(class_id): class_id for class_id in classes}
    meant = settled.class_of(seller, raw) or _known(seller, raw, listed)
    found = meant if meant is not None else _spelled_out(raw, memory_mib)
    if isinstance(found, Unclear) or found in listed.values():
        return found
    return Unclear(f"it is {found}, which this exchange does not list")


def region_of(seller: str, raw: str, settled: Settled) -> Region | Unclear:
    """The region of the closed list in which the seller's place lies."""
    words = plain(raw)
    meant = settled.region_of(seller, raw)
    if meant is not None:
        return REGIONS[meant]
    if words in _UNSPECIFIED:
        return Region.UNSPECIFIED
    table = _regions()
    found = table.get((_seller(seller), words)) or table.get(("*", words)) or REGIONS.get(words.replace(" ", "-"))
    if found is None and (place := _PLACE.fullmatch(raw)) is not None:
        state, country = plain(place[1]), place[2].casefold()
        found = table.get(("*", f"us state {state}" if country == "us" else f"country {country}"))
    return found if found is not None else Unclear(f"nothing says in which region {raw!r} is")


def read_settled(lines: Iterable[Mapping[str, str]]) -> Settled:
    """From rows of `what,seller,raw,means`. Raises ValueError where one means nothing."""
    settled: dict[str, dict[tuple[str, str], str]] = {"class": {}, "region": {}}
    for number, line in enumerate(lines, 2):
        what, means = line.get("what", ""), line.get("means", "") or ""
        if what not in settled or not means:
            raise ValueError(f"line {number}: it is no row of what,seller,raw,means with class or region as its what")
        if what == "region" and means not in REGIONS:
            raise ValueError(f"line {number}: {means!r} is none of {', '.join(REGIONS)}")
        settled[what][plain(line.get("seller", "") or ""), plain(line.get("raw", "") or "")] = means
    return Settled(settled["class"], settled["region"])


def _known(seller: str, raw: str, listed: Mapping[str, str]) -> str | None:
    """What the tables say that the name is: its class."""
    table, name = _names(), _key(raw)
    return listed.get(_without_count(raw)) or table.get((_seller(seller), name)) or table.get(("*", name))


def _spelled_out(raw: str, memory_mib: int) -> str | Unclear:
    """The class that the words of the name leave alone."""
    words = _without_count(raw)
    if re.search(r"\bmig\b|\bslice\b|\bvgpu\b|\b\dg \d+gb\b", words):
        return Unclear("it is a slice of a GPU, not a whole one")
    memories = {int(number) for number in _MEMORY.findall(words)}
    rest = [word for word in _MEMORY.sub(" ", words).split() if word not in _SAYS_NOTHING]
    forms = {_FORMS[word] for word in rest if word in _FORMS}
    model = "".join(word for word in rest if word not in _FORMS)
    of_model = [each for each in _accelerators() if each.model == model]
    if not of_model:
        return Unclear(f"{model!r} in it is no model that the tables know" if model else "it names no model")
    if len(forms) > 1 or len(memories) > 1:
        return Unclear("it says two things about its form factor or its memory")
    fits = [
        each
        for each in of_model
        if forms <= {each.form}
        and memories <= {each.memory_gb}
        and (
            not memory_mib
            or abs(memory_mib - each.memory_gb * 1024) * 100 <= each.memory_gb * 1024 * MEASURED_OFF_PERCENT
        )
    ]
    if not fits:
        return Unclear(f"no {model.upper()} is made like that: there is {_listed(of_model)}")
    if len({each.form for each in fits}) > 1 or len({each.class_id for each in fits}) > 1:
        return Unclear(f"it leaves open which it is: {_listed(fits)}")
    # Memory alone does not tell a form factor: boards are made that the table does not have.
    if not forms and len({each.form for each in of_model}) > 1:
        return Unclear(f"it leaves its form factor open: {_listed(of_model)}")
    return fits[0].class_id or Unclear(f"no standard class is for a {_listed(fits)}")


def _listed(accelerators: Iterable[Accelerator]) -> str:
    return " or ".join(
        dict.fromkeys(each.class_id or f"{each.model.upper()} {each.form} {each.memory_gb} GB" for each in accelerators)
    )


def _without_count(raw: str) -> str:
    return " ".join(_COUNT.sub(" ", plain(raw)).split())


def _key(raw: str) -> str:
    """A name as the table of names has it: without the vendor's name and any spaces."""
    return "".join(word for word in _without_count(raw).split() if word not in ("nvidia", "amd"))


def _seller(name: str) -> str:
    words = plain(name)
    return _sellers().get(words, words)


@cache
def _sellers() -> dict[str, str]:
    return {plain(row["name"]): row["seller"] for row in rows("sellers.csv")}


@cache
def _accelerators() -> tuple[Accelerator, ...]:
    return tuple(
        Accelerator(row["model"], row["form"], int(row["memory_gb"]), row["class_id"])
        for row in rows("accelerators.csv")
    )


@cache
def _names() -> dict[tuple[str, str], str]:
    return {(row["seller"], _key(row["raw_name"])): row["class_id"] for row in rows("gpu_names.csv")}


@cache
def _regions() -> dict[tuple[str, str], Region]:
    return {(row["seller"], plain(row["raw_region"])): REGIONS[row["region"]] for row in rows("regions.csv")}
