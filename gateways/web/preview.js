// What a bid would fill at once, by what is for sale now: a look at the market, not a promise.

import { call, sentence } from "./api.js";
import { count, price, words } from "./format.js";
import { cost, dollars, parseUsd } from "./money.js";

const DELIVERIES = ["container", "vm", "bare_metal"]; // the least first, as the one below
const INTERCONNECTS = ["none", "nvlink", "infiniband"];

/**
 * @param {any} body the bid as it will be sent
 * @param {bigint} limit µ$ per GPU-hour
 * @param {bigint} ms how long it is for
 * @returns {Promise<string>} in words
 */
export async function preview(body, limit, ms) {
  const query = { start: body.start ?? "now", duration: body.duration, limit: 500 };
  try {
    const { offers } = await call("GET", `/v1/offers/${encodeURIComponent(body.class)}`, { query });
    const fills = filled(offers.filter((/** @type {any} */ offer) => suits(offer, body.accepts)), body, limit);
    return fills.length ? told(fills, body, ms) : nothing(offers, body);
  } catch (error) {
    return `not known: ${sentence(error)}`;
  }
}

/** Whether what is offered is what a bid accepts (matching_engine/RULES.md). @param {any} offer @param {any} accepts */
function suits(offer, accepts) {
  return (
    (!accepts.regions.length || accepts.regions.includes(offer.region)) &&
    DELIVERIES.indexOf(offer.delivery) >= DELIVERIES.indexOf(accepts.delivery) &&
    INTERCONNECTS.indexOf(offer.interconnect) >= INTERCONNECTS.indexOf(accepts.interconnect) &&
    (offer.tier === "guaranteed" || accepts.interruptible)
  );
}

/** What it would take of them, the cheapest first. @param {any[]} offers @param {any} body @param {bigint} limit */
function filled(offers, body, limit) {
  const fills = [];
  let left = body.quantity;
  for (const offer of offers) {
    if (parseUsd(offer.price) > limit) break;
    let unsold = offer.quantity;
    while (left) {
      const most = Math.min(left, unsold, offer.most);
      const gpus = most - (most % offer.lot);
      if (gpus < Math.max(1, Math.min(body.min_fill, left))) break;
      fills.push({ offer, gpus });
      [left, unsold] = [left - gpus, unsold - gpus];
    }
  }
  return fills;
}

/** @param {{offer: any, gpus: number}[]} fills @param {any} body @param {bigint} ms */
function told(fills, body, ms) {
  const each = fills.slice(0, 4).map(({ offer, gpus }) => `${count(gpus)} at $${price(offer.price)} (${where(offer)})`);
  if (fills.length > 4) each.push("…");
  const money = fills.reduce((total, { offer, gpus }) => total + cost(parseUsd(offer.price), BigInt(gpus), ms), 0n);
  const left = body.quantity - fills.reduce((total, { gpus }) => total + gpus, 0);
  return `${each.join(", ")}: ${dollars(money)}${left ? `; ${count(left)} later, if at all` : ""}`;
}

/** @param {any[]} offers @param {any} body */
function nothing(offers, body) {
  if (!offers.length) return "nothing is for sale for this window";
  const cheapest = offers.find((offer) => suits(offer, body.accepts)) ?? offers[0];
  const lots = cheapest.lot > 1 ? ` in lots of ${count(cheapest.lot)}` : "";
  return `nothing that suits: the nearest is $${price(cheapest.price)}, ${count(cheapest.most)} from one place${lots} (${where(cheapest)})`;
}

/** @param {any} offer */
function where(offer) {
  const further = [offer.interconnect === "none" ? "" : offer.interconnect, offer.tier === "guaranteed" ? "" : offer.tier];
  return [offer.region, words(offer.delivery), ...further].filter(Boolean).join(", ");
}
