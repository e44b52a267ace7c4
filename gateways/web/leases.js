// Tables of the account's leases, bought and sold: their state, use and money, and what can be done with each.

import { call, callUntilAnswered, sentence, session } from "./api.js";
import { confirmed, shown, told } from "./confirm.js";
import { byId, h, rows, say } from "./dom.js";
import { count, gpuHours, minute, price, timeOf, words } from "./format.js";
import { cut } from "./money.js";

/** Its buyer can end it. */
const LIVES = ["pending_delivery", "delivered", "active", "degraded", "reclaiming"];
const MAX_REPORTS = 500;
const REPORTS = 20;

/**
 * Shows leases in the table `${name}-rows`.
 * @param {string} name
 * @param {any[]} leases
 * @param {() => void} done is told when something was done
 */
export function leaseRows(name, leases, done) {
  rows(byId(`${name}-rows`), leases, (lease) => lease.lease_id, (lease) => make(lease, done), update);
  byId(`${name}-none`).hidden = leases.length > 0;
}

/** @param {any} lease @param {() => void} done */
function make(lease, done) {
  const figure = (/** @type {string} */ name, text = "") => h("td", { class: `figure ${name}` }, text);
  const error = h("p", { role: "alert", class: "down" });
  const row = h(
    "tr",
    {},
    h("th", { scope: "row", class: "code" }, lease.lease_id),
    h("td", {}, h("a", { href: `#/class/${encodeURIComponent(lease.class)}` }, lease.class)),
    figure("quantity", count(lease.quantity)),
    figure("price", price(lease.price)),
    h("td", {}, timeOf(lease.start)),
    h("td", {}, timeOf(lease.end)),
    h("td", { class: "state" }),
    figure("used"),
    figure("money"),
    h("td", { class: "connection" }),
    h("td", { class: "actions" }),
  );
  const act = (/** @type {() => Promise<void>} */ work) => perform(row, error, work, done);
  const button = (/** @type {string} */ name, /** @type {string} */ word, /** @type {() => Promise<void>} */ work) =>
    h("button", { type: "button", class: `small ${name}`, "aria-label": `${word} ${lease.lease_id}`, onclick: () => act(work) }, word);
  row.querySelector(".actions").append(
    button("accept", "Accept", () => accept(row.lease)),
    button("end", "End", () => end(row.lease)),
    button("deliver", "Deliver", () => deliver(row.lease)),
    button("usage", "Usage", () => usage(row.lease)),
    error,
  );
  return row;
}

/** @param {any} row @param {any} lease */
function update(row, lease) {
  row.lease = lease;
  const cell = (/** @type {string} */ name) => row.querySelector(`.${name}`);
  const buys = lease.role === "buyer";
  say(cell("state"), [words(lease.state), words(lease.close_reason)].filter(Boolean).join(": "));
  say(cell("used"), gpuHours(lease.used_gpu_ms));
  say(cell("money"), cut((buys ? lease.charged : lease.earned) ?? "0", 2));
  if (say(cell("connection"), lease.connection || "–")) cell("connection").title = lease.connection ?? "";
  cell("accept").hidden = !(buys && session.may("trade") && lease.state === "delivered");
  cell("end").hidden = !(buys && session.may("trade") && LIVES.includes(lease.state) && !lease.close_reason);
  cell("deliver").hidden = !(!buys && session.may("supply") && lease.state === "pending_delivery");
}

/** @param {any} row @param {HTMLElement} error @param {() => Promise<void>} work @param {() => void} done */
async function perform(row, error, work, done) {
  const buttons = row.querySelectorAll("button");
  for (const each of buttons) each.disabled = true;
  try {
    await work();
    say(error, "");
  } catch (failure) {
    say(error, sentence(failure));
  }
  for (const each of buttons) each.disabled = false;
  done();
}

/** @param {any} lease */
async function accept(lease) {
  /** @type {import("./confirm.js").Facts} */
  const facts = [["Lease", `${lease.lease_id}, ${count(lease.quantity)} × ${lease.class}`], ["Billing", "starts now, though never before the lease does"]];
  if (await confirmed("Accept the delivery?", facts, "Accept")) await callUntilAnswered("POST", `/v1/leases/${lease.lease_id}/acceptance`);
}

/** @param {any} lease */
async function end(lease) {
  const part = `${lease.refund_bps / 100} % of what is not used`;
  /** @type {import("./confirm.js").Facts} */
  const facts = [
    ["Lease", `${lease.lease_id}, ${count(lease.quantity)} × ${lease.class}`],
    ["In escrow", `$${cut(lease.escrow ?? "0", 2)}`],
    ["Comes back", lease.refund_bps === 10_000 ? "all that is not used" : part],
  ];
  if (await confirmed("End this lease now?", facts, "End the lease")) await callUntilAnswered("POST", `/v1/leases/${lease.lease_id}/end`);
}

/** @param {any} lease */
async function deliver(lease) {
  const connection = await told(`Deliver ${lease.lease_id}`, "How the buyer reaches the machines", "Deliver");
  if (connection !== null) await callUntilAnswered("POST", `/v1/leases/${lease.lease_id}/delivery`, { body: { connection } });
}

/** Shows what was metered of a lease, newest first. @param {any} lease */
async function usage(lease) {
  const { items, next } = await call("GET", `/v1/leases/${lease.lease_id}/usage`, { query: { limit: MAX_REPORTS } });
  const newest = items.slice(-REPORTS).reverse();
  /** @type {import("./confirm.js").Facts} */
  const facts = newest.map((/** @type {any} */ each) => [
    `${each.sequence}${each.final ? ", the last" : ""}`,
    `${gpuHours(each.gpu_ms)} GPU-h by ${minute(each.reported_at)}`,
  ]);
  if (next) facts.push(["More", `these are the first ${count(MAX_REPORTS)} reports`]);
  facts.unshift(["Billed", `${gpuHours(lease.used_gpu_ms)} GPU-h, $${cut((lease.charged ?? lease.earned) || "0", 2)}`]);
  await shown(`Use of ${lease.lease_id}, as its supplier metered it`, facts);
}
