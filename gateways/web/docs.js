/** The API's description for people to read: /v1/openapi.json as a page. */

import { byId, h } from "./dom.js";

const answer = await fetch("/v1/openapi.json");
/** @type {any} */
const api = await answer.json();

/** What a `$ref` points at, else the thing itself. @param {any} thing @returns {any} */
function whole(thing) {
  if (!thing.$ref) return thing;
  return thing.$ref.slice(2).split("/").reduce((/** @type {any} */ at, /** @type {string} */ part) => at[part], api);
}

/** A shape in words. @param {any} shape @returns {string} */
function kind(shape) {
  if (shape.$ref) return shape.$ref.split("/").pop();
  if (shape.enum) return shape.enum.join(" | ");
  if (shape.anyOf) return shape.anyOf.map(kind).join(" or ");
  if (shape.type === "array") return `list of ${kind(shape.items ?? {})}`;
  return shape.type ?? "any";
}

/** An example of a shape: its fields that are required, and what else has one. @param {any} given @param {number} depth @returns {any} */
function example(given, depth = 0) {
  const shape = whole(given);
  if (shape.examples) return shape.examples[0];
  if ("default" in shape) return shape.default;
  if (shape.enum) return shape.enum[0];
  if (shape.anyOf) return example(shape.anyOf[0], depth);
  if (shape.type === "array") return depth > 4 ? [] : [example(shape.items ?? {}, depth + 1)];
  if (shape.properties && depth < 5) {
    const names = Object.keys(shape.properties).filter((name) => !shape.required || shape.required.includes(name));
    return Object.fromEntries(names.map((name) => [name, example(shape.properties[name], depth + 1)]));
  }
  return { integer: 1, number: 1, boolean: false, string: "…" }[/** @type {"string"} */ (shape.type)] ?? null;
}

/** The fields of a shape as a table. @param {any} given @returns {HTMLElement | null} */
function fields(given) {
  const shape = whole(given);
  if (!shape.properties) return shape.anyOf ? h("div", {}, ...shape.anyOf.map(fields).filter(Boolean)) : null;
  const lines = Object.entries(shape.properties).map(([name, field]) => {
    const told = /** @type {any} */ (field);
    const must = shape.required?.includes(name) ? "required" : "";
    return h("tr", {}, h("td", {}, name), h("td", {}, kind(told)), h("td", {}, must), h("td", {}, told.description ?? ""));
  });
  return h("div", { class: "scroll" }, h("table", {}, h("caption", {}, shape.title ?? ""), h("tbody", {}, ...lines)));
}

/** @param {string} method @param {string} path @param {any} route */
function shown(method, path, route) {
  const key = route.security ? `a key with the scope ${route.security[0].key[0]}` : "no key";
  const parts = [h("p", {}, route.description), h("p", { class: "note" }, `Wants ${key}.`)];
  const parameters = route.parameters.map(whole).filter((/** @type {any} */ each) => each.in !== "header");
  if (parameters.length) {
    const lines = parameters.map((/** @type {any} */ each) =>
      h("tr", {}, h("td", {}, each.name), h("td", {}, each.in), h("td", {}, kind(each.schema)), h("td", {}, each.description ?? "")));
    parts.push(h("div", { class: "scroll" }, h("table", {}, h("caption", {}, "Parameters"), h("tbody", {}, ...lines))));
  }
  const body = route.requestBody?.content["application/json"].schema;
  if (body) parts.push(...[h("pre", {}, JSON.stringify(example(body), null, 1)), fields(body)].filter((each) => each !== null));
  for (const [status, given] of Object.entries(route.responses)) {
    const content = whole(given).content ?? {};
    const [type] = Object.keys(content);
    const what = type === "application/json" ? kind(content[type].schema) : (type ?? "");
    parts.push(h("p", {}, `${status} ${whole(given).description} ${what}`));
    if (type === "application/json" && status < "300") {
      const table = fields(content[type].schema);
      if (table !== null) parts.push(table);
    }
  }
  const name = `${method.toUpperCase()} ${path}`;
  return h("details", { id: route.operationId, "data-text": `${name} ${route.description}`.toLowerCase() },
    h("summary", {}, h("code", {}, name), ` ${route.summary}`), ...parts);
}

byId("about").textContent = api.info.description;
const routes = Object.entries(api.paths).flatMap(([path, methods]) =>
  Object.entries(/** @type {any} */ (methods)).map(([method, route]) => shown(method, path, route)));
byId("routes").append(...routes);
byId("filter").addEventListener("input", () => {
  const wanted = byId("filter").value.toLowerCase();
  for (const each of routes) each.hidden = !each.dataset.text?.includes(wanted);
});
if (location.hash) document.getElementById(location.hash.slice(1))?.setAttribute("open", "");
