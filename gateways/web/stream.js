// The exchange's stream (gateways/README.md): channels that many parts of the page read over one WebSocket, and that go
// on behind the last change they know after a lost connection.

import { MODELS } from "./models.js";

const FIRST_PAUSE_MS = 250;
const MAX_PAUSE_MS = 8_000;
/** The exchange's clock is told each second: silence for so long is a connection that is gone. */
const QUIET_MS = 6_000;
/** The exchange takes 50 messages a second, and 200 at once: stay below. */
const OPS_AT_ONCE = 150;
const OP_MS = 25;
const PRIVATE = new Set(["orders", "leases"]);

/** @typedef {{state: "connecting" | "live" | "lost", lostMs: number, resumed: number, anew: number, retryMs: number}} Health */

class Channel {
  /** @param {Record<string, string>} fields */
  constructor(fields) {
    this.fields = fields;
    this.model = new MODELS[fields.channel]();
    /** @type {Set<(message: any) => void>} */ this.readers = new Set();
    this.number = -1; // of the last change that it knows
    this.run = "";
    this.waiting = false; // for its first word on this connection
  }
}

export class Stream {
  /** @type {WebSocket | null} */ #socket = null;
  /** @type {Map<string, Channel>} */ #channels = new Map();
  /** @type {Map<number, Channel>} */ #asked = new Map();
  /** @type {object[]} */ #ops = [];
  #opsLeft = OPS_AT_ONCE;
  #id = 0;
  #key = "";
  #said = false;
  #pauseMs = FIRST_PAUSE_MS;
  #heardAt = 0;
  #lostAt = 0;
  #retry = 0;
  #health = /** @type {Health} */ ({ state: "connecting", lostMs: 0, resumed: 0, anew: 0, retryMs: 0 });

