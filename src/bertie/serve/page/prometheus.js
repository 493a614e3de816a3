// The text that Prometheus reads, read here too.

const LINE = /^([a-zA-Z_:][\w:]*)(?:\{(.*)\})?\s+(\S+)/;
const LABEL = /([a-zA-Z_]\w*)="((?:[^"\\]|\\.)*)"/g;

/** Return the samples: {name, labels, value}. */
export function parse(text) {
  const samples = [];
  for (const line of text.split("\n")) {
    const found = line.startsWith("#") ? null : LINE.exec(line);
    if (!found) continue;
    const labels = Object.fromEntries([...(found[2] ?? "").matchAll(LABEL)].map(([, name, value]) =>
      [name, value.replace(/\\(.)/g, (_, character) => (character === "n" ? "\n" : character))]));
    samples.push({ name: found[1], labels, value: found[3] === "+Inf" ? Infinity : Number(found[3]) });
  }
  return samples;
}

/** Return the sum of the samples of a name that `fits`. */
export const sum = (samples, name, fits = () => true) =>
  samples.filter((one) => one.name === name && fits(one.labels)).reduce((total, one) => total + one.value, 0);

/** Return about where a share of a histogram's values lies below, as histogram_quantile does; null where there is none. */
export function quantile(samples, name, share, fits = () => true) {
  const totals = new Map();
  for (const one of samples) {
    if (one.name !== `${name}_bucket` || !fits(one.labels)) continue;
    const edge = one.labels.le === "+Inf" ? Infinity : Number(one.labels.le);
    totals.set(edge, (totals.get(edge) ?? 0) + one.value);
  }
  const buckets = [...totals].sort((one, other) => one[0] - other[0]);
  const all = buckets.at(-1)?.[1] ?? 0;
  if (!all) return null;
  const wanted = share * all;
  const place = buckets.findIndex(([, below]) => below >= wanted);
  const [low, before] = place ? buckets[place - 1] : [0, 0];
  const [high, below] = buckets[place];
  return high === Infinity ? low : low + (high - low) * ((wanted - before) / Math.max(1, below - before));
}
