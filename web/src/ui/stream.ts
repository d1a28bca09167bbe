import { print } from "graphql";
import { useCallback, useEffect, useRef, useState } from "react";
import { client, Problem, problemOf, socket } from "../api/client";
import { AppLogBeforeDocument, AppLogStreamDocument, BuildLogBeforeDocument, BuildLogStreamDocument, EnvironmentLogBeforeDocument, EnvironmentLogStreamDocument, RequestLogBeforeDocument, RequestLogStreamDocument, type LogLineFragment, type RequestLineFragment } from "../gql";
import { Folds } from "./folds";
import { tell } from "./toast";

/** A log; that of an environment of one service alone, or since a moment, if they are named. */
export type LogSource = { build: string } | { app: string } | { requests: string } | { environment: string; service?: string; since?: string };

/** Lines kept in memory; older ones are dropped from the front. */
const MOST = 1_000_000;
const FIRST = 1000;
/** Older lines that are asked for at once. */
const PAGE = 2000;
/** Lines that are fetched to join a log with what came while the connection was gone. Behind more than these it begins anew. */
const JOINED = 50_000;
/** Lines of a download, at most, unless more are here already. */
const DOWNLOADED = 200_000;

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

/** What is before the lines that are here: the newest of it, and whether that is all. */
export interface Before {
  lines: LogLineFragment[];
  whole: boolean;
}

/** Lines between two moments, both left out, oldest first; the newest ones where there are many more than so many. */
async function between(after: string, end: string, source: LogSource, filter: string, most: number): Promise<Before> {
  const pages: LogLineFragment[][] = [];
  let before = end;
  for (let many = 0; many < most; ) {
    const page = await upTo(before, source, filter);
    const found = page.filter((line) => line.timestamp > after && line.timestamp < before);
    pages.unshift(found);
    if (found.length === 0 || page[0].timestamp <= after) return { lines: pages.flat(), whole: true };
    many += found.length;
    before = found[0].timestamp;
  }
  return { lines: pages.flat(), whole: false };
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
  /** `refused` is not tried again by itself. */
  state: "connecting" | "live" | "lost" | "over" | "refused";
  problem: Problem | null;
  /** How many lines have been put before those that came first. */
  added: number;
  /** Which of them are drawn. */
  folds: Folds;
  /** Asks for lines before the oldest one. False when there is none, or not now. */
  older: () => Promise<boolean>;
  /** There are no older ones, as far as is known. */
  whole: boolean;
  /** Everything before the oldest line, or the newest of it, without putting it here. */
  before: () => Promise<Before>;
  /** Begins from the start. */
  again: () => void;
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
  const back = useRef({ added: 0, asking: false, whole: false, failed: false, folds: new Folds(folded) });
  const folding = useRef(folded);
  folding.current = folded;
  useEffect(() => {
    back.current.folds.turn(folded);
    redraw((n) => n + 1);
  }, [folded]);

  const older = useCallback(async () => {
    const [into, now] = [all.current, back.current];
    const first = into[0]?.timestamp;
    if (!first || now.asking || now.whole || now.failed || into.length >= MOST) return false;
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
      // Not again until there is another connection. What is older is there all the same.
      now.failed = true;
      if (all.current === into) setProblem(problemOf(error));
      return false;
    } finally {
      now.asking = false;
    }
  }, [key, filter]);

  const before = useCallback(async (): Promise<Before> => {
    const first = all.current[0]?.timestamp;
    if (!first || back.current.whole) return { lines: [], whole: true };
    return between("", first, JSON.parse(key) as LogSource, filter, DOWNLOADED - all.current.length);
  }, [key, filter]);

  const [turn, setTurn] = useState(0);
  const again = useCallback(() => setTurn((n) => n + 1), []);

  useEffect(() => {
    all.current = [];
    back.current = { added: 0, asking: false, whole: false, failed: false, folds: new Folds(folding.current) };
    redraw((n) => n + 1);
    setState("connecting");
    setProblem(null);
    let waiting: LogLineFragment[] = [];
    let frame = 0;
    // After a broken connection the server begins again: what is at or before this is here already.
    let resumeAfter = "";
    // What came after a gap, until that is filled.
    let late: LogLineFragment[] | null = null;
    let anew = false;
    let shown = true;
    const flush = () => {
      frame = 0;
      if (hold.current && all.current.length > 0) {
        frame = requestAnimationFrame(flush);
        return;
      }
      if (anew) {
        anew = false;
        all.current = [];
        back.current = { added: 0, asking: false, whole: false, failed: false, folds: new Folds(folding.current) };
      }
      const [into, { folds }] = [all.current, back.current];
      const known = into.length;
      for (const line of waiting) into.push(line);
      waiting = [];
      folds.append(into, known);
      if (into.length > MOST) {
        folds.drop(into.splice(0, into.length - MOST).length);
        back.current.whole = false;
      }
      redraw((n) => n + 1);
    };
    const from = JSON.parse(key) as LogSource;
    const { query, variables, field } = request(from, filter);
    const join = async (after: string, lines: LogLineFragment[]) => {
      late = lines;
      const missing = await between(after, lines[0].timestamp, from, filter, JOINED).catch(() => null);
      // Cut off again, or another log is shown.
      if (late !== lines) return;
      late = null;
      if (missing?.whole) {
        waiting = waiting.concat(missing.lines, lines);
      } else {
        // No hole stays within it: the lines between are among the older ones that are asked for.
        anew = true;
        waiting = lines;
        tell(missing ? "Much was written while the connection was gone: the log begins again with its newest lines" : "What was written while the connection was gone cannot be had just now: the log begins again with its newest lines");
      }
      frame ||= requestAnimationFrame(flush);
    };
    const lost = socket.on("closed", () => {
      late = null;
      resumeAfter = (waiting.at(-1) ?? all.current.at(-1))?.timestamp ?? "";
      setState((now) => (now === "over" || now === "refused" ? now : "lost"));
    });
    const found = socket.on("connected", () => {
      Object.assign(back.current, { whole: false, failed: false });
      setState((now) => (now === "over" || now === "refused" ? now : "live"));
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
          const lines = (message.data?.[field] ?? []).map((line) => ("httpStatus" in line ? lineOf(line) : line));
          if (lines.length === 0) return;
          const after = resumeAfter;
          resumeAfter = "";
          if (after && lines[0].timestamp > after) {
            void join(after, lines);
            return;
          }
          const into = late ?? waiting;
          for (const line of lines) if (line.timestamp > after) into.push(line);
          frame ||= requestAnimationFrame(flush);
        },
        error: (error) => {
          const first = Array.isArray(error) ? (error[0] as Told) : undefined;
          setProblem(first ? told(first) : new Problem("The log cannot be followed just now", "OFFLINE"));
          setState("refused");
        },
        // Ending it here completes it too, when another log may be shown.
        complete: () => shown && setState("over"),
      },
    );
    // A log that has no line yet is live all the same.
    const quiet = setTimeout(() => setState((now) => (now === "connecting" ? "live" : now)), 1500);
    return () => {
      clearTimeout(quiet);
      cancelAnimationFrame(frame);
      late = null;
      shown = false;
      lost();
      found();
      end();
    };
  }, [key, filter, turn]);

  return { all: all.current, version, state, problem, added: back.current.added, folds: back.current.folds, older, whole: back.current.whole, before, again };
}
