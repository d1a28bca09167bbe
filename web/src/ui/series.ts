// Samples of several lines on one time axis.

export interface Sample {
  ts: number;
  value: number;
}

export interface Window {
  from: number;
  to: number;
  step: number;
}

/** The moments of a window at which there can be samples: the server's intervals, whatever their phase. */
export function momentsOf({ from, to, step }: Window, some: Sample[]): number[] {
  const phase = some.length > 0 ? some[0].ts % step : 0;
  const first = Math.ceil((from - phase) / step) * step + phase;
  const moments = [];
  for (let at = first; at <= to; at += step) moments.push(at);
  return moments;
}

/** One value for each moment; `missing` where nothing was measured. */
export function onto<Missing extends number | null>(moments: number[], samples: Sample[], missing: Missing): (number | Missing)[] {
  const known = new Map(samples.map(({ ts, value }) => [ts, value]));
  return moments.map((at) => known.get(at) ?? missing);
}

/** Each row with all rows before it added. */
export function stacked(rows: number[][]): number[][] {
  let below: number[] = [];
  return rows.map((row) => (below = row.map((value, at) => value + (below[at] ?? 0))));
}

export function lastOf(values: (number | null)[]): number | null {
  for (let at = values.length - 1; at >= 0; at--) if (values[at] !== null) return values[at];
  return null;
}

const steps = ["B", "KB", "MB", "GB", "TB"];

export function bytes(value: number): string {
  let size = Math.abs(value);
  let unit = 0;
  while (size >= 1000 && unit < steps.length - 1) {
    size /= 1024;
    unit++;
  }
  return `${short(size)} ${steps[unit]}`;
}

/** Three digits that say something. */
export function short(value: number): string {
  if (value === 0) return "0";
  if (value >= 100) return Math.round(value).toLocaleString("en");
  if (value >= 10) return value.toFixed(1).replace(/\.0$/, "");
  if (value < 0.001) return "<0.001";
  return String(Number(value.toPrecision(value < 0.1 ? 1 : 2)));
}

export function millis(value: number): string {
  return value >= 1000 ? `${short(value / 1000)} s` : `${short(value)} ms`;
}
