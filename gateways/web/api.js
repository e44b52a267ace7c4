// The exchange's HTTP API, and who asks it.

const TIMEOUT_MS = 35_000;
const AGAIN_MS = [500, 1_500, 4_000];
const KEY = "cx-key";

/** What the exchange refused, in its own words. */
export class ApiError extends Error {
  /** @param {number} status @param {{code: string, message: string, field: string}} error */
  constructor(status, error) {
    super(error.message);
    this.status = status;
    this.code = error.code;
    this.field = error.field;
  }
}

/** Who is signed in: the key lives as long as this tab, and in it alone. */
export const session = {
  key: sessionStorage.getItem(KEY) ?? "",
  /** @type {any} */ account: null,
  /** @type {string[]} */ scopes: [],

  /** Takes a key once the exchange knows it. Throws ApiError, RangeError. @param {string} key */
  async signIn(key) {
    if (!/^[!-~]+$/.test(key)) throw new RangeError("a key is one word, like cx_…");
    this.account = await call("GET", "/v1/accounts/me", { key });
    let [mine, after] = [null, "0"];
    while (!mine && after !== null) {
      const page = await call("GET", `/v1/accounts/me/keys?after=${after}`, { key });
      mine = page.items.find((/** @type {any} */ each) => !each.revoked && key.startsWith(each.prefix));
      after = page.next;
    }
    this.scopes = mine?.scopes ?? [];
    this.key = key;
    sessionStorage.setItem(KEY, key);
  },

  /** What may have changed since: its fees. */
  async refresh() {
    this.account = await call("GET", "/v1/accounts/me");
  },

  signOut() {
    sessionStorage.removeItem(KEY);
    [this.key, this.account, this.scopes] = ["", null, []];
  },

  /** @param {string} scope */
  may(scope) {
    return this.scopes.includes(scope);
  },
};

/**
 * One request. Throws ApiError, and TypeError or a DOMException where there was no answer.
 * @param {string} method
 * @param {string} path
 * @param {{query?: Record<string, string | number>, body?: object, key?: string}} [further]
 * @returns {Promise<any>}
 */
export async function call(method, path, { query = {}, body, key = session.key } = {}) {
  const asked = new URLSearchParams(Object.entries(query).map(([name, value]) => [name, String(value)])).toString();
  const headers = new Headers({ Accept: "application/json" });
  if (key) headers.set("Authorization", `Bearer ${key}`);
  if (body) headers.set("Content-Type", "application/json");
  const answer = await fetch(asked ? `${path}?${asked}` : path, {
    method,
    headers,
    body: body && JSON.stringify(body),
    cache: "no-store",
    credentials: "omit",
    signal: AbortSignal.timeout(TIMEOUT_MS),
  });
  const text = await answer.text();
  if (answer.ok) return text ? JSON.parse(text) : null;
  throw new ApiError(answer.status, errorIn(text));
}

/**
 * A request that is safe to send again, as it is while there is no answer, or none yet.
 * @param {string} method
 * @param {string} path
 * @param {{body?: object}} [further]
 */
export async function callUntilAnswered(method, path, further) {
  for (let tries = 0; ; tries++) {
    try {
      return await call(method, path, further);
    } catch (error) {
      const known = error instanceof ApiError && ![429, 503, 504].includes(error.status);
      if (known || tries === AGAIN_MS.length) throw error;
      await new Promise((done) => setTimeout(done, AGAIN_MS[tries]));
    }
  }
}

/** What went wrong, as a sentence. @param {unknown} error */
export function sentence(error) {
  if (error instanceof ApiError || error instanceof RangeError) return error.message;
  return "The exchange does not answer: look at the connection, and try again.";
}

/** @param {string} text */
function errorIn(text) {
  try {
    return JSON.parse(text).error;
  } catch {
    return { code: "unknown", message: "the exchange gave no answer that can be read: try again", field: "" };
  }
}
