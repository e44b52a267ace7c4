// One class: its price, candles, book by delivery window, forward curve and fills, live.

import { call } from "./api.js";
import { candleAt, candlesShown, drawCandles, drawCurve, drawDepth } from "./charts.js";
import { byId, chosen, flash, framed, h, rows, say } from "./dom.js";
import { count, minute, price, second, span, timeOf } from "./format.js";
import { change, cut, formatUsd, microUsd } from "./money.js";

const LEVELS = 10; // a side
const CURVE_MS = 15_000;
/** When the windows of the forward curve begin, from now. */
const AHEAD = ["0m", "1d", "2d", "4d", "7d", "14d", "21d", "28d"];

export class ClassView {
  /** @type {{model: any, end: () => void}[]} */ #reading = [];
  /** @type {any} */ #depth = null;
  /** @type {any} */ #candles = null;
  /** @type {any} */ #fills = null;
  /** @type {any} */ #ticker = null;
  /** @type {{label: string, ask: string | null}[]} */ #curve = [];
  #marked = -1; // which candle is read out, from the newest back; -1: the newest
  #drawBook = framed(() => this.#showBook());
  #drawCandles = framed(() => this.#showCandles());
  #drawFills = framed(() => this.#showFills());
  #drawTicker = framed(() => this.#showTicker());
  #chart = /** @type {HTMLCanvasElement} */ (byId("candles"));
  classId = "";

