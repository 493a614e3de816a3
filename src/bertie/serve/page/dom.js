// Elements and numbers. Texts become nodes of text here, never markup.

/** Return the element with this id. */
export const at = (id) => document.getElementById(id);

/** Return a new element. Properties of an element are set; `class` and names with a dash are attributes. */
export function make(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (value === undefined || value === null) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "class" || name.includes("-") || !(name in element)) element.setAttribute(name, value);
    else element[name] = value;
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== ""));
  return element;
}

/** Put these children in the place of an element's own. */
export const fill = (element, ...children) => element.replaceChildren(...children.flat().filter((child) => child !== null && child !== undefined));

/** Return a bar; its number stands beside it, so that readers of the screen leave it out. */
export function bar(share, threshold) {
  const filled = make("span", { class: "fill" });
  filled.style.width = `${100 * Math.min(1, Math.max(0, share))}%`;
  const track = make("span", { class: "track", "aria-hidden": "true" }, filled);
  if (threshold !== undefined) {
    const mark = make("span", { class: "threshold" });
    mark.style.left = `calc(${100 * threshold}% - 1px)`;
    track.append(mark);
  }
  return track;
}

/** Return a table. A head or cell is a text, a node, or [text or node, class]; the first cell of a row heads it. */
export function table(head, rows, caption) {
  const cell = (tag, content, more = {}) => {
    const [inner, kind] = Array.isArray(content) ? content : [content, undefined];
    return make(tag, { class: kind, ...more }, inner instanceof Node ? inner : String(inner));
  };
  return make("div", { class: "scroll", tabIndex: 0, role: "group", "aria-label": caption }, make("table", {},
    make("caption", { class: "unseen" }, caption),
    make("thead", {}, make("tr", {}, head.map((one) => cell("th", one, { scope: "col" })))),
    make("tbody", {}, rows.map((row) => make("tr", {},
      row.map((one, place) => (place ? cell("td", one) : cell("th", one, { scope: "row" }))))))));
}

/** Return facts: pairs of a name and a text or node. */
export const facts = (pairs) => make("dl", { class: "facts" },
  pairs.filter(Boolean).flatMap(([name, value]) => [make("dt", {}, name), make("dd", {}, value)]));

/** Show what went wrong in an element, or nothing. */
export function showProblem(element, error) {
  if (!error) return fill(element);
  const more = [error.expected && `Expected: ${error.expected}.`, error.hint && `Try: ${error.hint}.`].filter(Boolean);
  return fill(element, make("p", { class: "problem" }, [sentence(error.message), ...more].join(" ")));
}

const sentence = (text) => text.charAt(0).toUpperCase() + text.slice(1);

const whole = new Intl.NumberFormat("en");
const tenth = new Intl.NumberFormat("en", { minimumFractionDigits: 1, maximumFractionDigits: 1 });

/** 1205 -> "1,205" */
export const count = (number) => whole.format(Math.round(number));

/** "1 text", "2 texts" */
export const counted = (number, one, several = `${one}s`) => `${count(number)} ${number === 1 ? one : several}`;

/** 0.9734 -> "97.3%"; never 100% or 0% for what is only near it */
export function percent(share) {
  if (share < 1 && share >= 0.9995) return ">99.9%";
  if (share > 0 && share < 0.0005) return "<0.1%";
  return `${tenth.format(100 * share)}%`;
}

/** Seconds in the unit in which they read well. */
export function duration(seconds) {
  if (seconds < 0.0095) return `${(1e3 * seconds).toPrecision(2)} ms`;
  if (seconds < 0.9995) return `${Math.round(1e3 * seconds)} ms`;
  if (seconds < 90) return `${seconds.toPrecision(2)} s`;
  return `${count(seconds / 60)} min`;
}

/** Bytes as people count them. */
export const bytes = (number) => (number < 1e6 ? `${count(number / 1e3)} kB` : `${tenth.format(number / 1e6)} MB`);
