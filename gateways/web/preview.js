// What an order would do if it came now, as the exchange's own engine says: another order may come before it.

import { call } from "./api.js";
import { count, price, words } from "./format.js";
import { dollars, microUsd } from "./money.js";

const SHOWN = 4;

/**
 * The exchange's preview of an order. Throws what the order would be refused with.
 * @param {boolean} bid @param {any} body the order as it will be sent
 */
export async function previewed(bid, body) {
  return await call("POST", bid ? "/v1/bids/preview" : "/v1/asks/preview", { body });
}

/** What of it would fill at once, or why nothing would. @param {any} found @returns {string} */
export function filled(found) {
  const notes = found.cancels.length ? [`cancels ${found.cancels.join(", ")} of your own`] : [];
  if (!found.fills.length) return ["nothing", ...notes, found.why.text].join("; ");
  const each = found.fills.slice(0, SHOWN).map((/** @type {any} */ fill) => `${count(fill.quantity)} at $${price(fill.price)} (${where(fill)})`);
  if (found.fills.length > SHOWN) each.push("…");
  if (found.left) notes.push(`${count(found.left)} ${found.status === "open" ? "later, if at all" : "not at all"}`);
  return [`${each.join(", ")}: ${dollars(microUsd(found.cost))}`, ...notes].join("; ");
}

/** @param {any} fill */
function where(fill) {
  const further = [fill.interconnect === "none" ? "" : fill.interconnect, fill.tier === "guaranteed" ? "" : fill.tier];
  return [fill.region, words(fill.delivery), ...further].filter(Boolean).join(", ");
}
