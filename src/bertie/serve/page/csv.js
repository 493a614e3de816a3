// CSV as RFC 4180 has it, and as spreadsheets write it: any of three delimiters, quotes, line breaks within fields.

const DELIMITERS = [",", ";", "\t"];

/** Return the text of a file's bytes: UTF-8, UTF-16 with its mark, or else what older spreadsheets write. */
export function decode(buffer) {
  const [first, second] = new Uint8Array(buffer, 0, Math.min(2, buffer.byteLength));
  const wide = first === 0xff && second === 0xfe ? "utf-16le" : first === 0xfe && second === 0xff ? "utf-16be" : null;
  try {
    return new TextDecoder(wide ?? "utf-8", { fatal: true }).decode(buffer);
  } catch {
    return new TextDecoder("windows-1252").decode(buffer);
  }
}

/** Return the delimiter that a text's first row has most of, outside quotes. */
export function delimiterOf(text) {
  const seen = new Map(DELIMITERS.map((one) => [one, 0]));
  let quoted = false;
  for (const character of text) {
    if (character === '"') quoted = !quoted;
    else if (!quoted && (character === "\n" || character === "\r")) break;
    else if (!quoted && seen.has(character)) seen.set(character, seen.get(character) + 1);
  }
  return DELIMITERS.reduce((best, one) => (seen.get(one) > seen.get(best) ? one : best));
}

/** Return the rows of a CSV, each a list of fields. Empty lines are no rows. */
export function parse(text, delimiter) {
  const rows = [];
  let row = [];
  let place = 0;
  while (place < text.length) {
    let field = "";
    const quoted = text[place] === '"';
    if (quoted) [field, place] = quotedField(text, place);
    const end = endOfField(text, place, delimiter);
    // What stands after a closing quote is kept as it is: nothing of a file is lost.
    field += text.slice(place, end);
    row.push(field);
    place = end + 1;
    if (text[end] === delimiter && place < text.length) continue;
    if (text[end] === delimiter) row.push("");
    if (text[end] === "\r" && text[place] === "\n") place += 1;
    if (row.length > 1 || row[0] !== "" || quoted) rows.push(row);
    row = [];
  }
  return rows;
}

/** Return how many fields the longest row has. */
export const widest = (rows) => rows.reduce((most, row) => Math.max(most, row.length), 0);

function quotedField(text, start) {
  let field = "";
  let place = start + 1;
  for (;;) {
    const quote = text.indexOf('"', place);
    if (quote < 0) return [field + text.slice(place), text.length];
    field += text.slice(place, quote);
    if (text[quote + 1] !== '"') return [field, quote + 1];
    field += '"';
    place = quote + 2;
  }
}

function endOfField(text, start, delimiter) {
  let place = start;
  while (place < text.length && text[place] !== delimiter && text[place] !== "\n" && text[place] !== "\r") place += 1;
  return place;
}

/** Return rows as CSV. Fields are quoted where they must be. */
export function format(rows, delimiter) {
  const field = (value) => {
    const text = String(value);
    const bare = ![delimiter, '"', "\n", "\r"].some((character) => text.includes(character));
    return bare ? text : `"${text.replaceAll('"', '""')}"`;
  };
  // A row of one empty field would be an empty line, which is no row.
  const line = (row) => (row.length === 1 && row[0] === "" ? '""' : row.map(field).join(delimiter));
  return rows.map((row) => `${line(row)}\r\n`).join("");
}
