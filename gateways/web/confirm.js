// Asks before something is done that costs money or cannot be taken back.

import { byId, h, say } from "./dom.js";

/** @typedef {[label: string, value: string][]} Facts */

/**
 * @param {string} title
 * @param {Facts} facts what will happen, in figures
 * @param {string} action the button's word
 * @returns {Promise<boolean>} whether it shall be done
 */
export async function confirmed(title, facts, action) {
  return (await faced(title, facts, action)) !== null;
}

/** Shows figures, with nothing to decide. @param {string} title @param {Facts} facts */
export async function shown(title, facts) {
  await faced(title, facts, "");
}

/** @param {string} title @param {Facts} facts @param {string} action "" is none */
function faced(title, facts, action) {
  const yes = byId("confirm-yes");
  say(byId("confirm-title"), title);
  byId("confirm-facts").replaceChildren(...facts.map(([label, value]) => h("div", {}, h("dt", {}, label), h("dd", {}, value))));
  say(yes, action);
  yes.hidden = !action;
  return asked(byId("confirm"), action ? yes : byId("confirm-back"));
}

/**
 * Asks for one text. @param {string} title @param {string} label @param {string} action
 * @returns {Promise<string | null>} null: thought better of it
 */
export function told(title, label, action) {
  const dialog = byId("tell");
  say(byId("tell-title"), title);
  say(byId("tell-label"), label);
  say(byId("tell-yes"), action);
  byId("tell-text").value = "";
  return asked(dialog, byId("tell-text"));
}

/** @param {HTMLDialogElement} dialog @param {HTMLElement} first where the focus goes @returns {Promise<string | null>} */
function asked(dialog, first) {
  return new Promise((done) => {
    const form = /** @type {HTMLFormElement} */ (dialog.querySelector("form"));
    dialog.returnValue = "";
    form.onsubmit = (event) => {
      event.preventDefault();
      dialog.close("yes");
    };
    for (const back of dialog.querySelectorAll("[data-back]")) /** @type {HTMLElement} */ (back).onclick = () => dialog.close("");
    dialog.onclose = () => done(dialog.returnValue ? (dialog.querySelector("textarea")?.value ?? "") : null);
    dialog.showModal();
    first.focus();
  });
}
