// What the page is made of. Text goes in as text: no string ever becomes markup here.

/** @typedef {Node | string | null} Child */

/**
 * An element. `on…` attributes are listeners; true is a bare attribute; false and null are none.
 * @param {string} tag
 * @param {Record<string, any>} [attributes]
 * @param {...Child} children
 * @returns {any}
 */
export function h(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value !== false && value !== null) element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.filter((child) => child !== null));
  return element;
}

/** The element of that id, which index.html has. @param {string} id @returns {any} */
export function byId(id) {
  const found = document.getElementById(id);
  if (found === null) throw new Error(`index.html has no #${id}`);
  return found;
}

/** What is chosen in a group of radio buttons. @param {string} name */
export function chosen(name) {
  return /** @type {HTMLInputElement} */ (document.querySelector(`input[name=${name}]:checked`)).value;
}

/** Sets the text where it is another. @param {Node} node @param {string} text @returns {boolean} whether it was */
export function say(node, text) {
  if (node.textContent === text) return false;
  node.textContent = text;
  return true;
}

/** Marks a change of a figure for a moment: up is true, down false. @param {Element} element @param {boolean} up */
export function flash(element, up) {
  element.classList.remove("went-up", "went-down");
  requestAnimationFrame(() => element.classList.add(up ? "went-up" : "went-down"));
}

/**
 * Makes a table's body hold one row an item, in that order; rows whose item stays are kept, so that focus stays too.
 * @param {HTMLElement} body
 * @param {any[]} items
 * @param {(item: any) => string} keyOf
 * @param {(item: any) => HTMLElement} make
 * @param {(row: any, item: any) => void} [update]
 */
export function rows(body, items, keyOf, make, update = () => {}) {
  const there = new Map([...body.children].map((row) => [/** @type {HTMLElement} */ (row).dataset.key, row]));
  items.forEach((item, place) => {
    const key = keyOf(item);
    let row = /** @type {HTMLElement | undefined} */ (there.get(key));
    if (row === undefined) {
      row = labelled(make(item), body);
      row.dataset.key = key;
    } else there.delete(key);
    update(row, item);
    if (body.children[place] !== row) body.insertBefore(row, body.children[place] ?? null);
  });
  for (const row of there.values()) row.remove();
}

/** On a narrow screen there are no columns: each cell then says what its column's head says. @param {HTMLElement} row @param {HTMLElement} body */
function labelled(row, body) {
  const heads = body.closest("table")?.tHead?.rows[0].cells ?? [];
  [...row.children].forEach((cell, place) => (/** @type {HTMLElement} */ (cell).dataset.label = heads[place]?.textContent ?? ""));
  return row;
}

/**
 * Calls `draw` at the next frame, however often it is asked to until then: ten updates a second cost one each.
 * @param {() => void} draw
 */
export function framed(draw) {
  let asked = false;
  return () => {
    if (asked) return;
    asked = true;
    requestAnimationFrame(() => {
      asked = false;
      draw();
    });
  };
}
