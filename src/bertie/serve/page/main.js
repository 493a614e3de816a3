// The frame: views, the model's card, and whether the server is ready.

import { sendPatiently } from "./api.js";
import { at } from "./dom.js";
import * as many from "./many.js";
import * as model from "./model.js";
import * as one from "./one.js";
import * as server from "./server.js";

const tabs = [...document.querySelectorAll('[role="tab"]')];

function open(name, { focus = false } = {}) {
  const chosen = tabs.find((tab) => tab.getAttribute("aria-controls") === name) ?? tabs[0];
  for (const tab of tabs) {
    const here = tab === chosen;
    tab.setAttribute("aria-selected", String(here));
    tab.tabIndex = here ? 0 : -1;
    at(tab.getAttribute("aria-controls")).hidden = !here;
  }
  if (focus) chosen.focus();
  server.show(chosen.id === "tab-server");
}

for (const tab of tabs) {
  tab.addEventListener("click", () => {
    history.replaceState(null, "", `#${tab.getAttribute("aria-controls")}`);
    open(tab.getAttribute("aria-controls"));
  });
  tab.addEventListener("keydown", (event) => {
    const steps = { ArrowRight: 1, ArrowLeft: -1, Home: -tabs.indexOf(tab), End: -1 - tabs.indexOf(tab) };
    if (!(event.key in steps)) return;
    event.preventDefault();
    const next = tabs[(tabs.indexOf(tab) + steps[event.key] + tabs.length) % tabs.length];
    history.replaceState(null, "", `#${next.getAttribute("aria-controls")}`);
    open(next.getAttribute("aria-controls"), { focus: true });
  });
}
addEventListener("hashchange", () => {
  const name = location.hash.slice(1);
  if (tabs.some((tab) => tab.getAttribute("aria-controls") === name)) open(name); // "#main" is no view.
});

const say = (kind, words) => {
  at("state").className = `state ${kind}`;
  at("state").textContent = words;
};
let found = null;
let coming = null;

/** Return the model's card, which is asked for until it has come. Throws Problem. */
async function card() {
  if (found) return found;
  coming ??= ask().finally(() => { coming = null; });
  return coming;
}

async function ask() {
  try {
    const response = await sendPatiently("card", undefined, { waiting: (problem) => problem && say("", "The model is loading …") });
    found = await response.json();
  } catch (error) {
    say("away", error.status === 401 ? "Needs a key" : "Not reachable");
    model.show(null, error);
    throw error;
  }
  say("ready", "Ready");
  at("model-name").textContent = found.name === "model" ? "" : found.name;
  document.title = found.name === "model" ? "Bertie" : `${found.name} · Bertie`;
  one.know(found);
  model.show(found);
  return found;
}

addEventListener("away", () => say("away", "Not reachable"));
addEventListener("back", () => found && say("ready", "Ready"));

one.begin(card);
many.begin(card);
open(location.hash.slice(1));
card().catch(() => {}); // It is said above, and asked for again when somebody needs it.
