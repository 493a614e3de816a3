// Requests to the server that this page came from.

import { at } from "./dom.js";

/** The key of a server that asks for one: here, and nowhere where it would outlive the page. */
let key = "";
let asking = null;

/** What the server, or the way to it, says is wrong. `status` is 0 where there was no answer. */
export class Problem extends Error {
  constructor(status, { message = `the server answered with status ${status}.`, expected = "", hint = "" } = {}, wait = 0) {
    super(message);
    Object.assign(this, { status, expected, hint, wait });
  }
}

/** Send a value as JSON, or nothing; return the response. Asks for a key where the server does. Throws Problem. */
export async function send(path, value, { signal } = {}) {
  for (;;) {
    const used = key;
    const response = await answered(path, value, signal);
    if (response.ok) return response;
    if (response.status !== 401) throw await problem(response);
    if (key === used && !(await askForKey(used !== ""))) {
      throw new Problem(401, { message: "this server answers only those who have a key.", hint: "ask who runs it for one" });
    }
  }
}

/** As `send`, but where the server is busy or starting, wait as long as it says and send again. */
export async function sendPatiently(path, value, { signal, waiting = () => {} } = {}) {
  for (;;) {
    try {
      return await send(path, value, { signal });
    } catch (error) {
      if (!(error instanceof Problem) || ![429, 503].includes(error.status)) throw error;
      waiting(error);
      await pause(error.wait, signal);
      waiting(null);
    }
  }
}

async function answered(path, value, signal) {
  const headers = key ? { authorization: `Bearer ${key}` } : {};
  const body = value === undefined ? undefined : JSON.stringify(value);
  if (body !== undefined) headers["content-type"] = "application/json";
  try {
    const response = await fetch(path, { method: body === undefined ? "GET" : "POST", headers, body, signal, cache: "no-store" });
    dispatchEvent(new Event("back"));
    return response;
  } catch (error) {
    if (error.name === "AbortError") throw error;
    dispatchEvent(new Event("away"));
    throw new Problem(0, { message: "the server does not answer.", hint: "see whether it still runs" });
  }
}

async function problem(response) {
  // Seconds; a date, which the header may hold too, is not worth more than the usual second.
  const wait = Math.min(60, Number(response.headers.get("retry-after")) || 1);
  const said = await response.json().catch(() => ({}));
  return new Problem(response.status, said?.error instanceof Object ? said.error : undefined, wait);
}

const pause = (seconds, signal) => new Promise((resolve, reject) => {
  const timer = setTimeout(resolve, 1e3 * seconds);
  signal?.addEventListener("abort", () => {
    clearTimeout(timer);
    reject(signal.reason);
  }, { once: true });
});

/** Let the person type a key; several requests that need one ask once. Return whether there is one. */
function askForKey(refused) {
  asking ??= new Promise((resolve) => {
    const dialog = at("key-dialog");
    at("key-title").textContent = refused ? "That key was not accepted" : "This server asks for a key";
    at("key").value = "";
    dialog.returnValue = "";
    dialog.addEventListener("close", () => {
      asking = null;
      const given = dialog.returnValue === "use" && at("key").value.trim();
      at("key").value = "";
      if (given) key = given;
      resolve(Boolean(given));
    }, { once: true });
    dialog.showModal();
  });
  return asking;
}
