// Wires the page: the stream, the views, and which of them is shown.

import { AccountView } from "./account.js";
import { session } from "./api.js";
import { ClassView } from "./class.js";
import { byId, say } from "./dom.js";
import { minute, second } from "./format.js";
import { Market } from "./market.js";
import { Stream } from "./stream.js";
import { Ticket } from "./ticket.js";

const WIDE = matchMedia("(min-width: 1000px)"); // as in style.css: the list stands beside the class

const stream = new Stream(`${location.protocol === "https:" ? "wss" : "ws"}://${location.host}/v1/stream`, showHealth, console.warn);
const market = new Market(stream);
const view = new ClassView(stream);
const account = new AccountView(stream, show);
const ticket = new Ticket(() => account.refresh());
account.open();

stream.read({ channel: "heartbeats" }, ({ time }) => say(byId("clock"), `${minute(time).slice(0, 5)} ${second(time)} UTC`));
addEventListener("hashchange", show);
WIDE.addEventListener("change", show);
market.open().then(show, () => setTimeout(() => location.reload(), 3_000)); // the exchange is not there yet

/** Shows what the address says: #/ the classes, #/class/NAME one of them, #/account and #/supply what is one's own. */
function show() {
  const [, name = "", part = ""] = location.hash.split("/");
  const own = ["account", "supply"].includes(name) && session.key ? name : "";
  const classId = name === "class" ? decodeURIComponent(part) : WIDE.matches && !own ? (market.busiest() ?? "") : "";
  const shown = own || (classId ? "class" : "markets");
  document.body.dataset.view = shown;
  document.title = `${classId || { account: "Orders and leases", supply: "Supply" }[own] || "Markets"} · Compute exchange`;
  for (const link of document.querySelectorAll("nav a"))
    link.toggleAttribute("aria-current", /** @type {HTMLElement} */ (link).dataset.for?.split(" ").includes(shown));
  byId("class-none").hidden = !classId || market.trades(classId);
  view.show(classId);
  ticket.classId = classId;
  ticket.show();
  account.beside(classId);
  requestAnimationFrame(() => market.mark(classId));
}

/** @param {import("./stream.js").Health} health */
function showHealth({ state, lostMs, resumed, anew, retryMs }) {
  const words = { connecting: "Connecting", live: "Live", lost: "Connection lost" }[state];
  const back = lostMs ? ` · back after ${(lostMs / 1000).toFixed(1)} s` : "";
  const again = state === "lost" ? ` · again in ${(retryMs / 1000).toFixed(1)} s` : "";
  document.body.dataset.stream = state;
  say(byId("stream-state"), words + back + again);
  byId("stream").title = lostMs ? `${resumed} channels went on where they were, ${anew} began anew` : "Prices as they change";
  Object.assign(byId("stream").dataset, { resumed, anew });
}
