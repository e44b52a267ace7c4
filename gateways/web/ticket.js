// Places a bid or an ask: what it says, what it costs and holds, and the exchange's answer.

import { call, callUntilAnswered, sentence, session } from "./api.js";
import { confirmed } from "./confirm.js";
import { byId, say } from "./dom.js";
import { count, durationMs, price } from "./format.js";
import { cost, dollars, hold, microUsd, parseUsd } from "./money.js";
import { filled, previewed } from "./preview.js";

const HOURS_TO_WAIT = 23; // as `cx buy` and the client: now, or else one of the next hours

export class Ticket {
  #form = /** @type {HTMLFormElement} */ (byId("ticket-form"));
  #sending = false;
  classId = "";

  /** @param {() => void} done is told when an order was placed */
  constructor(done) {
    this.done = done;
    this.#form.addEventListener("input", () => this.show());
    for (const side of this.#form.querySelectorAll("[name=side]"))
      side.addEventListener("change", () => (byId("ticket-delivery").value = this.#text("side") === "bid" ? "container" : "vm"));
    this.#form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.#review();
    });
    this.show();
  }

  /** Shows what the order as written would hold, or what is wrong with it. */
  show() {
    const side = this.#text("side");
    this.#form.dataset.side = side;
    this.#form.dataset.at = this.#text("start");
    say(byId("ticket-review"), side === "bid" ? "Review bid" : "Review ask");
    const may = session.may(side === "bid" ? "trade" : "supply");
    byId("ticket-review").disabled = this.#sending || !may;
    byId("ticket-scope").hidden = may;
    say(byId("ticket-scope"), session.account ? `Your key may not ${side === "bid" ? "trade" : "supply"}.` : "Sign in with a key to trade.");
    try {
      const { limit, gpus, ms } = this.#terms();
      const told = side === "bid" ? `Costs and holds at most ${dollars(this.#hold(limit, gpus, ms))}` : `Brings in ${dollars(cost(limit, gpus, ms))} if all of it is sold`;
      say(byId("ticket-cost"), told);
    } catch {
      say(byId("ticket-cost"), "");
    }
  }

  /** @param {string} name */
  #text(name) {
    return String(new FormData(this.#form).get(name) ?? "").trim();
  }

  /** The figures that it is about. Throws RangeError. */
  #terms() {
    const quantity = this.#text("quantity");
    if (!/^[1-9]\d{0,5}$/.test(quantity)) throw new RangeError("GPUs must be a whole number from 1 on");
    return { limit: parseUsd(this.#text("price")), gpus: BigInt(quantity), ms: durationMs(this.#text("duration")) };
  }

  /** @param {bigint} limit @param {bigint} gpus @param {bigint} ms */
  #hold(limit, gpus, ms) {
    return hold(limit, gpus, ms, BigInt(session.account?.buyer_fee_bps ?? 0));
  }

  /** The order as the API takes it. Throws RangeError. */
  #body() {
    const { gpus, ms } = this.#terms();
    const common = {
      class: this.classId,
      quantity: Number(gpus),
      price: this.#text("price"),
      client_order_id: this.#text("name") || `page-${randomHex()}`,
    };
    return this.#text("side") === "bid" ? this.#bid(common) : this.#ask(common, ms);
  }

  /** @param {{quantity: number}} common */
  #bid(common) {
    const interruptible = this.#text("interruptible") === "on";
    const region = this.#text("region");
    return {
      ...common,
      duration: this.#text("duration"),
      min_fill: this.#text("min_fill") ? Number(this.#text("min_fill")) : common.quantity,
      ...this.#starts(),
      time_in_force: this.#text("time_in_force"),
      accepts: { regions: region ? [region] : [], delivery: this.#text("delivery"), interconnect: this.#text("interconnect"), interruptible },
    };
  }

  #starts() {
    const start = this.#text("start");
    if (start === "at") return { start: this.#moment() };
    if (start === "now") return { start: "now" };
    return { prefer: "start", starts: ["now", ...Array.from({ length: HOURS_TO_WAIT }, (_, hour) => `now+${hour + 1}h`)] };
  }

  /** @param {object} common @param {bigint} ms how long it is on sale */
  #ask(common, ms) {
    const at = this.#text("start") === "at";
    const start = at ? this.#moment() : "now";
    const end = at ? new Date(Date.parse(start) + Number(ms)).toISOString().replace(".000", "") : `now+${this.#text("duration")}`;
    const tier = this.#text("notice") ? { tier: "interruptible", notice_minutes: Number(this.#text("notice")) } : {};
    const further = { region: this.#text("region") || "unspecified", delivery: this.#text("delivery"), interconnect: this.#text("interconnect") };
    return { ...common, start, end, ...further, ...tier, lot: Number(this.#text("lot") || 1) };
  }

  /** When it begins, in UTC. Throws RangeError. */
  #moment() {
    const at = this.#text("at");
    if (!at) throw new RangeError("say when it begins");
    return `${at.slice(0, 16)}:00Z`;
  }

  async #review() {
    say(byId("ticket-error"), "");
    say(byId("ticket-answer"), "");
    try {
      const body = this.#body();
      const bid = this.#text("side") === "bid";
      const facts = await (bid ? this.#bidFacts(body) : this.#askFacts(body));
      if (await confirmed(bid ? "Place this bid?" : "Place this ask?", facts, bid ? "Place bid" : "Place ask")) await this.#place(bid, body);
    } catch (error) {
      say(byId("ticket-error"), sentence(error));
    }
  }

  /** @param {any} body @returns {Promise<import("./confirm.js").Facts>} */
  async #bidFacts(body) {
    const [balance, found] = await Promise.all([call("GET", "/v1/balance"), previewed(true, body), session.refresh()]);
    const fee = session.account.buyer_fee_bps;
    const free = microUsd(balance.cash) + microUsd(balance.credit);
    const short = microUsd(found.short);
    return [
      ["Rent", `${count(body.quantity)} × ${body.class} for ${body.duration}`],
      ["From", body.starts ? `now, or else within ${HOURS_TO_WAIT} hours` : body.start],
      ["Places", body.min_fill === body.quantity ? "all from one place, or none" : `at least ${count(body.min_fill)} from each`],
      ["Limit", `$${price(body.price)} per GPU-hour`],
      ["Costs at most", `${dollars(microUsd(found.most))}${fee ? `, ${fee / 100} % fee included` : ""}`],
      ["Held now", `${dollars(microUsd(found.needed))}; what it does not cost comes back`],
      ["Free to use", `${dollars(free)} now, ${short ? `${dollars(short)} too little` : `${dollars(free - microUsd(found.needed))} then`}`],
      [body.start === undefined || body.start === "now" ? "Fills now" : "Fills then", filled(found)],
    ];
  }

  /** @param {any} body @returns {Promise<import("./confirm.js").Facts>} */
  async #askFacts(body) {
    const [found] = await Promise.all([previewed(false, body), session.refresh()]);
    const { limit, gpus, ms } = this.#terms();
    const fee = session.account.seller_fee_bps;
    return [
      ["Offer", `${count(body.quantity)} × ${body.class}, ${body.region}`],
      ["Available", `from ${body.start} for ${this.#text("duration")}`],
      ["Price", `$${price(body.price)} per GPU-hour, or more`],
      ["Brings in", `${dollars(cost(limit, gpus, ms))} if all of it is sold at that${fee ? `, less ${fee / 100} % fee` : ""}`],
      ["Held now", "nothing"],
      ["Tier", body.tier ? `interruptible with ${body.notice_minutes} minutes' notice` : "guaranteed"],
      ["Sells now", filled(found)],
    ];
  }

  /** Sends it until it is answered: with its own name it is placed once. @param {boolean} bid @param {any} body */
  async #place(bid, body) {
    this.#sending = true;
    this.show();
    try {
      const order = await callUntilAnswered("POST", bid ? "/v1/bids" : "/v1/asks", { body });
      say(byId("ticket-answer"), outcome(order));
      byId("ticket-name").value = ""; // it named this order, once for ever
    } catch (error) {
      say(byId("ticket-error"), `${sentence(error)} (your order ${body.client_order_id})`);
    } finally {
      this.#sending = false;
      this.show();
      this.done();
    }
  }
}

/** What became of an order, in a line. @param {any} order */
function outcome(order) {
  const fills = (order.fills ?? []).map((/** @type {any} */ fill) => `${count(fill.quantity)} at $${price(fill.price)}: ${fill.lease_id}`);
  const state = order.status === "open" ? `stands, ${count(order.left)} of ${count(order.quantity)} GPUs left` : `${order.status} ${order.reason}`.trim();
  return [`${order.order_id} ${state}`, ...fills].join("; ");
}

function randomHex() {
  return Array.from(crypto.getRandomValues(new Uint8Array(12)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}
