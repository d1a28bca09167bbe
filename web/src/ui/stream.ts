import { print } from "graphql";
import { useCallback, useEffect, useRef, useState } from "react";
import { client, Problem, problemOf, socket } from "../api/client";
import { AppLogBeforeDocument, AppLogStreamDocument, BuildLogBeforeDocument, BuildLogStreamDocument, EnvironmentLogBeforeDocument, EnvironmentLogStreamDocument, RequestLogBeforeDocument, RequestLogStreamDocument, type LogLineFragment, type RequestLineFragment } from "../gql";
import { Folds } from "./folds";

/** A log; that of an environment of one service alone, or since a moment, if they are named. */
export type LogSource = { build: string } | { app: string } | { requests: string } | { environment: string; service?: string; since?: string };

/** Lines kept in memory; older ones are dropped from the front. */
const MOST = 1_000_000;
const FIRST = 1000;
/** Older lines that are asked for at once. */
const PAGE = 2000;

/** The filter of lines of an environment. Only alternatives need parentheses, and what is typed keeps its place for the errors that name one. */
function within(service: string | undefined, filter: string): string | null {
  if (!service || !filter.trim()) return service ? `@service:${service}` : filter || null;
  return `${/\bOR\b/.test(filter) ? `(${filter})` : filter} @service:${service}`;
}

/** A request to an app, as a line. */
function lineOf(of: RequestLineFragment): LogLineFragment {
  const { timestamp, deploymentId, deploymentInstanceId } = of;
  const severity = of.httpStatus >= 500 ? "error" : of.httpStatus >= 400 ? "warn" : "info";
  return { timestamp, message: `${of.method} ${of.path} ${of.httpStatus} ${of.totalDuration} ms ${of.srcIp}`, severity, tags: { serviceId: null, deploymentId, deploymentInstanceId }, attributes: [] };
}

function request(source: LogSource, filter: string): { query: string; variables: Record<string, unknown>; field: string } {
  const common = { filter: filter || null };
  if ("build" in source) return { query: print(BuildLogStreamDocument), variables: { ...common, deploymentId: source.build, limit: FIRST }, field: "buildLogs" };
  if ("app" in source) return { query: print(AppLogStreamDocument), variables: { ...common, deploymentId: source.app, limit: FIRST }, field: "deploymentLogs" };
  if ("requests" in source) return { query: print(RequestLogStreamDocument), variables: { ...common, deploymentId: source.requests, beforeLimit: FIRST }, field: "httpLogs" };
  return { query: print(EnvironmentLogStreamDocument), variables: { filter: within(source.service, filter), environmentId: source.environment, beforeDate: source.since ?? null, beforeLimit: FIRST }, field: "environmentLogs" };
}

/** Lines up to a moment, oldest first. Not for the cache: nobody asks for them twice. */
async function upTo(end: string, source: LogSource, filter: string): Promise<LogLineFragment[]> {
  const of = { filter: filter || null, endDate: end, limit: PAGE };
  const fetchPolicy = "no-cache";
  if ("build" in source) return (await client.query({ query: BuildLogBeforeDocument, variables: { ...of, deploymentId: source.build }, fetchPolicy })).data?.buildLogs ?? [];
  if ("app" in source) return (await client.query({ query: AppLogBeforeDocument, variables: { ...of, deploymentId: source.app }, fetchPolicy })).data?.deploymentLogs ?? [];
  if ("requests" in source) {
    const variables = { filter: filter || null, anchorDate: end, beforeLimit: PAGE, deploymentId: source.requests };
    return ((await client.query({ query: RequestLogBeforeDocument, variables, fetchPolicy })).data?.httpLogs ?? []).map(lineOf);
  }
  const variables = { filter: within(source.service, filter), environmentId: source.environment, anchorDate: end, beforeDate: source.since ?? null, beforeLimit: PAGE };
  return (await client.query({ query: EnvironmentLogBeforeDocument, variables, fetchPolicy })).data?.environmentLogs ?? [];
}

type Told = { message: string; extensions?: Record<string, unknown> };

function told({ message, extensions }: Told): Problem {
  const id = extensions?.requestId ?? extensions?.traceId;
  return new Problem(message, String(extensions?.code ?? ""), id ? String(id) : undefined);
}

export interface Lines {
  /** The same array as before with more in it: look at `version`. */
  all: LogLineFragment[];
  version: number;
  state: "connecting" | "live" | "lost" | "over";
  problem: Problem | null;
  /** How many lines have been put before those that came first. */
  added: number;
  /** Which of them are drawn. */
  folds: Folds;
  /** Asks for lines before the oldest one. False when there is none, or not now. */
  older: () => Promise<boolean>;
}

