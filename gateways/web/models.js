// What each channel of the stream comes to: a model takes the channel's messages in order and holds the present state.

import { microUsd } from "./money.js";

/** @typedef {{price: string, micro: bigint, quantity: number, orders: number}} Level */
/** @typedef {{type: string, number: number, stream: string, [name: string]: any}} Message */

const FILLS_KEPT = 60;
const CANDLES_KEPT = 200;
const CRC = Uint32Array.from({ length: 256 }, (_, byte) => {
  for (let bit = 0; bit < 8; bit++) byte = byte & 1 ? (byte >>> 1) ^ 0xedb88320 : byte >>> 1;
  return byte;
});

/** A class's book for windows of one length. */
export class Depth {
  /** @type {Level[]} best first */ asks = [];
  /** @type {Level[]} best first */ bids = [];
  #asks = new Map();
  #bids = new Map();

  /** @param {Message} message @returns {boolean} whether it agrees with the exchange's checksum */
  take(message) {
    if (message.type === "whole") [this.#asks, this.#bids] = [new Map(), new Map()];
    this.asks = merged(this.#asks, message.asks).sort((a, b) => order(a.micro, b.micro));
    this.bids = merged(this.#bids, message.bids).sort((a, b) => order(b.micro, a.micro));
    return checksum(this.asks, this.bids) === message.checksum;
  }
}

/** A class's newest fills, newest first. */
export class Fills {
  /** @type {any[]} */ fills = [];

  /** @param {Message} message */
  take(message) {
    const news = message.type === "whole" ? [...message.fills].reverse() : [message.fill, ...this.fills];
    this.fills = news.slice(0, FILLS_KEPT);
    return true;
  }
}

/** A class's newest candles, oldest first. */
export class Candles {
  /** @type {any[]} */ candles = [];
  #byStart = new Map();

  /** @param {Message} message */
  take(message) {
    if (message.type === "whole") this.#byStart = new Map();
    for (const candle of message.candles) this.#byStart.set(candle.start, candle);
    const all = [...this.#byStart.values()].sort((a, b) => (a.start < b.start ? -1 : 1));
    this.candles = all.slice(-CANDLES_KEPT);
    this.#byStart = new Map(this.candles.map((candle) => [candle.start, candle]));
    return true;
  }
}

/** A channel that tells the same thing anew each time: its last word. */
export class Latest {
  /** @type {Message | null} */ last = null;

  /** @param {Message} message */
  take(message) {
    this.last = message;
    return true;
  }
}

/** Which model a channel has. @type {Record<string, new () => {take(message: Message): boolean}>} */
export const MODELS = { depth: Depth, fills: Fills, candles: Candles, ticker: Latest, orders: Latest, leases: Latest, heartbeats: Latest };

/** @param {Map<string, Level>} levels @param {[string, number, number][]} changes a quantity of 0 takes a level away */
function merged(levels, changes) {
  for (const [price, quantity, orders] of changes) {
    if (quantity) levels.set(price, { price, micro: microUsd(price), quantity, orders });
    else levels.delete(price);
  }
  return [...levels.values()];
}

/** CRC-32 as in gateways/README.md. @param {Level[]} asks @param {Level[]} bids */
function checksum(asks, bids) {
  const text = [asks, bids].map((side) => side.map((each) => `${each.price}:${each.quantity}:${each.orders}`).join(",")).join(";");
  let crc = -1;
  for (let place = 0; place < text.length; place++) crc = CRC[(crc ^ text.charCodeAt(place)) & 255] ^ (crc >>> 8);
  return ~crc >>> 0;
}

/** @param {bigint} a @param {bigint} b */
function order(a, b) {
  return a < b ? -1 : a > b ? 1 : 0;
}
