// What the server does now, in plain words.

import { send } from "./api.js";
import { at, bar, count, duration, fill, make, showProblem, table } from "./dom.js";
import { parse, quantile, sum } from "./prometheus.js";

const EVERY_SECONDS = 3;
const PHASES = [["tokenize", "Cut into tokens"], ["queue", "Wait for the model"], ["model", "Model"]];
// What a person or a probe looks at is no work.
const ASKS = (labels) => ![...["/", "/page/{name}", "/metrics", "/ping", "/card", "other"]].includes(labels.path);

let timer = 0;

/** Show the numbers again and again while the view is open. */
export function show(open) {
  clearTimeout(timer);
  if (open) refresh();
}

async function refresh() {
  try {
    const samples = parse(await (await send("metrics")).text());
    showProblem(at("server"), null);
    fill(at("server"), pages(samples));
  } catch (error) {
    showProblem(at("server"), error);
    if (error.status === 401) return;
  }
  clearTimeout(timer);
  timer = setTimeout(() => (document.hidden || at("server").hidden ? null : refresh()), 1e3 * EVERY_SECONDS);
}

document.addEventListener("visibilitychange", () => show(!document.hidden && !at("server").hidden));

function pages(samples) {
  const status = (test) => sum(samples, "bertie_requests_total", (labels) => ASKS(labels) && test(Number(labels.status)));
  const texts = sum(samples, "bertie_scores_count");
  const calls = sum(samples, "bertie_batch_windows_count");
  const read = sum(samples, "bertie_batch_tokens_sum");
  const padding = sum(samples, "bertie_padding_tokens_total");
  const tiles = [
    [count(texts), "texts answered since the start"],
    [count(sum(samples, "bertie_queue_tokens")), "tokens wait now"],
    [count(status((code) => code === 429)), "requests refused, because too much waited"],
    [count(status((code) => code >= 400 && code < 500 && code !== 429)), "requests that could not be read"],
    [count(status((code) => code >= 500)), "requests that failed"],
  ];
  const working = calls
    ? `The model was called ${count(calls)} times, with ${(sum(samples, "bertie_batch_windows_sum") / calls).toFixed(1)} texts or windows and ${count(read / calls)} tokens a time; ${(100 * padding / (padding + read)).toFixed(1)}% of what it computed was padding.`
    : "The model has not been called yet.";
  return [
    make("div", { class: "card" }, make("h2", {}, "Now"), make("div", { class: "tiles" }, tiles.map(([number, name]) => make("div", {}, make("b", {}, number), make("span", { class: "muted small" }, name))))),
    make("div", { class: "card" }, make("h2", {}, "How long a request takes"), times(samples), make("p", { class: "note" }, working)),
    texts ? make("div", { class: "card" }, make("h2", {}, "Labels given"), make("ul", { class: "bars" }, labels(samples, texts))) : null,
  ].filter(Boolean);
}

function times(samples) {
  const rows = PHASES.map(([phase, name]) => {
    const fits = (labels) => labels.phase === phase;
    const at = (share) => quantile(samples, "bertie_phase_seconds", share, fits);
    return [name, ...[0.5, 0.95, 0.99].map((share) => [at(share) === null ? "—" : `≈ ${duration(at(share))}`, "n"])];
  });
  return table(["Phase", ["Half are below", "n"], ["95% are below", "n"], ["99% are below", "n"]], rows, "Time by phase");
}

function labels(samples, texts) {
  return samples.filter((one) => one.name === "bertie_labels_total").sort((one, other) => other.value - one.value).map(({ labels: { label }, value }) =>
    make("li", { class: "row chosen" }, make("span", { class: "name", title: label }, label === "None" ? "(no label)" : label), bar(value / texts), make("span", { class: "share" }, count(value))));
}
