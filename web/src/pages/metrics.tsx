import { useQuery } from "@apollo/client/react";
import { useParams, useSearch } from "@tanstack/react-router";
import { useEffect, useMemo, useState } from "react";
import { AnswerTimesDocument, ServiceMetricsDocument, type MetricMeasurement, type ServiceMetricsQuery } from "../gql";
import { Empty, ErrorBox } from "../ui/basic";
import { Chart, useInWindow, type Line } from "../ui/chart";
import { rangeOf, Ranges, ranges, type Range } from "../ui/ranges";
import { bytes, lastOf, millis, momentsOf, onto, short, stacked, type Sample, type Window } from "../ui/series";

const GB = 1024 ** 3;
const MB = 1024 ** 2;
const DAY = 86_400;

/** The window that ends now, and moves on by one step at a time. A step of hours is drawn while it lasts; one of seconds when all of it was measured. */
function useWindow(range: Range): Window {
  const [length, step] = ranges[range];
  const end = () => (step > 60 ? Math.ceil : Math.floor)(Date.now() / 1000 / step) * step;
  const [to, setTo] = useState(end);
  useEffect(() => {
    setTo(end());
    const id = setInterval(() => !document.hidden && setTo(end()), Math.min(step, 60) * 1000);
    return () => clearInterval(id);
  }, [range]);
  return useMemo(() => ({ from: to - length, to, step }), [to, length, step]);
}

export function Metrics() {
  const { env, service } = useParams({ from: "/p/$project/$env/canvas/s/$service" });
  const search = useSearch({ strict: false }) as { range?: string };
  const range = rangeOf(search.range) ?? "1h";
  const window = useWindow(range);
  const asked = useQuery(ServiceMetricsDocument, {
    variables: { environmentId: env, serviceId: service, startDate: iso(window.from), endDate: iso(window.to), step: window.step },
    fetchPolicy: "no-cache",
  });
  // A longer time is its own baseline.
  const isShort = window.to - window.from <= DAY;
  const times = useQuery(AnswerTimesDocument, {
    variables: { environmentId: env, serviceId: service, startDate: iso(window.from), endDate: iso(window.to), dayStart: iso(window.from - DAY), dayEnd: iso(window.to - DAY) },
    fetchPolicy: "no-cache",
    skip: !isShort,
  });
  const answers = isShort ? (times.data ?? times.previousData) : undefined;
  const shown = useInWindow(asked.data, window);
  return (
    <div className="panel-body">
      <Ranges chosen={range} />
      {asked.error && !shown && <ErrorBox error={asked.error} retry={() => void asked.refetch()} />}
      {shown && <Charts {...shown} slowest={answers?.now.samples[0]?.p99} before={answers?.dayBefore.samples[0]?.p99} />}
    </div>
  );
}

const iso = (seconds: number) => new Date(seconds * 1000).toISOString();

interface Shown {
  data: ServiceMetricsQuery;
  window: Window;
  /** The 99th percentile of the whole time, and of the same time a day before. */
  slowest?: number;
  before?: number;
}

function Charts({ data, window, slowest, before }: Shown) {
  const charts = useMemo(() => drawn({ data, window, slowest, before }), [data, window, slowest, before]);
  if (!charts) {
    return (
      <Empty title="Nothing was measured in this time">
        <p>While the app runs, its processor time, memory, network and requests are measured every five seconds.</p>
      </Empty>
    );
  }
  return charts.map((chart) => <Chart key={chart.title} {...chart} window={window} />);
}