/** A log as it grows. Drawn at most once a frame, however fast lines come. */
export function useLog(source: LogSource, filter: string, paused: boolean, folded: boolean): Lines {
  const all = useRef<LogLineFragment[]>([]);
  const [version, redraw] = useState(0);
  const [state, setState] = useState<Lines["state"]>("connecting");
  const [problem, setProblem] = useState<Problem | null>(null);
  const hold = useRef(paused);
  hold.current = paused;
  const key = JSON.stringify(source);
  const back = useRef({ added: 0, asking: false, whole: false, folds: new Folds(folded) });
  const folding = useRef(folded);
  folding.current = folded;
  useEffect(() => {
    back.current.folds.turn(folded);
    redraw((n) => n + 1);
  }, [folded]);

  const older = useCallback(async () => {
    const [into, now] = [all.current, back.current];
    const first = into[0]?.timestamp;
    // Fewer than were asked for first are all that there are.
    if (!first || now.asking || now.whole || into.length < FIRST || into.length >= MOST) return false;
    now.asking = true;
    try {
      const found = (await upTo(first, JSON.parse(key) as LogSource, filter)).filter((line) => line.timestamp < first);
      // Meanwhile another log, or another filter, may be shown.
      if (all.current !== into) return false;
      now.whole = found.length === 0;
      now.added += found.length;
      all.current = found.concat(into);
      now.folds.prepend(all.current, found.length);
      redraw((n) => n + 1);
      return found.length > 0;
    } catch (error) {
      now.whole = true;
      if (all.current === into) setProblem(problemOf(error));
      return false;
    } finally {
      now.asking = false;
    }
  }, [key, filter]);

  useEffect(() => {
    all.current = [];
    back.current = { added: 0, asking: false, whole: false, folds: new Folds(folding.current) };
    redraw((n) => n + 1);
    setState("connecting");
    setProblem(null);
    let waiting: LogLineFragment[] = [];
    let frame = 0;
    // After a broken connection the server begins again: what is at or before this is here already.
    let resumeAfter = "";
    let fresh = true;
    const flush = () => {
      frame = 0;
      if (hold.current && all.current.length > 0) {
        frame = requestAnimationFrame(flush);
        return;
      }
      const [into, { folds }] = [all.current, back.current];
      const known = into.length;
      for (const line of waiting) into.push(line);
      waiting = [];
      folds.append(into, known);
      if (into.length > MOST) folds.drop(into.splice(0, into.length - MOST).length);
      redraw((n) => n + 1);
    };
    const { query, variables, field } = request(JSON.parse(key) as LogSource, filter);
    const lost = socket.on("closed", () => {
      resumeAfter = (waiting.at(-1) ?? all.current.at(-1))?.timestamp ?? "";
      fresh = true;
      setState((now) => (now === "over" ? now : "lost"));
    });
    const found = socket.on("connected", () => {
      back.current.whole = false;
      setState((now) => (now === "over" ? now : "live"));
    });
    const end = socket.subscribe<Record<string, LogLineFragment[] | RequestLineFragment[]>>(
      { query, variables },
      {
        next: (message) => {
          setState("live");
          if (message.errors?.length) {
            setProblem(told(message.errors[0]));
            return;
          }
          let lines = (message.data?.[field] ?? []).map((line) => ("httpStatus" in line ? lineOf(line) : line));
          if (fresh && resumeAfter) lines = lines.filter((line) => line.timestamp > resumeAfter);
          else fresh = false;
          if (lines.length === 0) return;
          for (const line of lines) waiting.push(line);
          frame ||= requestAnimationFrame(flush);
        },
        error: (error) => {
          const first = Array.isArray(error) ? (error[0] as Told) : undefined;
          setProblem(first ? told(first) : new Problem("The log cannot be followed just now", "OFFLINE"));
          setState("lost");
        },
        complete: () => setState("over"),
      },
    );
    // A log that has no line yet is live all the same.
    const quiet = setTimeout(() => setState((now) => (now === "connecting" ? "live" : now)), 1500);
    return () => {
      clearTimeout(quiet);
      cancelAnimationFrame(frame);
      lost();
      found();
      end();
    };
  }, [key, filter]);

  return { all: all.current, version, state, problem, added: back.current.added, folds: back.current.folds, older };
}
