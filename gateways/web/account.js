// The account that is signed in: its money, orders and leases, read anew whenever something becomes of them.

import { ApiError, call, sentence, session } from "./api.js";
import { byId, chosen, h, rows, say } from "./dom.js";
import { dollars, sum } from "./money.js";
import { leaseRows } from "./leases.js";
import { orderRows } from "./orders.js";

const SHOWN = 200;
const SOON_MS = 150; // what comes at once is read once
const ANEW_MS = 5_000; // use and money are not told by the stream

export class AccountView {
  #balance = /** @type {any} */ (null);
  #orders = { items: /** @type {any[]} */ ([]), next: null };
  #bought = { items: /** @type {any[]} */ ([]), next: null };
  #sold = { items: /** @type {any[]} */ ([]), next: null };
  #spend = { items: /** @type {any[]} */ ([]), next: null };
  /** @type {{end: () => void}[]} */ #reading = [];
  #timer = 0;
  classId = "";

  /** @param {import("./stream.js").Stream} stream @param {() => void} changed is told when who is signed in changes */
  constructor(stream, changed) {
    this.stream = stream;
    this.changed = changed;
    byId("sign-in-open").addEventListener("click", () => this.#ask());
    byId("sign-out").addEventListener("click", () => this.#signOut());
    byId("sign-in-form").addEventListener("submit", (/** @type {Event} */ event) => {
      event.preventDefault();
      this.#signIn(byId("sign-in-key").value.trim());
    });
    byId("sign-in-back").addEventListener("click", () => byId("sign-in").close());
    for (const choice of document.querySelectorAll("input[name=orders], input[name=by]")) choice.addEventListener("change", () => this.refresh());
    setInterval(() => session.account && !document.hidden && this.refresh(), ANEW_MS);
  }

  /** Goes on as who was signed in in this tab, if anybody. */
  open() {
    this.#show();
    if (session.key) this.#signIn(session.key);
  }

  /** Reads all anew, soon. */
  refresh() {
    this.#timer ||= setTimeout(() => {
      this.#timer = 0;
      this.#load().catch((error) => this.#failed(error));
    }, SOON_MS);
  }

  /** Own orders of this class are shown beside it. @param {string} classId */
  beside(classId) {
    this.classId = classId;
    this.#showOrders();
  }

  #ask() {
    byId("sign-in-key").value = "";
    say(byId("sign-in-error"), "");
    byId("sign-in").showModal();
  }

  /** @param {string} key */
  async #signIn(key) {
    try {
      await session.signIn(key);
    } catch (error) {
      if (error instanceof ApiError && error.status === 401) session.signOut();
      if (!byId("sign-in").open) this.#ask();
      say(byId("sign-in-error"), sentence(error));
      return;
    }
    byId("sign-in").close();
    byId("sign-in-key").value = "";
    this.stream.key = key;
    this.#leave();
    this.#reading = ["orders", "leases"].map((channel) => this.stream.read({ channel }, () => this.refresh()));
    this.refresh();
    this.#show();
  }

  #signOut() {
    this.#leave();
    this.stream.key = "";
    session.signOut();
    [this.#balance, this.#orders, this.#bought, this.#sold, this.#spend] = [null, ...Array(4).fill({ items: [], next: null })];
    this.#show();
    this.#showAll();
  }

  #leave() {
    this.#reading.forEach((each) => each.end());
    this.#reading = [];
  }

  async #load() {
    const key = session.key;
    if (!key) return;
    const open = chosen("orders");
    const [balance, orders, bought, sold, spend] = await Promise.all([
      call("GET", "/v1/balance"),
      call("GET", "/v1/orders", { query: { limit: SHOWN, ...(open === "open" ? { status: "open" } : {}) } }),
      call("GET", "/v1/leases", { query: { limit: SHOWN, role: "buyer" } }),
      call("GET", "/v1/leases", { query: { limit: SHOWN, role: "supplier" } }),
      call("GET", "/v1/spend", { query: { limit: SHOWN, by: chosen("by") } }),
    ]);
    if (key !== session.key) return; // somebody else has signed in meanwhile
    [this.#balance, this.#orders, this.#bought, this.#sold, this.#spend] = [balance, orders, bought, sold, spend];
    say(byId("account-error"), "");
    this.#showAll();
  }

  /** @param {unknown} error */
  #failed(error) {
    if (error instanceof ApiError && error.status === 401) {
      this.#signOut();
      this.#ask();
      say(byId("sign-in-error"), sentence(error));
    } else say(byId("account-error"), sentence(error));
  }

  #show() {
    const { account, scopes } = session;
    document.body.dataset.signed = account ? "in" : "out";
    say(byId("account-name"), account ? account.name : "");
    byId("account-name").title = account ? `${account.account_id}, its key may ${scopes.join(", ")}` : "";
    this.changed();
  }

  #showAll() {
    const balance = this.#balance ?? { cash: "0.00", held: "0.00", escrow: "0.00", receivable: "0.00" };
    for (const name of ["cash", "held", "escrow", "receivable"])
      for (const shown of document.querySelectorAll(`[data-balance=${name}]`)) say(shown, dollars(sum([balance[name]])));
    say(byId("earned"), dollars(sum(this.#sold.items.map((each) => each.earned ?? "0"))));
    say(byId("spent"), dollars(sum(this.#spend.items.map((each) => each.charged))));
    rows(byId("spend-rows"), this.#spend.items, (each) => each.name ?? "", spendRow, ({ children }, each) => {
      say(children[1], dollars(sum([each.charged])));
      say(children[2], each.committed === null ? "–" : dollars(sum([each.committed])));
    });
    byId("spend-none").hidden = this.#spend.items.length > 0;
    this.#showOrders();
    const done = () => this.refresh();
    leaseRows("leases", this.#bought.items, done);
    leaseRows("sold", this.#sold.items, done);
    more("leases", this.#bought.next);
    more("sold", this.#sold.next);
  }

  #showOrders() {
    const done = () => this.refresh();
    const all = this.#orders.items;
    orderRows("orders", all, done);
    orderRows("asks", all.filter((each) => each.side === "ask" && each.status === "open"), done);
    orderRows("here", all.filter((each) => each.class === this.classId && each.status === "open"), done);
    more("orders", this.#orders.next);
    more("asks", this.#orders.next);
  }
}

/** @param {any} spend */
function spendRow(spend) {
  const name = spend.name ?? "none";
  return h("tr", {}, h("th", { scope: "row", class: "code" }, name), h("td", { class: "figure" }), h("td", { class: "figure" }));
}

/** Says that a list has more than is shown. @param {string} name @param {string | null} next */
function more(name, next) {
  byId(`${name}-more`).replaceChildren(...(next ? [h("span", {}, `The newest ${SHOWN} are looked at; cx lists them all.`)] : []));
}
