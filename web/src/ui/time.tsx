import { useEffect, useState } from "react";

const listeners = new Set<() => void>();
let ticking: ReturnType<typeof setInterval> | undefined;

/** Everything that shows an age looks again at the same moment. */
function useClock(every: number): number {
  const [now, set] = useState(Date.now);
  useEffect(() => {
    if (every < 10_000) {
      const id = setInterval(() => set(Date.now()), every);
      return () => clearInterval(id);
    }
    const tick = () => set(Date.now());
    listeners.add(tick);
    ticking ??= setInterval(() => listeners.forEach((one) => one()), 10_000);
    return () => {
      listeners.delete(tick);
    };
  }, [every]);
  return now;
}

export function age(ms: number): string {
  const s = Math.round(ms / 1000);
  if (s < 10) return "just now";
  if (s < 60) return `${s} s ago`;
  if (s < 3600) return `${Math.floor(s / 60)} min ago`;
  if (s < 86400) return `${Math.floor(s / 3600)} h ago`;
  if (s < 86400 * 30) return `${Math.floor(s / 86400)} d ago`;
  return "";
}

export function duration(ms: number): string {
  if (ms < 1000) return `${Math.max(0, Math.round(ms))} ms`;
  const s = ms / 1000;
  if (s < 60) return `${s < 10 ? s.toFixed(1) : Math.round(s)} s`;
  if (s < 3600) return `${Math.floor(s / 60)} min ${Math.round(s % 60)} s`;
  return `${Math.floor(s / 3600)} h ${Math.floor((s % 3600) / 60)} min`;
}

/** A moment of a day, as lines of a log show it. */
export const clock = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit", second: "2-digit" });
export const exact = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "medium" });
const day = new Intl.DateTimeFormat(undefined, { dateStyle: "medium" });

export function Ago({ at }: { at: string }) {
  const now = useClock(10_000);
  const moment = new Date(at);
  return (
    <time className="nowrap" dateTime={at} title={exact.format(moment)}>
      {age(now - moment.getTime()) || day.format(moment)}
    </time>
  );
}

export function Until({ at }: { at: string }) {
  const moment = new Date(at);
  return (
    <time className="nowrap" dateTime={at} title={exact.format(moment)}>
      {day.format(moment)}
    </time>
  );
}

const minute = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "short" });

/** A moment to come, to the minute. */
export function Moment({ at }: { at: string }) {
  const moment = new Date(at);
  return (
    <time className="nowrap" dateTime={at} title={exact.format(moment)}>
      {minute.format(moment)}
    </time>
  );
}

/** How long something under way has taken so far. */
export function Elapsed({ since }: { since: string }) {
  const now = useClock(1000);
  return <span className="numbers">{duration(Math.max(0, Math.floor((now - new Date(since).getTime()) / 1000) * 1000))}</span>;
}

export function megabytes(value: number): string {
  return value >= 1024 ? `${(value / 1024).toFixed(1)} GB` : `${Math.round(value)} MB`;
}
