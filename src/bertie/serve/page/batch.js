// Many texts become many answers, a chunk after the other, so that others' requests come in between.

import { Problem, sendPatiently } from "./api.js";
import { widest } from "./csv.js";

const CHUNK_TEXTS = 32;
const CHUNK_CHARACTERS = 64_000;

/**
 * Classify questions ({text} or {text, text_pair}) in order; a blank one is not sent, and its answer is null.
 *
 * `told(answers)` is called after each chunk with all answers so far, {label, score, ...} or {problem} for a question
 * that the server refuses. Throws Problem where the server fails, AbortError where `signal` says so.
 */
export async function classifyAll(questions, { limits, signal, waiting, told }) {
  const answers = [];
  for (const chunk of chunks(questions, Math.min(CHUNK_TEXTS, limits.max_texts))) {
    const asked = chunk.filter((question) => !blank(question));
    const found = (asked.length ? await answersTo(asked, { signal, waiting }) : [])[Symbol.iterator]();
    for (const question of chunk) answers.push(blank(question) ? null : found.next().value);
    told(answers);
  }
  return answers;
}

const blank = (question) => Object.values(question).some((part) => !part.trim());

function* chunks(questions, most) {
  let chunk = [];
  let characters = 0;
  for (const question of questions) {
    const size = Object.values(question).reduce((sum, part) => sum + part.length, 0);
    if (chunk.length === most || (chunk.length && characters + size > CHUNK_CHARACTERS)) {
      yield chunk;
      [chunk, characters] = [[], 0];
    }
    chunk.push(question);
    characters += size;
  }
  if (chunk.length) yield chunk;
}

/** Where a chunk is refused, its halves are asked: in the end only the text at fault has no answer. */
async function answersTo(questions, options) {
  try {
    const response = await sendPatiently("invocations", questions, options);
    return await response.json();
  } catch (error) {
    if (!(error instanceof Problem) || ![413, 422, 504].includes(error.status)) throw error;
    if (questions.length === 1) return [{ problem: error.message }];
    const middle = questions.length >> 1;
    return [...(await answersTo(questions.slice(0, middle), options)), ...(await answersTo(questions.slice(middle), options))];
  }
}

/** Return a table's rows with the answers beside them; names that the table has already get `predicted_` before them. */
export function labelled(header, rows, answers) {
  const names = ["label", "score", ...(answers.some((one) => one?.problem) ? ["problem"] : [])];
  const taken = new Set((header ?? []).map((name) => name.trim().toLowerCase()));
  const width = Math.max(header?.length ?? 0, widest(rows));
  const padded = (row) => [...row, ...Array(width - row.length).fill("")];
  const added = (answer) => [answer?.labels?.join(";") ?? answer?.label ?? "", answer?.score ?? "", answer?.problem ?? ""].slice(0, names.length);
  const first = header ? [[...padded(header), ...names.map((name) => (taken.has(name) ? `predicted_${name}` : name))]] : [];
  return [...first, ...rows.map((row, place) => [...padded(row), ...added(answers[place])])];
}
