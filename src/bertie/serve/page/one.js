// One text: its labels, the words they stand on, and what it took.

import { send, sendPatiently } from "./api.js";
import { at, bar, count, duration, fill, make, percent, showProblem, table } from "./dom.js";

const FIRST_BARS = 8;
const FEWEST_POINTS = 0.001; // A tenth of a percentage point: below that a word is not marked.
const LEAST_SHARE = 0.12; // Of the heaviest word's weight: lighter words are not marked.
const TOP_WORDS = 6;
const NAMED_LABELS = 12;
const PHASES = { tokenize: "cut into tokens", queue: "waited", model: "model", rest: "network and browser" };

let card = null;
let cardOf = null;
let work = new AbortController();
let leaving = new AbortController(); // The explanation that is on its way.

/** Know the model's card. */
export function know(found) {
  card = found;
  at("partner").hidden = !card.pairs;
  at("about").textContent = about(card);
}

/** Begin: `known` gives the model's card. */
export function begin(known) {
  cardOf = known;
  at("one-form").addEventListener("submit", (event) => {
    event.preventDefault();
    classify();
  });
  for (const id of ["text", "text-pair"]) {
    at(id).addEventListener("keydown", (event) => {
      if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
        event.preventDefault();
        classify();
      }
    });
  }
}

function about({ labels, pairs, task }) {
  const named = labels.length > NAMED_LABELS ? [...labels.slice(0, NAMED_LABELS), `and ${count(labels.length - NAMED_LABELS)} more`] : labels;
  const which = task === "multi-label" ? `any of ${count(labels.length)} labels` : `one of ${count(labels.length)} labels`;
  return `This model gives each ${pairs ? "pair of texts" : "text"} ${which}: ${named.join(", ")}.`;
}

function asked() {
  const text = at("text").value;
  return card.pairs ? { text, text_pair: at("text-pair").value } : { text };
}

async function classify() {
  work.abort();
  work = new AbortController();
  const { signal } = work;
  try {
    await cardOf(); // It says how many texts make a question.
  } catch (error) {
    showProblem(at("one-problem"), error);
    return;
  }
  const question = asked();
  const missing = Object.values(question).findIndex((part) => !part.trim());
  if (missing >= 0) {
    showProblem(at("one-problem"), { message: "there is no text yet.", hint: "type one" });
    at(missing ? "text-pair" : "text").focus();
    return;
  }
  showProblem(at("one-problem"), null);
  at("classify").setAttribute("aria-disabled", "true");
  try {
    const begun = performance.now();
    const response = await send("invocations", question, { signal });
    const answer = await response.json();
    const seconds = (performance.now() - begun) / 1e3;
    showAnswer(question, answer, signal);
    showTime(seconds, response.headers.get("server-timing") ?? "");
    await explain(question, undefined, signal);
  } catch (error) {
    if (error.name === "AbortError") return;
    at("one-answer").hidden = true;
    showProblem(at("one-problem"), error);
  } finally {
    if (!signal.aborted) at("classify").removeAttribute("aria-disabled");
  }
}

function showAnswer(question, answer, signal) {
  const chosen = answer.labels ?? [answer.label];
  const verdict = at("verdict");
  if (!answer.labels) fill(verdict, answer.label, make("span", { class: "muted" }, percent(answer.score)));
  else if (chosen.length) fill(verdict, chosen.map((label) => make("span", { class: "chip" }, label)));
  else fill(verdict, "No label");
  at("one-said").textContent = chosen.length
    ? `Answer: ${chosen.map((label) => `${label}, ${percent(answer.scores[label])}`).join("; ")}.`
    : "No label is over its threshold.";
  const ranked = Object.entries(answer.scores).sort((one, other) => other[1] - one[1]);
  const rows = ranked.map(([label, share]) => labelRow(label, share, chosen.includes(label), () => explain(question, label, signal)));
  const first = Math.max(FIRST_BARS, chosen.length);
  const more = at("more-bars");
  fill(at("bars"), rows.slice(0, first));
  more.hidden = rows.length <= first;
  more.textContent = `Show all ${count(rows.length)} labels`;
  more.onclick = () => {
    fill(at("bars"), rows);
    more.hidden = true;
    rows[first].firstChild.focus();
  };
  at("one-answer").hidden = false;
}

function labelRow(label, share, chosen, explained) {
  const threshold = card.thresholds?.[card.labels.indexOf(label)];
  const name = make("span", { class: "name", title: label }, chosen ? `✓ ${label}` : label);
  const button = make("button", {
    type: "button",
    class: chosen ? "chosen" : undefined,
    "aria-pressed": "false",
    "aria-label": `${label}, ${percent(share)}${chosen ? ", chosen" : ""}. Show its words`,
    onclick: explained,
  }, name, bar(share, threshold), make("span", { class: "share" }, percent(share)));
  button.dataset.label = label;
  return make("li", {}, button);
}