  /** @param {string} url @param {(health: Health) => void} onHealth @param {(error: any) => void} onRefused */
  constructor(url, onHealth, onRefused) {
    this.url = url;
    this.onHealth = onHealth;
    this.onRefused = onRefused;
    this.read({ channel: "heartbeats" }, () => {});
    setInterval(() => this.#pace(), OP_MS);
    setInterval(() => this.#socket && performance.now() - this.#heardAt > QUIET_MS && this.#drop(), 1_000);
    addEventListener("online", () => this.#socket ?? this.#connect());
    this.#connect();
  }

  /** Whose orders and leases are told; "" is nobody's. @param {string} key */
  set key(key) {
    this.#key = key;
    if (this.#said) this.#drop(); // a connection is one account's
    else if (key) this.#identify();
  }

  /**
   * Reads a channel; `told` hears every message once the model has it.
   * @param {Record<string, string>} fields
   * @param {(message: any) => void} told
   * @returns {{model: any, end: () => void}}
   */
  read(fields, told) {
    const name = nameOf(fields);
    let channel = this.#channels.get(name);
    if (channel === undefined) {
      this.#channels.set(name, (channel = new Channel(fields)));
      if (this.#socket?.readyState === WebSocket.OPEN) this.#subscribe(channel);
    }
    const mine = channel;
    const reader = (/** @type {any} */ message) => told(message); // of its own, also where one reads twice
    mine.readers.add(reader);
    const end = () => {
      mine.readers.delete(reader);
      if (mine.readers.size || this.#channels.get(name) !== mine) return;
      this.#channels.delete(name);
      this.#say({ op: "unsubscribe", ...fields });
    };
    return { model: mine.model, end };
  }

  #connect() {
    clearTimeout(this.#retry);
    const socket = (this.#socket = new WebSocket(this.url));
    this.#heardAt = performance.now();
    socket.onopen = () => {
      [this.#ops, this.#opsLeft, this.#said] = [[], OPS_AT_ONCE, false];
      this.#asked.clear();
      if (this.#key) this.#identify();
      for (const channel of this.#channels.values()) this.#subscribe(channel);
    };
    socket.onmessage = (event) => {
      this.#heardAt = performance.now();
      this.#hear(JSON.parse(event.data));
    };
    socket.onclose = () => this.#socket === socket && this.#drop();
  }

  #identify() {
    if (this.#socket?.readyState !== WebSocket.OPEN) return;
    this.#said = true;
    this.#say({ op: "auth", key: this.#key });
  }

  /** The connection is over: another one, soon. */
  #drop() {
    const socket = this.#socket;
    if (socket === null) return;
    this.#socket = null;
    socket.close();
    this.#lostAt ||= performance.now();
    const retryMs = this.#pauseMs * (0.5 + Math.random() / 2);
    this.#pauseMs = Math.min(MAX_PAUSE_MS, 2 * this.#pauseMs);
    this.#retry = setTimeout(() => this.#connect(), retryMs);
    this.#tell({ state: "lost", lostMs: 0, resumed: 0, anew: 0, retryMs });
  }

  /** @param {any} message */
  #hear(message) {
    if (message.type === "whole" || message.type === "change") this.#take(message);
    else if (message.type === "subscribed") this.#asked.delete(message.id);
    else if (message.type === "error") this.#refused(message);
  }

  /** @param {any} message */
  #take(message) {
    const channel = this.#channels.get(nameOf(message));
    if (channel === undefined) return; // its last reader has just left
    if (message.type === "change") {
      if (message.number <= channel.number) return;
      if (message.number !== channel.number + 1) return channel.waiting || this.#again(channel); // some are missing
    }
    if (channel.waiting) this.#firstWord(channel, message);
    [channel.number, channel.run] = [message.number, message.stream];
    if (!channel.model.take(message)) {
      channel.number = -1;
      return this.#again(channel);
    }
    for (const told of channel.readers) told(message);
  }

  /** A channel is back: behind what it knew, or from a whole on. @param {Channel} channel @param {any} message */
  #firstWord(channel, message) {
    channel.waiting = false;
    this.#pauseMs = FIRST_PAUSE_MS;
    const { state, lostMs, resumed, anew } = this.#health;
    const lost = this.#lostAt ? performance.now() - this.#lostAt : lostMs;
    this.#lostAt = 0;
    const wentOn = channel.number >= 0 && message.type === "change" ? 1 : 0;
    const began = channel.number >= 0 && message.type === "whole" ? 1 : 0;
    if (state !== "live" || wentOn || began)
      this.#tell({ state: "live", lostMs: lost, resumed: resumed + wentOn, anew: anew + began, retryMs: 0 });
  }

  /** @param {any} message */
  #refused(message) {
    const channel = this.#asked.get(message.id);
    this.#asked.delete(message.id);
    if (channel !== undefined && message.error.code === "gone") {
      channel.number = -1; // what was missed is not kept: the newest will do for a page
      this.#subscribe(channel);
    } else this.onRefused(message.error);
  }

  /** @param {Channel} channel */
  #again(channel) {
    this.#say({ op: "unsubscribe", ...channel.fields });
    this.#subscribe(channel);
  }

  /** @param {Channel} channel */
  #subscribe(channel) {
    if (PRIVATE.has(channel.fields.channel) && !this.#key) return;
    channel.waiting = true;
    this.#asked.set(++this.#id, channel);
    const after = channel.number < 0 ? {} : { after: channel.number, stream: channel.run };
    this.#say({ op: "subscribe", id: this.#id, ...channel.fields, ...after });
  }

  /** @param {object} op */
  #say(op) {
    if (this.#socket?.readyState !== WebSocket.OPEN) return; // all is said anew once there is a connection
    this.#ops.push(op);
    while (this.#ops.length && this.#opsLeft >= 1) this.#send();
  }

  #pace() {
    this.#opsLeft = Math.min(OPS_AT_ONCE, this.#opsLeft + 1);
    if (this.#ops.length && this.#socket?.readyState === WebSocket.OPEN) this.#send();
  }

  #send() {
    this.#opsLeft -= 1;
    this.#socket?.send(JSON.stringify(this.#ops.shift()));
  }

  /** @param {Health} health */
  #tell(health) {
    this.#health = health;
    this.onHealth(health);
  }
}

/** What tells a channel from all others. @param {Record<string, string>} fields */
function nameOf({ channel, class: classId = "", window = "", interval = "" }) {
  return PRIVATE.has(channel) ? channel : JSON.stringify([channel, classId, window, interval]); // a change of one's own has a class
}
