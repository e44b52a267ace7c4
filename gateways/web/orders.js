// Tables of the account's own orders, each with its cancel.

import { callUntilAnswered, sentence, session } from "./api.js";
import { confirmed } from "./confirm.js";
import { byId, h, rows, say } from "./dom.js";
import { count, price, span, timeOf, words } from "./format.js";
import { cut } from "./money.js";

/**
 * Shows orders in the table `${name}-rows`.
 * @param {string} name
 * @param {any[]} orders
 * @param {() => void} done is told when one was cancelled
 */
export function orderRows(name, orders, done) {
  rows(byId(`${name}-rows`), orders, (order) => order.order_id ?? order.client_order_id, (order) => make(order, done), update);
  byId(`${name}-none`).hidden = orders.length > 0;
}

/** @param {any} order @param {() => void} done */
function make(order, done) {
  const side = order.side === "bid" ? "up" : "down";
  const figures = ["quantity", "filled", "price", "held"].map((name) => h("td", { class: `figure ${name}` }));
  const button = h("button", { type: "button", class: "small" }, "Cancel");
  const error = h("span", { role: "alert", class: "down" });
  const row = h(
    "tr",
    {},
    h("th", { scope: "row", class: "code" }, order.order_id ?? "sent"),
    h("td", { class: "name", title: order.client_order_id }, order.client_order_id),
    h("td", {}, h("a", { href: `#/class/${encodeURIComponent(order.class)}` }, order.class)),
    h("td", { class: side }, order.side),
    ...figures,
    h("td", {}, order.side === "bid" ? order.duration : span(order.start, order.end)),
    h("td", {}, timeOf(order.side === "bid" ? order.starts[0] : order.start)),
    h("td", { class: "status" }),
    h("td", { class: "actions" }, button, error),
  );
  button.setAttribute("aria-label", `Cancel ${order.side} ${order.order_id}`);
  button.addEventListener("click", () => cancel(order, button, error, done));
  return row;
}

/** @param {any} row @param {any} order */
function update(row, order) {
  const cell = (/** @type {string} */ name) => row.querySelector(`.${name}`);
  say(cell("quantity"), count(order.quantity));
  say(cell("filled"), count(order.filled));
  say(cell("price"), price(order.price));
  say(cell("held"), order.side === "bid" ? cut(order.held, 2) : "–");
  say(cell("status"), [words(order.status), words(order.reason || order.refusal?.code || "")].filter(Boolean).join(": "));
  row.querySelector("button").hidden = order.status !== "open" || !session.may(order.side === "bid" ? "trade" : "supply");
}

/** @param {any} order @param {HTMLButtonElement} button @param {HTMLElement} error @param {() => void} done */
async function cancel(order, button, error, done) {
  /** @type {import("./confirm.js").Facts} */
  const facts = [["Order", `${order.side} ${order.order_id}, ${order.class}`], ["Ends", `${count(order.left)} GPUs that are not filled; leases stay`]];
  if (order.side === "bid") facts.push(["Comes back", `$${cut(order.held, 2)}`]);
  if (!(await confirmed("Cancel this order?", facts, "Cancel the order"))) return;
  button.disabled = true;
  try {
    await callUntilAnswered("DELETE", `/v1/orders/${order.order_id}`);
    say(error, "");
  } catch (failure) {
    say(error, sentence(failure));
  }
  button.disabled = false;
  done();
}
