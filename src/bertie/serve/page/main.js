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
addEventListener("hashchange", () => open(location.hash.slice(1)));

const state = at("state");
const say = (kind, words) => {
  state.className = `state ${kind}`;
  state.textContent = words;
};
say("", "Connecting …");
const card = sendPatiently("card", undefined, { waiting: (problem) => problem && say("", "The model is loading …") }).then((response) => response.json());
card.then((found) => {
  say("ready", "Ready");
  at("model-name").textContent = found.name === "model" ? "" : found.name;
  document.title = found.name === "model" ? "Bertie" : `${found.name} · Bertie`;
}, (error) => say("away", error.status === 401 ? "Needs a key" : "Not reachable"));

one.begin(card);
many.begin(card);
model.begin(card);
open(location.hash.slice(1));