  /** @param {import("./stream.js").Stream} stream */
  constructor(stream) {
    this.stream = stream;
    for (const choice of document.querySelectorAll("input[name=window], input[name=interval]"))
      choice.addEventListener("change", () => this.show(this.classId));
    const redraw = () => this.classId && [this.#drawBook, this.#drawCandles, this.#drawCurve].forEach((draw) => draw());
    new ResizeObserver(redraw).observe(byId("class"));
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
    this.#chart.addEventListener("pointermove", (event) => this.#point(event.offsetX));
    this.#chart.addEventListener("pointerleave", () => this.#mark(-1));
    this.#chart.addEventListener("blur", () => this.#mark(-1));
    this.#chart.addEventListener("keydown", (event) => this.#step(event));
    setInterval(() => this.#readCurve(), CURVE_MS);
  }

  /** Shows a class and reads it from now on; "" shows none. @param {string} classId */
  show(classId) {
    const before = this.#reading;
    this.#reading = [];
    const other = this.classId !== classId;
    this.classId = classId;
    if (classId) {
      const [window, interval] = [chosen("window"), chosen("interval")];
      say(byId("class-name"), classId);
      say(byId("book-window"), `${window} from now`);
      this.#depth = this.#read({ channel: "depth", class: classId, window }, this.#drawBook);
      this.#candles = this.#read({ channel: "candles", class: classId, interval }, this.#drawCandles);
      this.#fills = this.#read({ channel: "fills", class: classId }, this.#drawFills);
      this.#ticker = this.#read({ channel: "ticker", class: classId }, this.#drawTicker);
      if (other) [this.#curve, byId("class-last").dataset.last] = [[], ""];
      this.#readCurve();
    }
    before.forEach((each) => each.end()); // now, so that what both read goes on
  }

  /** What is on sale and wanted now, for windows of the length that is chosen. */
  get depth() {
    return this.#depth;
  }

  /** @param {Record<string, string>} fields @param {() => void} draw */
  #read(fields, draw) {
    const reading = this.stream.read(fields, draw);
    this.#reading.push(reading);
    draw();
    return reading.model;
  }

  #showTicker() {
    const { last = null, time = null, day = null } = this.#ticker.last ?? {};
    const shown = byId("class-last");
    const before = shown.dataset.last;
    if (say(shown, price(last)) && before && last) flash(shown, microUsd(last) > microUsd(before));
    shown.dataset.last = last ?? "";
    const moved = day && last ? change(day.open, last) : "–";
    say(byId("class-change"), moved);
    byId("class-change").className = moved.startsWith("+") ? "up" : moved.startsWith("−") ? "down" : "";
    byId("class-time").replaceChildren(timeOf(time));
    say(byId("class-high"), price(day?.high));
    say(byId("class-low"), price(day?.low));
    say(byId("class-volume"), day ? cut(day.gpu_hours, 0) : "0");
    say(byId("class-value"), day ? `$${cut(day.value, 0)}` : "$0");
  }

  #showBook() {
    const { asks, bids } = this.#depth;
    drawDepth(/** @type {HTMLCanvasElement} */ (byId("depth")), this.#depth);
    const sides = [summed(asks.slice(0, LEVELS)), summed(bids.slice(0, LEVELS))];
    const most = Math.max(1, ...sides.flat().map((each) => each.total));
    const update = (/** @type {any} */ row, /** @type {any} */ level) => {
      [price(level.price), count(level.quantity), count(level.total)].forEach((text, place) => say(row.children[place], text));
      row.style.setProperty("--share", `${(100 * level.total) / most}%`);
    };
    const make = () => h("tr", {}, ...["price", "", ""].map((name) => h("td", { class: `figure ${name}` })));
    rows(byId("book-asks"), sides[0].reverse(), (each) => each.price, make, update);
    rows(byId("book-bids"), sides[1], (each) => each.price, make, update);
    say(byId("book-spread"), spread(asks[0], bids[0]));
    byId("depth").setAttribute("aria-label", `Depth: ${count(total(asks))} GPUs on sale, ${count(total(bids))} wanted`);
  }

  #showCandles() {
    const shown = this.#candles.candles.slice(-candlesShown(this.#chart));
    drawCandles(this.#chart, shown, this.#marked < 0 ? -1 : shown.length - 1 - this.#marked);
    const read = shown[shown.length - 1 - Math.max(0, this.#marked)];
    say(byId("candle-read"), read ? readout(read) : "");
  }

  #showFills() {
    const make = (/** @type {any} */ fill) =>
      h(
        "tr",
        {},
        h("td", {}, timeOf(fill.time, second)),
        h("td", { class: "figure" }, count(fill.quantity)),
        h("td", { class: `figure ${fill.taker === "bid" ? "up" : "down"}` }, price(fill.price)),
        h("td", {}, fill.taker === "bid" ? "bought" : "sold"),
        h("td", { class: "figure" }, span(fill.start, fill.end)),
        h("td", {}, timeOf(fill.start, minute)),
        h("td", {}, terms(fill)),
      );
    rows(byId("fills-rows"), this.#fills.fills, (each) => String(each.number), make);
    byId("fills-none").hidden = this.#fills.fills.length > 0;
  }

  async #readCurve() {
    const classId = this.classId;
    if (!classId || document.hidden) return;
    const path = `/v1/book/${encodeURIComponent(classId)}`;
    const asked = AHEAD.map((ahead) => call("GET", path, { query: { start: ahead === "0m" ? "now" : `now+${ahead}`, duration: "24h", levels: 1 } }));
    const books = await Promise.allSettled(asked);
    if (classId !== this.classId) return;
    this.#curve = books.map((book, place) => ({
      label: AHEAD[place] === "0m" ? "now" : AHEAD[place],
      ask: book.status === "fulfilled" ? (book.value.asks[0]?.price ?? null) : null,
    }));
    this.#drawCurve();
  }

  #drawCurve = framed(() => {
    const canvas = /** @type {HTMLCanvasElement} */ (byId("curve"));
    drawCurve(canvas, this.#curve);
    const told = this.#curve.map((each) => `${each.label} ${each.ask ?? "none"}`).join(", ");
    canvas.setAttribute("aria-label", `Best ask for 24 hours by when they begin: ${told}`);
  });

  /** @param {number} x */
  #point(x) {
    const shown = Math.min(this.#candles.candles.length, candlesShown(this.#chart));
    const place = candleAt(this.#chart, shown, x);
    this.#mark(place < 0 ? -1 : shown - 1 - place);
  }

  /** @param {KeyboardEvent} event */
  #step(event) {
    const back = { ArrowLeft: 1, ArrowRight: -1 }[event.key];
    if (back === undefined) return;
    event.preventDefault();
    const shown = Math.min(this.#candles.candles.length, candlesShown(this.#chart));
    this.#mark(Math.max(0, Math.min(shown - 1, Math.max(0, this.#marked) + back)));
  }

  /** @param {number} marked */
  #mark(marked) {
    this.#marked = marked;
    this.#drawCandles();
  }
}

/** @param {import("./models.js").Level[]} levels */
function summed(levels) {
  let sum = 0;
  return levels.map((level) => ({ ...level, total: (sum += level.quantity) }));
}

/** @param {import("./models.js").Level[]} levels */
function total(levels) {
  return levels.reduce((sum, level) => sum + level.quantity, 0);
}

/** @param {import("./models.js").Level | undefined} ask @param {import("./models.js").Level | undefined} bid */
function spread(ask, bid) {
  if (!ask || !bid) return "one side only";
  if (bid.micro >= ask.micro) return "bids above asks want other terms";
  return `spread ${formatUsd(ask.micro - bid.micro, 4)}`;
}

/** @param {any} candle */
function readout(candle) {
  const figures = ["open", "high", "low", "close"].map((name) => `${name} ${price(candle[name])}`);
  return `${minute(candle.start)} UTC  ${figures.join("  ")}  ${cut(candle.gpu_hours, 0)} GPU-h in ${count(candle.fills)} ${candle.fills === 1 ? "fill" : "fills"}`;
}

/** @param {any} fill */
function terms(fill) {
  const fabric = fill.interconnect === "none" ? "" : fill.interconnect;
  const tier = fill.tier === "guaranteed" ? "" : fill.tier;
  return [fill.region, fabric, tier].filter(Boolean).join(" · ");
}