async function explain(question, label, asking) {
  leaving.abort(); // Of two that are asked for the one asked last counts, whichever comes first.
  leaving = new AbortController();
  const signal = AbortSignal.any([asking, leaving.signal]);
  for (const button of at("bars").querySelectorAll("button")) button.setAttribute("aria-pressed", String(button.dataset.label === label));
  const place = at("words");
  const late = setTimeout(() => fill(place, make("p", { class: "waiting" }, "Leaving out one word after the other …")), 150);
  try {
    const response = await sendPatiently("explain", { ...question, ...(label ? { label } : {}) }, { signal });
    const found = await response.json();
    clearTimeout(late);
    showWords(question, found);
    for (const button of at("bars").querySelectorAll("button")) button.setAttribute("aria-pressed", String(button.dataset.label === found.label));
  } catch (error) {
    if (error.name !== "AbortError") showProblem(place, error);
  } finally {
    clearTimeout(late);
  }
}

function showWords(question, found) {
  const heaviest = Math.max(0, ...found.words.map((word) => Math.abs(word.weight)));
  const weighty = found.words.filter((word) => Math.abs(word.weight) >= FEWEST_POINTS);
  const marked = weighty.filter((word) => Math.abs(word.weight) >= LEAST_SHARE * heaviest);
  const texts = Object.entries(question).filter(([name]) => name !== "label").map(([name, text]) => {
    const own = marked.filter((word) => (word.in ?? "text") === name);
    return make("p", { class: card.pairs ? "spoken pair" : "spoken", tabIndex: 0, role: "group", "aria-label": "Your text, with its words marked" },
      spoken(text, own, heaviest, found.read));
  });
  const key = marked.length
    ? make("p", { class: "legend" },
      make("span", {}, make("mark", {}, "solid"), ` speaks for ${found.label}`),
      make("span", {}, make("mark", { class: "against" }, "dashed"), " speaks against it"))
    : make("p", { class: "note" }, "No word stands out: without any one of them the probability stays the same.");
  fill(at("words"), texts, key, marked.length ? topWords(weighty, found) : null, 
    found.words.some((word) => /\s/.test(word.text)) ? make("p", { class: "note" }, "The text is long: several words at a time were left out together.") : null,
    found.read === undefined ? null : make("p", { class: "note" }, "The text is longer than the model reads. What is struck through does not count."));
}

/** Return a text in pieces: as it is, as marks, and what is not read. Places are counted in code points. */
function spoken(text, words, heaviest, read) {
  const letters = Array.from(text);
  const piece = (from, to) => letters.slice(from, to).join("");
  const nodes = [];
  let place = 0;
  for (const word of words) {
    const mark = make("mark", { class: word.weight < 0 ? "against" : undefined }, piece(word.start, word.end));
    mark.style.setProperty("--strength", String(Math.abs(word.weight) / heaviest));
    nodes.push(piece(place, word.start), mark);
    place = word.end;
  }
  const end = read ?? letters.length;
  nodes.push(piece(place, end));
  if (end < letters.length) nodes.push(make("span", { class: "unread" }, piece(end)));
  return nodes;
}

function topWords(words, found) {
  const heaviest = [...words].sort((one, other) => Math.abs(other.weight) - Math.abs(one.weight)).slice(0, TOP_WORDS);
  const clipped = (text) => (text.length > 60 ? `${text.slice(0, 58)}…` : text);
  return table(["Left out", [`${found.label} is then`, "n"], ["Change in points", "n"]], heaviest.map((word) => [
    clipped(word.text),
    [percent(Math.min(1, Math.max(0, found.score - word.weight))), "n"],
    [points(-word.weight), "n"],
  ]), `The words that change the probability of ${found.label} most, which is ${percent(found.score)}`);
}

/** -0.412 -> "−41.2" percentage points */
const points = (change) => `${change < 0 ? "−" : "+"}${Math.abs(100 * change).toFixed(1)}`;

function showTime(seconds, header) {
  const phases = new Map();
  for (const [, name, value] of header.matchAll(/([\w-]+);dur=([\d.]+)/g)) phases.set(name, Number(value) / 1e3);
  const known = [...phases.values()].reduce((sum, one) => sum + one, 0);
  phases.set("rest", Math.max(0, seconds - known));
  const stripes = [...phases].map(([name, value]) => {
    const stripe = make("span", { class: name });
    stripe.style.flexGrow = String(1e6 * value); // Below 1 in all they would not fill the line.
    return stripe;
  });
  const cell = (name, value, kind) => make("div", { class: kind }, make("dt", {}, name), make("dd", {}, duration(value)));
  fill(at("time"),
    make("dl", { class: "time" }, cell("from click to answer", seconds, "all"), [...phases].map(([name, value]) => cell(PHASES[name] ?? name, value))),
    make("div", { class: "parts", "aria-hidden": "true" }, stripes));
}
