import { useEffect, useRef, useState } from "react";
import uPlot from "uplot";
import "uplot/dist/uPlot.min.css";
import { lastOf } from "./series";

export interface Line {
  label: string;
  /** A token of tokens.css, as `--accent`. */
  colour: string;
  values: (number | null)[];
  /** What is drawn when it is not what is said: the values of a stack. */
  drawn?: (number | null)[];
  dashed?: boolean;
}

interface Props {
  title: string;
  /** The number that matters, with its unit and what it is to be compared with. */
  now: string;
  moments: number[];
  lines: Line[];
  format: (value: number) => string;
  bars?: boolean;
  /** The smallest value that the axis reaches to: what is hardly anything is drawn as hardly anything. */
  least: number;
  /** Sizes in memory, of which round numbers are powers of two. */
  binary?: boolean;
  window: { from: number; to: number };
}

const token = (name: string) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const faint = (colour: string) => `color-mix(in srgb, ${colour} 14%, transparent)`;
const HEIGHT = 148;

const binary = Array.from({ length: 50 }, (_, at) => 2 ** at);

/** Values without a neighbour: no line would show them. */
function alone(plot: uPlot, series: number): number[] {
  const values = plot.data[series];
  return Array.from(values.keys()).filter((at) => values[at] != null && values[at - 1] == null && values[at + 1] == null);
}

function options(props: Props, width: number, point: (at: number | null) => void): uPlot.Options {
  const { lines, bars, format } = props;
  const axis = { stroke: () => token("--ink-3"), font: `11px ${token("--text")}`, ticks: { show: false }, grid: { stroke: () => token("--line"), width: 1 } };
  return {
    width,
    height: HEIGHT,
    // Every chart of a page points at the same moment.
    cursor: { sync: { key: "metrics" }, points: { size: 6 }, y: false, drag: { x: false, y: false } },
    legend: { show: false },
    padding: [8, 4, 0, 0],
    scales: { x: { time: true, range: () => [props.window.from, props.window.to] }, y: { range: (_, __, most) => [0, Math.max(most * 1.12, props.least)] } },
    axes: [
      { ...axis, size: 24, space: 72, grid: { show: false }, values: (_, at) => at.map((one, i) => clock(one, at[1] - at[0], i === 0)) },
      { ...axis, size: 64, space: 36, incrs: props.binary ? binary : undefined, values: (_, at) => at.map(format) },
    ],
    series: [
      {},
      ...lines.map(({ colour, dashed }) => ({
        stroke: () => token(colour),
        width: bars ? 0 : 1.5,
        dash: dashed ? [4, 4] : undefined,
        fill: bars ? () => token(colour) : dashed || lines.length > 2 ? undefined : () => faint(token(colour)),
        paths: bars ? uPlot.paths.bars!({ size: [0.8, 14], align: 1 }) : undefined,
        points: bars ? { show: false } : { show: true, size: 3, fill: () => token(colour), filter: alone },
        spanGaps: false,
      })),
    ],
    hooks: { setCursor: [(plot) => point(plot.cursor.idx ?? null)] },
  };
}

function clock(at: number, gap: number, first: boolean): string {
  const when = new Date(at * 1000);
  const day = when.toLocaleDateString(undefined, { day: "numeric", month: "short" });
  if (gap >= 86_400) return day;
  const time = when.toLocaleTimeString(undefined, { hour: "2-digit", minute: "2-digit", second: gap < 60 ? "2-digit" : undefined, hourCycle: "h23" });
  return when.getHours() === 0 && when.getMinutes() === 0 && !first ? day : time;
}

/** What was measured, in the window that it was asked for: it stays as it is until what is newer has come. */
export function useInWindow<T, W>(data: T | undefined, window: W): { data: T; window: W } | null {
  const shown = useRef<{ data: T; window: W }>(null);
  if (data && shown.current?.data !== data) shown.current = { data, window };
  return shown.current;
}

export function Chart(props: Props) {
  const { title, now, moments, lines, format } = props;
  const place = useRef<HTMLDivElement>(null);
  const plot = useRef<uPlot | null>(null);
  const latest = useRef(props);
  latest.current = props;
  const [at, setAt] = useState<number | null>(null);
  const shape = lines.map((line) => line.label).join();

  useEffect(() => {
    const element = place.current!;
    const made = new uPlot(options(latest.current, element.clientWidth, setAt), data(latest.current), element);
    // The axes read what is now, not what was when the chart was made.
    made.scales.x.range = () => [latest.current.window.from, latest.current.window.to];
    plot.current = made;
    const sized = new ResizeObserver(() => made.setSize({ width: element.clientWidth, height: HEIGHT }));
    sized.observe(element);
    const repaint = () => made.redraw(false);
    const dark = matchMedia("(prefers-color-scheme: dark)");
    dark.addEventListener("change", repaint);
    const themed = new MutationObserver(repaint);
    themed.observe(document.documentElement, { attributeFilter: ["data-theme"] });
    return () => {
      sized.disconnect();
      themed.disconnect();
      dark.removeEventListener("change", repaint);
      made.destroy();
      plot.current = null;
    };
  }, [shape]);

  useEffect(() => {
    plot.current?.setData(data({ ...latest.current, moments, lines }));
  }, [moments, lines]);

  const pointed = at !== null && at < moments.length;
  return (
    <figure className="chart" aria-label={`${title}: ${now}`}>
      <figcaption>
        <h2>{title}</h2>
        <span className="grow" />
        {pointed ? <span className="numbers quiet">{new Date(moments[at] * 1000).toLocaleString(undefined, { dateStyle: "medium", timeStyle: "medium" })}</span> : <span className="numbers">{now}</span>}
      </figcaption>
      <div ref={place} aria-hidden="true" />
      {lines.length > 1 && (
        <ul className="legend" aria-label={`Lines of ${title}`}>
          {lines.map((line) => {
            const value = pointed ? line.values[at] : lastOf(line.values);
            return (
              <li key={line.label}>
                <span className="key" data-dashed={line.dashed} style={{ color: `var(${line.colour})` }} />
                {line.label} <span className="numbers second">{value === null || value === undefined ? "–" : format(value)}</span>
              </li>
            );
          })}
        </ul>
      )}
    </figure>
  );
}

function data({ moments, lines }: Pick<Props, "moments" | "lines">): uPlot.AlignedData {
  return [moments, ...lines.map((line) => line.drawn ?? line.values)] as uPlot.AlignedData;
}
