// Many texts: pasted lines or a CSV, and the same rows back with label and score.

import { classifyAll, labelled } from "./batch.js";
import { decode, delimiterOf, format, parse, widest } from "./csv.js";
import { at, bar, count, counted, duration, fill, make, percent, showProblem, table } from "./dom.js";

const PREVIEW = 5;
const SHOWN = 10;
const TEXT_NAMES = ["text", "inputs", "sentence", "message", "content", "body", "premise", "sentence1"];
const PAIR_NAMES = ["text_pair", "text2", "hypothesis", "sentence2"];

let known = null;
let given = null;
let running = null;

/** Begin: `card` gives the model's card. */
export function begin(card) {
  known = card;
  at("use-lines").addEventListener("click", () => useLines(at("lines").value));
  at("file").addEventListener("change", () => useFile(at("file").files[0]));
  const drop = at("drop");
  for (const kind of ["dragover", "dragleave", "drop"]) {
    drop.addEventListener(kind, (event) => {
      event.preventDefault();
      drop.classList.toggle("over", kind === "dragover");
      if (kind === "drop") useFile(event.dataTransfer.files[0]);
    });
  }
  at("setup").addEventListener("submit", (event) => {
    event.preventDefault();
    run();
  });
}

async function useLines(text, name = "texts") {
  let pairs = false;
  try {
    ({ pairs } = await known());
  } catch (error) {
    showProblem(at("many-problem"), error);
    return;
  }
  const lines = text.replace(/\r\n?/g, "\n").split("\n");
  while (lines.length && !lines.at(-1).trim()) lines.pop();
  const rows = lines.map((line) => (pairs ? [line.split("\t")[0], line.split("\t").slice(1).join("\t")] : [line]));
  use({ name, delimiter: ",", rows, names: pairs ? ["text", "text_pair"] : ["text"], header: false });
}

async function useFile(file) {
  at("file").value = "";
  if (!file) return;
  const text = decode(await file.arrayBuffer());
  const name = file.name.replace(/\.[^.]*$/, "");
  if (file.name.toLowerCase().endsWith(".txt")) {
    useLines(text, name);
    return;
  }
  const delimiter = delimiterOf(text);
  const rows = parse(text, delimiter);
  use({ name, delimiter, rows, header: looksLikeNames(rows[0] ?? []) });
}

/** Whether a row is one of names: short ones, all different, none of them a number. */
function looksLikeNames(row) {
  const names = row.map((name) => name.trim().toLowerCase());
  if (row.length === 1) return [...TEXT_NAMES, ...PAIR_NAMES].includes(names[0]);
  return new Set(names).size === names.length && names.every((name) => name && name.length <= 40 && Number.isNaN(Number(name)));
}

async function use(table) {
  running?.abort();
  given = null;
  at("setup").hidden = at("many-answer").hidden = true;
  if (!table.rows.length) return showProblem(at("many-problem"), { message: "there is no text in it.", hint: "one text on each line, or a CSV with a column of texts" });
  showProblem(at("many-problem"), null);
  try {
    given = { ...table, card: await known() };
  } catch (error) {
    return showProblem(at("many-problem"), error);
  }
  return showSetup();
}

const headerOf = () => (given.header ? given.rows[0] : given.names ?? null);
const rowsOf = () => (given.header ? given.rows.slice(1) : given.rows);

function showSetup() {
  const { pairs } = given.card;
  const width = widest(given.rows);
  const names = Array.from({ length: width }, (_, place) => headerOf()?.[place] || `column ${place + 1}`);
  const [text, pair] = guess(names);
  const choose = (id, label, chosen) => make("div", { class: "field" }, make("label", { for: id }, label),
    make("select", { id }, names.map((name, place) => make("option", { value: String(place), selected: place === chosen }, name))));
  const named = make("input", { type: "checkbox", id: "named", checked: given.header, onchange: () => {
    given.header = named.checked;
    showSetup();
    at("named").focus();
  } });
  const rows = rowsOf();
  fill(at("setup"),
    make("h2", {}, `${given.names && given.name === "texts" ? "Pasted lines" : given.name}: ${counted(rows.length, "row")}`),
    given.names ? null : make("div", { class: "fields" },
      choose("text-column", pairs ? "Column of the first texts" : "Column of the texts", text),
      pairs ? choose("pair-column", "Column of the second texts", pair) : null,
      make("label", { class: "check" }, named, "The first row holds names")),
    given.names ? null : make("h3", {}, "The first rows"),
    given.names ? null : table(names, rows.slice(0, PREVIEW).map((row) => names.map((_, place) => clipped(row[place] ?? ""))), "The first rows"),
    make("div", { class: "actions" }, make("button", { class: "primary" }, `Classify ${counted(rows.length, "text")}`)));
  at("setup").hidden = false;
  at("setup").scrollIntoView({ block: "nearest" });
}

/** Return the columns of texts: by their names, else those with the longest fields. */
function guess(names) {
  const lower = names.map((name) => name.trim().toLowerCase());
  const some = rowsOf().slice(0, 100);
  const longest = names.map((_, place) => [some.reduce((sum, row) => sum + (row[place] ?? "").length, 0), place])
    .sort((one, other) => other[0] - one[0]).map(([, place]) => place);
  const byName = (wanted) => wanted.map((name) => lower.indexOf(name)).find((place) => place >= 0);
  const text = byName(TEXT_NAMES) ?? longest[0];
  return [text, byName(PAIR_NAMES) ?? longest.find((place) => place !== text) ?? text];
}