function drawn({ data, window, slowest, before }: Shown) {
  const of = (measurement: MetricMeasurement): Sample[] => data.metrics.find((one) => one.measurement === measurement)?.values ?? [];
  const statuses = data.httpMetricsGroupedByStatus;
  const durations = data.httpDurationMetrics.samples;
  const cpu = of("CPU_USAGE");
  if (cpu.length === 0 && statuses.length === 0 && durations.length === 0) return null;
  const moments = momentsOf(window, cpu.length > 0 ? cpu : (statuses[0]?.samples ?? []));
  const scaled = (measurement: MetricMeasurement, factor: number) => onto(moments, of(measurement), null).map((value) => (value === null ? null : value * factor));

  const used: Line = { label: "Used", colour: "--accent", values: scaled("CPU_USAGE", 1) };
  const cpuLimit = scaled("CPU_LIMIT", 1);
  const memory: Line = { label: "Used", colour: "--accent", values: scaled("MEMORY_USAGE_GB", GB) };
  const memoryLimit = scaled("MEMORY_LIMIT_GB", GB);
  const network: Line[] = [
    { label: "In", colour: "--accent", values: scaled("NETWORK_RX_GB", GB / window.step) },
    { label: "Out", colour: "--busy", values: scaled("NETWORK_TX_GB", GB / window.step) },
  ];
  const disk = scaled("DISK_USAGE_GB", GB);
  const charts = [
    { title: "Processor", now: of2(lastOf(used.values), lastOf(cpuLimit), (value) => short(value), "vCPU"), least: 0.1, moments, lines: near([used], cpuLimit), format: (value: number) => short(value) },
    { title: "Memory", now: of2(lastOf(memory.values), lastOf(memoryLimit), bytes), least: 16 * MB, binary: true, moments, lines: near([memory], memoryLimit), format: bytes },
    { title: "Network", now: `${rate(lastOf(network[0].values))} in, ${rate(lastOf(network[1].values))} out`, least: 1024, binary: true, moments, lines: network, format: (value: number) => `${bytes(value)}/s` },
    { title: "Requests", ...requests(statuses, moments), bars: true, least: 5 },
    { title: "Answer time", ...answerTimes(durations, moments, compared(slowest, before)), least: 5 },
  ];
  if (disk.some((value) => value !== null)) charts.push({ title: "Volume", now: bytes(lastOf(disk) ?? 0), least: 16 * MB, binary: true, moments, lines: [{ label: "Used", colour: "--accent", values: disk }], format: bytes });
  return charts;
}

const rate = (value: number | null) => `${bytes(value ?? 0)}/s`;

function of2(value: number | null, limit: number | null, format: (value: number) => string, unit = ""): string {
  if (value === null) return "Not running";
  const said = limit ? `${format(value)} of ${format(limit)}` : format(value);
  return unit ? `${said} ${unit}` : said;
}

/** The limit is drawn only when it matters: otherwise what is used would be a flat line at the bottom. */
function near(lines: Line[], limit: (number | null)[]): Line[] {
  const most = Math.max(0, ...lines.flatMap((line) => line.values.map((value) => value ?? 0)));
  const bound = lastOf(limit);
  return bound !== null && most > bound / 4 ? [...lines, { label: "Limit", colour: "--ink-3", values: limit, dashed: true }] : lines;
}

const classes = [
  [5, "5xx", "--failed"],
  [4, "4xx", "--waiting"],
  [3, "3xx", "--asleep"],
  [2, "2xx", "--accent"],
] as const;

function requests(statuses: ServiceMetricsQuery["httpMetricsGroupedByStatus"], moments: number[]) {
  const rows = classes.map(([first]) => {
    const row = moments.map(() => 0);
    for (const { statusCode, samples } of statuses) {
      if (Math.floor(statusCode / 100) === first || (first === 2 && statusCode < 200)) onto(moments, samples, 0).forEach((value, at) => (row[at] += value));
    }
    return row;
  });
  const heights = stacked(rows);
  const total = rows.flat().reduce((sum, value) => sum + value, 0);
  const failed = rows[0].reduce((sum, value) => sum + value, 0);
  // The tallest is drawn first, so that none hides another.
  const lines: Line[] = classes.map(([, label, colour], at) => ({ label, colour, values: rows[at], drawn: heights[at] })).reverse();
  return { now: total === 0 ? "None in this time" : `${total.toLocaleString("en")} in this time, ${failed === 0 ? "none" : failed.toLocaleString("en")} failed`, moments, lines, format: (value: number) => short(value) };
}

/** A time beside the one of a day before. */
function compared(now: number | undefined, before: number | undefined): string | null {
  if (now === undefined || before === undefined) return null;
  const more = now - before;
  if (Math.abs(more) <= before / 20) return `p99 ${millis(now)}, as a day before`;
  return `p99 ${millis(now)}, ${millis(Math.abs(more))} ${more > 0 ? "more" : "less"} than a day before`;
}

function answerTimes(samples: ServiceMetricsQuery["httpDurationMetrics"]["samples"], moments: number[], whole: string | null) {
  const line = (label: string, colour: string, pick: (one: (typeof samples)[number]) => number): Line => ({ label, colour, values: onto(moments, samples.map((one) => ({ ts: one.ts, value: pick(one) })), null) });
  const lines = [line("p50", "--accent", (one) => one.p50), line("p95", "--busy", (one) => one.p95), line("p99", "--asleep", (one) => one.p99)];
  const [p50, , p99] = lines.map((one) => lastOf(one.values));
  return { now: p50 === null || p99 === null ? "No requests in this time" : `p50 ${millis(p50)}, ${whole ?? `p99 ${millis(p99)}`}`, moments, lines, format: millis };
}
