// Money and prices as the exchange reckons: BigInt micro-dollars (µ$) inside, decimal strings outside. Never a float.

const TYPED = /^-?\d{1,12}(\.\d{1,6})?$/;
const SAID = /^(-?)(\d{1,13})(?:\.(\d{1,6}))?$/;
const HOUR_MS = 3_600_000n;
const BPS = 10_000n;

/**
 * Dollars as a person types them -> µ$, as `parse_usd` in schemas/units.py. Throws RangeError.
 * @param {string} text
 * @returns {bigint}
 */
export function parseUsd(text) {
  if (!TYPED.test(text)) throw new RangeError(`'${text}' is not an amount in dollars: write it like 2.60, with at most 12 digits before the point and 6 after it`);
  return microUsd(text);
}

/**
 * Dollars as the exchange says them -> µ$. What the largest order comes to has a digit more than what is typed may have.
 * @param {string} text
 * @returns {bigint}
 */
export function microUsd(text) {
  const parts = SAID.exec(text);
  if (parts === null) throw new RangeError(`${text} is no amount`);
  const micro = BigInt(parts[2]) * 1_000_000n + BigInt((parts[3] ?? "").padEnd(6, "0"));
  return parts[1] ? -micro : micro;
}

/**
 * µ$ -> dollars as a decimal string: thousands grouped, at least `decimals` decimals and never fewer than are needed.
 * @param {bigint} micro
 * @param {number} [decimals]
 */
export function formatUsd(micro, decimals = 2) {
  const [whole, part] = split(micro < 0n ? -micro : micro);
  const shown = part.replace(/0+$/, "").padEnd(decimals, "0");
  return `${micro < 0n ? "-" : ""}${grouped(whole)}${shown && "."}${shown}`;
}

/** µ$ as they are read: −$1,234.50. @param {bigint} micro */
export function dollars(micro) {
  return micro < 0n ? `−$${formatUsd(-micro)}` : `$${formatUsd(micro)}`;
}

/**
 * What a bid holds: ceil(limit × GPUs × time × (1 + fee)), as `hold` in schemas/units.py.
 * @param {bigint} limit µ$ per GPU-hour
 * @param {bigint} gpus
 * @param {bigint} durationMs
 * @param {bigint} feeBps
 */
export function hold(limit, gpus, durationMs, feeBps) {
  const whole = HOUR_MS * BPS;
  return (limit * gpus * durationMs * (BPS + feeBps) + whole - 1n) / whole;
}

/** Floored cost in µ$, without fee, as `cost` in schemas/units.py.
 * @param {bigint} price µ$ per GPU-hour
 * @param {bigint} gpus
 * @param {bigint} durationMs
 */
export function cost(price, gpus, durationMs) {
  return (price * gpus * durationMs) / HOUR_MS;
}

/** To the cent, towards zero. @param {string[]} amounts decimal strings of dollars @returns {bigint} their sum in µ$ */
export function sum(amounts) {
  const total = amounts.reduce((before, each) => before + microUsd(each), 0n);
  return total - (total % 10_000n);
}

/**
 * A decimal string with thousands grouped, cut to so many decimals (towards zero).
 * @param {string} text
 * @param {number} decimals
 */
export function cut(text, decimals) {
  const [whole, part = ""] = text.split(".");
  return grouped(whole) + (decimals ? `.${part.slice(0, decimals).padEnd(decimals, "0")}` : "");
}

/**
 * By how much a price has changed, like +1.25 %.
 * @param {string} from
 * @param {string} to
 */
export function change(from, to) {
  const first = microUsd(from);
  if (first === 0n) return "";
  const bps = ((microUsd(to) - first) * BPS) / first;
  const size = bps < 0n ? -bps : bps;
  const sign = bps > 0n ? "+" : bps < 0n ? "−" : "";
  return `${sign}${size / 100n}.${String(size % 100n).padStart(2, "0")} %`;
}

/** @param {bigint} micro @returns {[string, string]} */
function split(micro) {
  return [String(micro / 1_000_000n), String(micro % 1_000_000n).padStart(6, "0")];
}

/** @param {string} whole */
function grouped(whole) {
  return whole.replace(/\B(?=(\d{3})+$)/g, ",");
}