const clipped = (text) => [make("span", { class: "clip", title: text.length > 80 ? text : undefined }, text), "text"];

async function run() {
  const column = Number(at("text-column")?.value ?? 0);
  const pair = Number(at("pair-column")?.value ?? 1);
  const { pairs, limits } = given.card;
  const job = { ...given, head: headerOf(), rows: rowsOf(), column, pairs, answers: [], begun: performance.now() };
  const questions = job.rows.map((row) => ({ text: row[column] ?? "", ...(pairs ? { text_pair: row[pair] ?? "" } : {}) }));
  running?.abort();
  const stop = running = new AbortController();
  const shown = progress(questions.length, stop, job.begun);
  at("many-said").textContent = `Classifying ${counted(questions.length, "text")}.`;
  let problem = null;
  try {
    await classifyAll(questions, { limits, signal: stop.signal, waiting: shown.waiting, told: (answers) => {
      job.answers = answers;
      shown.told(answers.length);
    } });
  } catch (error) {
    if (running !== stop) return;
    problem = error.name === "AbortError" ? { message: `stopped after ${counted(job.answers.length, "text")}.` } : error;
  }
  if (running !== stop) return;
  running = null;
  showResults(job, problem);
}

function progress(total, stop, begun) {
  const line = make("progress", { max: total, value: 0, "aria-label": "Progress" });
  const said = make("p", { class: "muted small" }, `0 of ${count(total)}`);
  const waiting = make("p", { class: "note", hidden: true }, "The server is busy. This goes on by itself in a moment.");
  fill(at("many-answer"), make("div", { class: "card" }, make("h2", {}, "Classifying"), line, said, waiting,
    make("div", { class: "actions" }, make("button", { type: "button", onclick: () => stop.abort() }, "Stop"))));
  at("many-answer").hidden = false;
  at("many-answer").scrollIntoView({ block: "nearest" });
  return {
    waiting: (problem) => { waiting.hidden = !problem; },
    told: (done) => {
      const seconds = (performance.now() - begun) / 1e3;
      line.value = done;
      said.textContent = `${count(done)} of ${count(total)}, ${count(done / seconds)} a second, about ${duration((total - done) * seconds / done)} left`;
    },
  };
}

function showResults(job, problem) {
  const seconds = (performance.now() - job.begun) / 1e3;
  const answered = job.answers.filter((answer) => answer && !answer.problem);
  const blank = job.answers.filter((answer) => answer === null).length;
  const refused = job.answers.length - answered.length - blank;
  const notes = [
    blank && `${counted(blank, "row has", "rows have")} no text and got no label.`,
    refused && `The server refused ${counted(refused, "text")}; the column “problem” says why.`,
  ].filter(Boolean);
  const wrong = make("div", {});
  showProblem(wrong, problem);
  const summary = `${counted(answered.length, "text")} classified in ${duration(seconds)}, ${count(answered.length / seconds)} a second.`;
  fill(at("many-answer"), make("div", { class: "card" },
    make("h2", {}, problem ? "Not finished" : "Done"),
    make("p", {}, summary), notes.map((note) => make("p", { class: "note" }, note)), wrong,
    make("div", { class: "actions" }, make("button", { type: "button", class: "primary", id: "download", onclick: () => save(job) }, "Download the results as CSV")),
    make("div", { class: "results" },
      make("div", {}, make("h3", {}, "How many of each label"), make("ul", { class: "bars" }, shares(job, answered))),
      make("div", {}, make("h3", {}, job.answers.length > SHOWN ? `The first ${SHOWN}` : "All of them"), preview(job)))));
  at("many-said").textContent = `${problem ? "Not finished" : "Done"}. ${summary}`;
  at("download").focus({ preventScroll: true });
  at("many-answer").scrollIntoView({ block: "start" });
}

function shares(job, answered) {
  const counts = new Map(job.card.labels.map((label) => [label, 0]));
  for (const answer of answered) for (const label of answer.labels ?? [answer.label]) counts.set(label, counts.get(label) + 1);
  const none = answered.filter((answer) => answer.label === null).length;
  if (none) counts.set("(no label)", none);
  return [...counts].filter(([, number]) => number).sort((one, other) => other[1] - one[1]).map(([label, number]) =>
    make("li", { class: "row chosen" }, make("span", { class: "name", title: label }, label), bar(number / answered.length), make("span", { class: "share" }, count(number))));
}

function preview(job) {
  const rows = job.answers.slice(0, SHOWN).map((answer, place) => [
    clipped(job.rows[place][job.column] ?? ""),
    answer?.labels?.join(", ") ?? answer?.label ?? "—",
    [answer?.score === undefined ? "—" : percent(answer.score), "n"],
  ]);
  return table(["Text", "Label", ["Score", "n"]], rows, "Texts with their labels");
}

function save(job) {
  const rows = labelled(job.head, job.rows, job.answers);
  // The mark at the start is what tells Excel that the file is UTF-8.
  const address = URL.createObjectURL(new Blob(["\ufeff", format(rows, job.delimiter)], { type: "text/csv;charset=utf-8" }));
  const link = make("a", { href: address, download: `${job.name}-labelled.csv` });
  link.click();
  setTimeout(() => URL.revokeObjectURL(address), 60_000);
}
