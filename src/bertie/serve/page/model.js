// The model's card: what it reads, what it answers, and how good it was when it was measured.

import { at, bar, bytes, count, counted, facts, fill, make, percent, showProblem, table } from "./dom.js";

const MEASURES = [
  ["accuracy", "Accuracy", "texts with the right answer"],
  ["macro_f1", "Macro-F1", "balance of misses and false alarms, each label counting the same"],
  ["mcc", "MCC", "agreement beyond chance"],
];
const CONFUSIONS = 6;

/** Show a card, or why there is none. */
export function show(card, problem = null) {
  if (card) fill(at("model"), pages(card));
  else showProblem(at("model"), problem);
}

function pages(card) {
  const labels = make("ul", { class: "names" }, card.labels.map((label, place) => make("li", {},
    card.thresholds ? `${label} ≥ ${percent(card.thresholds[place])}` : label)));
  const what = make("div", { class: "card" }, make("h2", {}, "What it does"), facts([
    ["Reads", card.pairs ? "pairs of texts" : "texts"],
    ["Answers", card.task === "multi-label" ? "any number of labels, each over its threshold" : "one label for each text"],
    [counted(card.labels.length, "label"), labels],
    ...(card.bundle ? made(card.bundle) : []),
  ]));
  return [what, card.bundle && quality(card.bundle.quality, card.labels)].filter(Boolean);
}

function made({ base, rows, written_by: written, input, variant }) {
  const long = input.long === "windows" ? `longer texts are read in up to ${input.max_windows} windows` : "longer texts are cut there";
  const origin = base.source && base.source !== base.name ? `${base.name} (${base.source})` : base.name;
  return [
    ["Length", `${count(input.max_tokens)} tokens, about ${count(10 * Math.round(input.max_tokens * 0.07))} English words; ${long}`],
    origin && ["Made from", origin],
    rows.train && ["Trained on", counted(rows.train, "text")],
    ["Runs as", `${variant.precision} on ${variant.engine === "openvino" ? "OpenVINO" : "ONNX Runtime"}, ${bytes(variant.bytes)}`],
    variant.note && ["Note", variant.note],
    written && ["Written by", `bertie ${written}`],
  ];
}

function quality(measured, labels) {
  const known = MEASURES.filter(([key]) => measured[key]);
  if (!known.length) {
    return make("div", { class: "card" }, make("h2", {}, "How good it is"), make("p", { class: "muted" }, "Nobody measured this model before it was put here."));
  }
  const rows = known.map(([key, name, meaning]) => {
    const { value, low, high } = measured[key];
    return [make("span", {}, name, make("span", { class: "meaning muted small" }, meaning)), [value.toFixed(3), "n"], [`${low.toFixed(3)} to ${high.toFixed(3)}`, "n"], [interval(value, low, high), "after"]];
  });
  return make("div", { class: "card" },
    make("h2", {}, "How good it is"),
    make("p", { class: "muted" }, `Measured through this very bundle on ${counted(measured.n, `${measured.on ?? "held-out"} text`)} that it was not trained on.`),
    table(["Measure", ["Value", "n"], ["95% interval", "n"], ["from 0 to 1", "after"]], rows, "Measures of quality"),
    calibration(measured), byLabel(measured, labels), confusions(measured, labels));
}

function interval(value, low, high) {
  const place = (share) => `${100 * Math.min(1, Math.max(0, share))}%`;
  const range = make("span", { class: "range" });
  range.style.left = place(low);
  range.style.width = place(high - low);
  const mark = make("span", { class: "value" });
  mark.style.left = place(value);
  return make("div", { class: "interval", "aria-hidden": "true" }, range, mark);
}

const calibration = ({ ece }) => (typeof ece !== "number" ? null : make("p", { class: "note" },
  `Its probabilities are off by ${(100 * ece).toFixed(1)} percentage points on average (expected calibration error).`));

function byLabel({ per_label: all }, labels) {
  if (!all) return null;
  const rows = labels.filter((label) => all[label]).map((label) => [
    label, [all[label].precision.toFixed(3), "n"], [all[label].recall.toFixed(3), "n"], [all[label].f1.toFixed(3), "n"], [bar(all[label].f1), "after"], [count(all[label].support), "n"],
  ]);
  return make("div", {}, make("h3", {}, "Label by label"),
    table(["Label", ["Precision", "n"], ["Recall", "n"], ["F1", "n"], ["from 0 to 1", "after"], ["Texts", "n"]], rows, "Quality of each label"));
}

function confusions({ confusion }, labels) {
  const wrong = (confusion ?? []).flatMap((row, truth) => row.map((number, found) => ({ number, truth, found, all: row.reduce((sum, one) => sum + one, 0) })))
    .filter(({ number, truth, found }) => number && truth !== found)
    .sort((one, other) => other.number - one.number).slice(0, CONFUSIONS);
  if (!wrong.length) return null;
  return make("div", {}, make("h3", {}, "What it mistakes most"), table(["It is", "It says", ["How often", "n"]],
    wrong.map(({ number, truth, found, all }) => [labels[truth], labels[found], [`${number} of ${all}`, "n"]]), "Most frequent mistakes"));
}
