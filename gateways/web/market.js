// The list of classes: what each last traded at, what it can be had and sold for now and how deep, and how much of it
// traded.

import { call } from "./api.js";
import { byId, flash, framed, h, rows, say } from "./dom.js";
import { count, price } from "./format.js";
import { change, cut, microUsd } from "./money.js";

const ANEW_MS = 30_000; // classes are opened seldom

export class Market {
  /** @type {any[]} */ classes = [];
  /** @type {Map<string, any>} */ tickers = new Map();
  /** @type {Map<string, {end: () => void}[]>} of the rows in sight */ #reading = new Map();
  #body = byId("markets-rows");
  #filter = byId("markets-filter");
  /** The list's rows in sight are read live, the others not: there may be many. */
  #sight = new IntersectionObserver((seen) => seen.forEach((each) => this.#look(/** @type {any} */ (each.target), each.isIntersecting)));

  /** @param {import("./stream.js").Stream} stream */
  constructor(stream) {
    this.stream = stream;
    this.draw = framed(() => this.#draw());
    this.#filter.addEventListener("input", this.draw);
  }

  /** Reads all classes, now and from time to time. @returns {Promise<void>} once they are there */
  async open() {
    setInterval(() => this.#load().catch(() => {}), ANEW_MS); // the stream's state says that the exchange is away
    await this.#load();
  }

  /** The class that traded most, or else the first. */
  busiest() {
    const volume = (/** @type {any} */ each) => microUsd(this.tickers.get(each.class)?.day?.value ?? "0");
    return this.classes.reduce((most, each) => (most === undefined || volume(each) > volume(most) ? each : most), undefined)?.class;
  }

  /** Whether there is such a class to trade; while they are not read yet there may be. @param {string} classId */
  trades(classId) {
    return !this.classes.length || this.classes.some((each) => each.class === classId);
  }

  /** @param {string | null} classId which row is marked as shown */
  mark(classId) {
    for (const link of this.#body.querySelectorAll("a")) {
      const here = link.textContent === classId;
      if (here && !link.hasAttribute("aria-current")) link.closest("tr").scrollIntoView({ block: "nearest" });
      link.toggleAttribute("aria-current", here);
    }
  }

  async #load() {
    const [classes, tickers] = await Promise.all([call("GET", "/v1/classes"), call("GET", "/v1/tickers")]);
    this.classes = classes.items.filter((/** @type {any} */ each) => !each.retired);
    for (const ticker of tickers.items) this.tickers.set(ticker.class, ticker);
    this.draw();
  }

  #draw() {
    const wanted = this.#filter.value.trim().toLowerCase();
    const shown = this.classes.filter((each) => each.class.toLowerCase().includes(wanted));
    rows(this.#body, shown, (each) => each.class, (each) => this.#row(each), (row, each) => this.#quote(row, each.class));
    byId("markets-none").hidden = shown.length > 0;
    for (const row of this.#reading.keys()) if (!this.classes.some((each) => each.class === row)) this.#leave(row);
  }

  /** @param {any} listing */
  #row(listing) {
    const cells = ["last", "change", "bid", "ask", "volume"].map((name) => h("td", { class: `figure ${name}` }));
    const halted = listing.halt === "none" ? null : h("span", { class: "tag" }, "halted");
    const link = h("a", { href: `#/class/${encodeURIComponent(listing.class)}` }, listing.class);
    const row = h("tr", {}, h("th", { scope: "row" }, link, halted), ...cells);
    this.#sight.observe(row);
    return row;
  }

  /** @param {any} row @param {string} classId */
  #quote(row, classId) {
    const { last = null, day = null } = this.tickers.get(classId) ?? {};
    const [, lastCell, changeCell, , , volumeCell] = row.children;
    const before = row.dataset.last;
    if (say(lastCell, price(last)) && before && last) flash(lastCell, microUsd(last) > microUsd(before));
    row.dataset.last = last ?? "";
    const moved = day && last ? change(day.open, last) : "–";
    say(changeCell, moved);
    changeCell.classList.toggle("up", moved.startsWith("+"));
    changeCell.classList.toggle("down", moved.startsWith("−"));
    say(volumeCell, day ? cut(day.gpu_hours, 0) : "0");
  }

  /** A row has come into sight, or left it. @param {HTMLElement} row @param {boolean} inSight */
  #look(row, inSight) {
    const classId = row.dataset.key ?? "";
    if (!inSight) return this.#leave(classId);
    if (this.#reading.has(classId)) return;
    const [, , , bidCell, askCell] = /** @type {any} */ (row.children);
    const depth = this.stream.read({ channel: "depth", class: classId, window: "24h" }, () => best());
    const best = framed(() => {
      side(bidCell, depth.model.bids);
      side(askCell, depth.model.asks);
    });
    best();
    const ticker = this.stream.read({ channel: "ticker", class: classId }, (told) => {
      this.tickers.set(classId, told);
      this.draw();
    });
    this.#reading.set(classId, [depth, ticker]);
  }

  /** @param {string} classId */
  #leave(classId) {
    this.#reading.get(classId)?.forEach((each) => each.end());
    this.#reading.delete(classId);
  }
}

/** The best price of a side, and how many GPUs there are in all. @param {HTMLElement} cell @param {import("./models.js").Level[]} levels */
function side(cell, levels) {
  if (!cell.children.length) cell.append(h("span"), h("small"));
  say(cell.children[0], price(levels[0]?.price));
  say(cell.children[1], levels.length ? ` × ${count(levels.reduce((sum, level) => sum + level.quantity, 0))}` : "");
}
