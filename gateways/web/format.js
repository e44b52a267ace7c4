// How figures are written: prices to the tick, times in UTC with the reader's own time at hand.

import { h } from "./dom.js";
import { formatUsd, microUsd } from "./money.js";

const HOUR_MS = 3_600_000n;

/** A price with at least four decimals, so that columns align: 2.35 -> 2.3500. @param {string | null | undefined} text */
export function price(text) {
  return text ? formatUsd(microUsd(text), 4) : "–";
}

/** @param {number} count */
export function count(count) {
  return count.toLocaleString("en-US");
}

/** GPU-hours of GPU-milliseconds, two decimals. @param {number} gpuMs */
export function gpuHours(gpuMs) {
  const hundredths = (BigInt(gpuMs) * 100n) / HOUR_MS;
  return `${(hundredths / 100n).toLocaleString("en-US")}.${String(hundredths % 100n).padStart(2, "0")}`;
}

/** Like 11-26 06:41, in UTC. @param {string} time RFC 3339 */
export function minute(time) {
  return `${time.slice(5, 10)} ${time.slice(11, 16)}`;
}

/** Like 06:41:07, in UTC. @param {string} time */
export function second(time) {
  return time.slice(11, 19);
}

/** A time as an element: UTC to read, the reader's own time when pointed at. @param {string | null} time @returns {Node} */
export function timeOf(time, shown = minute) {
  if (!time) return document.createTextNode("–");
  return h("time", { datetime: time, title: `${time}; here ${new Date(time).toLocaleString()}` }, shown(time));
}

/** Like 7d, 24h or 1h30m. @param {string} start @param {string} end */
export function span(start, end) {
  const minutes = (Date.parse(end) - Date.parse(start)) / 60_000;
  const parts = [[Math.floor(minutes / 1440), "d"], [Math.floor((minutes % 1440) / 60), "h"], [minutes % 60, "m"]];
  return parts.filter(([number]) => number).map(([number, unit]) => `${number}${unit}`).join("") || "0m";
}

/** Like 24h, 90m, 7d or 1h30m -> milliseconds. Throws RangeError. @param {string} text */
export function durationMs(text) {
  const parts = /^(?:(\d{1,4})d)?(?:(\d{1,5})h)?(?:(\d{1,6})m)?$/.exec(text.trim());
  if (parts === null || !text.trim()) throw new RangeError(`${text || "nothing"} is no duration: write it like 24h, 7d or 1h30m`);
  const [days, hours, minutes] = parts.slice(1).map((part) => BigInt(part ?? 0));
  return ((days * 24n + hours) * 60n + minutes) * 60_000n;
}

/** pending_delivery -> pending delivery. @param {string} code */
export function words(code) {
  return code.replaceAll("_", " ");
}
