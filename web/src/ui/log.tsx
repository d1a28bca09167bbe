import { useLocation, useNavigate } from "@tanstack/react-router";
import { ArrowDownToLine, ChevronDown, ChevronRight, Clock, Download, ListCollapse, Pause, Play } from "lucide-react";
import { memo, useCallback, useEffect, useLayoutEffect, useRef, useState, type MouseEvent } from "react";
import { flushSync } from "react-dom";
import type { LogLineFragment } from "../gql";
import { isPlain } from "./after-paint";
import { ansi, withoutAnsi } from "./ansi";
import { Button, ErrorBox } from "./basic";
import { LogFilter } from "./log-filter";
import { State } from "./state";
import { useLog, type Lines, type LogSource } from "./stream";
import { clock, exact } from "./time";
import { tell } from "./toast";

/** Of every line, and as the style sheet has it: where one stands is known without looking at those before it, be they a million. */
const HEIGHT = 17;
/** Lines that are drawn above and below those in sight. */
const AROUND = 30;
/** A new part of the log is drawn after so many lines. */
const STRIDE = 10;
/** How often older lines are asked for to find the moment that the address names. */
const SEARCHES = 50;
/** A moment as lines have it: of a fixed width, so that moments sort as text. */
export const momentOf = (at: number) => new Date(at).toISOString().replace("Z", "000000Z");

export interface LogProps {
  source: LogSource;
  filter?: string;
  onFilter?: (filter: string) => void;
  /** Names of services, when lines come from several. */
  names?: Record<string, string>;
  empty: string;
  tools?: React.ReactNode;
  /** What the address of a line says besides its moment, so that it is found there later, too. */
  place?: Place;
  /** Leads to where a moment that is not in this log may be found. */
  elsewhere?: (moment: string) => React.ReactNode;
}

type Place = (line: LogLineFragment) => Record<string, string | undefined>;

export function Log({ source, filter = "", onFilter, names, empty, tools, place, elsewhere }: LogProps) {
  const [paused, setPaused] = useState(false);
  const [folded, setFolded] = useState(() => localStorage.getItem("log-folds") !== "off");
  const lines = useLog(source, filter, paused, folded);
  const [saving, setSaving] = useState(false);
  const save = async () => {
    setSaving(true);
    try {
      const shown = lines.all.slice();
      const before = await lines.before();
      download(before.lines.concat(shown));
      if (!before.whole) tell(`The newest ${(before.lines.length + shown.length).toLocaleString()} lines are in the file: there are older ones`);
    } catch (error) {
      tell.problem(error);
    } finally {
      setSaving(false);
    }
  };
  return (
    <section className="log" aria-label="Log">
      <div className="log-tools">
        {onFilter && <LogFilter value={filter} onChange={onFilter} names={names} requests={"requests" in source} lines={lines.all} />}
        {tools}
        <Moment />
        <span className="grow" />
        <LiveState state={lines.state} paused={paused} count={lines.all.length} />
        <Button
          size="small"
          kind="plain"
          aria-pressed={folded}
          title="Fold repeated lines and stacks"
          onClick={() => {
            localStorage.setItem("log-folds", folded ? "off" : "on");
            setFolded(!folded);
          }}
        >
          <ListCollapse size={14} />
          <span className="hidden">Fold repeated lines and stacks</span>
        </Button>
        <Button size="small" kind="plain" aria-pressed={paused} onClick={() => setPaused(!paused)} title={paused ? "Go on" : "Hold still"}>
          {paused ? <Play size={14} /> : <Pause size={14} />}
          <span className="hidden">{paused ? "Go on" : "Hold still"}</span>
        </Button>
        <Button size="small" kind="plain" title="Download the log" disabled={saving} onClick={() => void save()}>
          <Download size={14} />
          <span className="hidden">Download the log</span>
        </Button>
      </div>
      {lines.problem && (
        <div style={{ padding: 12 }}>
          <ErrorBox error={lines.problem} retry={lines.state === "refused" ? lines.again : undefined} />
        </div>
      )}
      <Rows of={lines} names={names} place={place} elsewhere={elsewhere} empty={lines.state === "connecting" ? "Connecting…" : filter ? "No line matches the filter yet. New ones appear here as they come." : empty} />
    </section>
  );
}

function LiveState({ state, paused, count }: { state: string; paused: boolean; count: number }) {
  const lines = <span className="quiet small numbers">{count.toLocaleString()} lines</span>;
  if (state === "refused") return <State tone="failed">Not followed</State>;
  if (state === "lost") return <State tone="waiting">Reconnecting</State>;
  if (paused) return <State tone="off">Held</State>;
  if (state === "over") return lines;
  return (
    <span className="row">
      {lines}
      <State tone="healthy">Following</State>
    </span>
  );
}

/** Goes to the first line since a moment, which then stands in the address. */
function Moment() {
  const [asking, setAsking] = useState(false);
  const navigate = useNavigate();
  const go = (value: string) => {
    setAsking(false);
    if (value) void navigate({ to: ".", search: (old: object) => old, hash: momentOf(new Date(value).getTime()) });
  };
  if (asking) {
    return <input className="input" style={{ width: 190, height: 28, fontSize: 12 }} type="datetime-local" step={1} aria-label="Go to a moment" autoFocus onBlur={(event) => go(event.target.value)} onKeyDown={(event) => event.key === "Enter" && event.currentTarget.blur()} />;
  }
  return (
    <Button size="small" kind="plain" title="Go to a moment" onClick={() => setAsking(true)}>
      <Clock size={14} />
      <span className="hidden">Go to a moment</span>
    </Button>
  );
}

/** Where a moment is: its own line, or the first one after it. Behind what is here, and before it, there is none. */
function placeOf(moment: string, lines: LogLineFragment[]): number {
  if (moment < lines[0].timestamp || moment > lines[lines.length - 1].timestamp) return -1;
  const own = lines.findIndex((line) => line.timestamp === moment);
  return own >= 0 ? own : lines.findIndex((line) => line.timestamp > moment);
}

/** Why a moment is not before the eyes: nothing is that old, or that late, or it is further back than was looked. */
type Missing = "before" | "after" | "deep" | "";

interface NotFoundProps {
  moment: string;
  why: Missing;
  many: number;
  /** Looks among older lines. */
  onFurther: () => void;
  elsewhere?: (moment: string) => React.ReactNode;
}

function NotFound({ moment, why, many, onFurther, elsewhere }: NotFoundProps) {
  const at = new Date(moment);
  const when = Number.isNaN(at.getTime()) ? moment : exact.format(at);
  const words = why === "deep" ? `${when} is not among the newest ${many.toLocaleString()} lines` : why === "after" ? `No line is as late as ${when} yet` : many === 0 ? `There is no line of ${when} here` : `This log begins after ${when}`;
  return (
    <div className="log-note small" role="status">
      <span>{words}.</span>
      {why === "deep" ? (
        <Button size="small" onClick={onFurther}>
          Look further back
        </Button>
      ) : (
        why === "before" && elsewhere?.(moment)
      )}
    </div>
  );
}

interface RowsProps {
  of: Lines;
  names?: Record<string, string>;
  empty: string;
  place?: Place;
  elsewhere?: (moment: string) => React.ReactNode;
}

function Rows({ of, names, empty, place, elsewhere }: RowsProps) {
  const { all: lines, version, added, folds, older, whole } = of;
  const box = useRef<HTMLDivElement>(null);
  const [follows, setFollows] = useState(true);
  const following = useRef(true);
  const [seen, see] = useState({ first: 0, rows: 60 });
  const marked = useMarked();
  const count = folds.rows;
  const some = lines.length > 0;
  const [turned, turn] = useState(0);

  const follow = useCallback((now: boolean) => {
    following.current = now;
    setFollows(now);
  }, []);

  const look = useCallback(() => {
    const element = box.current;
    if (!element) return;
    const first = Math.floor(element.scrollTop / HEIGHT / STRIDE) * STRIDE;
    const rows = Math.ceil(element.clientHeight / HEIGHT) + STRIDE;
    see((before) => (before.first === first && before.rows === rows ? before : { first, rows }));
  }, []);

  useEffect(() => {
    const element = box.current;
    if (!element) return;
    const sized = new ResizeObserver(() => {
      if (following.current) element.scrollTop = element.scrollHeight;
      look();
    });
    sized.observe(element);
    return () => sized.disconnect();
  }, [some, look]);

  const above = useRef(0);
  const search = useRef({ for: "", found: true, asked: 0 });
  const [missing, miss] = useState<Missing>("");
  useLayoutEffect(() => {
    const element = box.current;
    const more = added - above.current;
    above.current = added;
    if (!element) {
      // Another log, or another filter: it begins at its end.
      follow(true);
      return;
    }
    // What was before the eyes stays there when lines are put above it.
    if (more > 0 && !following.current) {
      element.scrollTop += folds.rowOf(more) * HEIGHT;
      look();
    }
    if (search.current.for !== marked) search.current = { for: marked, found: marked === "", asked: 0 };
    if (search.current.found) miss("");
    // Once is enough: who goes on to the newest line stays there.
    if (!search.current.found) {
      const at = placeOf(marked, lines);
      if (at >= 0) {
        if (folds.reveal(at)) {
          turn((n) => n + 1);
          return;
        }
        search.current.found = true;
        miss("");
        const top = folds.rowOf(at) * HEIGHT;
        if (following.current || top < element.scrollTop || top > element.scrollTop + element.clientHeight - HEIGHT) {
          follow(false);
          element.scrollTop = top - element.clientHeight / 2;
          look();
        }
        return;
      }
      const isEarlier = marked < lines[0].timestamp;
      const canAsk = isEarlier && search.current.asked < SEARCHES;
      if (canAsk) void older().then((more) => (search.current.asked += Number(more)));
      miss(!isEarlier ? "after" : whole ? "before" : canAsk ? "" : "deep");
    }
    if (following.current) element.scrollTop = element.scrollHeight;
  }, [version, turned, lines, added, folds, marked, older, whole, follow, look]);

  const navigate = useNavigate();
  const go = useCallback(
    (event: MouseEvent, line: LogLineFragment) => {
      if (!isPlain(event)) return;
      event.preventDefault();
      void navigate({ to: ".", search: (old: object) => ({ ...old, ...place?.(line) }), hash: line.timestamp });
    },
    [navigate, place],
  );

  const fold = useCallback(
    (from: number) => {
      folds.toggle(from);
      // What was opened stays before the eyes.
      follow(false);
      look();
      turn((n) => n + 1);
    },
    [folds, follow, look],
  );

  const note = (why: Missing) => why && (
    <NotFound
      moment={marked}
      why={why}
      many={lines.length}
      elsewhere={elsewhere}
      onFurther={() => {
        search.current.asked = 0;
        turn((n) => n + 1);
      }}
    />
  );
  if (!some) {
    return (
      <>
        {note(marked && of.state !== "connecting" ? "before" : "")}
        <div className="empty quiet">{empty}</div>
      </>
    );
  }
  const first = follows ? Math.max(0, count - seen.rows) : seen.first;
  const from = Math.max(0, first - AROUND);
  const drawn = Array.from({ length: Math.max(0, Math.min(count, first + seen.rows + AROUND) - from) }, (_, row) => folds.lineAt(from + row));
  return (
    <>
      {note(missing)}
      <div style={{ position: "relative", flex: 1, minHeight: 0, display: "flex" }}>
        <div
          ref={box}
          className="log-lines"
          tabIndex={0}
          role="log"
          aria-live="off"
          onScroll={(event) => {
            const element = event.currentTarget;
            const atEnd = element.scrollHeight - element.scrollTop - element.clientHeight < HEIGHT * 2;
            // Drawn before the next frame, so that none shows a gap.
            flushSync(() => {
              if (atEnd !== following.current) follow(atEnd);
              look();
            });
            if (!atEnd && element.scrollTop < element.clientHeight * 8) void older();
          }}
        >
          <div style={{ height: count * HEIGHT, position: "relative" }}>
            {drawn.map((at, row) => {
              const behind = folds.behind(at);
              return (
                // Lines keep their place on the page when others are put above them.
                <Row
                  key={folds.first + at}
                  line={lines[at]}
                  top={(from + row) * HEIGHT}
                  names={names}
                  place={place}
                  go={go}
                  marked={lines[at].timestamp === marked}
                  behind={behind?.from}
                  many={behind && `${behind.many.toLocaleString()} ${behind.isSame ? "times" : "lines"} more`}
                  open={behind && !folds.isClosed(behind)}
                  onFold={fold}
                />
              );
            })}
          </div>
        </div>
        {!follows && (
          <Button
            size="small"
            style={{ position: "absolute", right: 16, bottom: 16, boxShadow: "var(--shadow)" }}
            onClick={() => {
              follow(true);
              if (box.current) box.current.scrollTop = box.current.scrollHeight;
            }}
          >
            <ArrowDownToLine size={14} /> Newest
          </Button>
        )}
      </div>
    </>
  );
}

interface RowProps {
  line: LogLineFragment;
  top: number;
  names?: Record<string, string>;
  place?: Place;
  go: (event: MouseEvent, line: LogLineFragment) => void;
  marked: boolean;
  /** What is folded behind it: its number, and in words how much. */
  behind?: number;
  many?: string;
  open?: boolean;
  onFold: (from: number) => void;
}

/** The address of a line, from the page on which it is shown. */
function addressOf(line: LogLineFragment, place?: Place): string {
  const said = Object.entries(place?.(line) ?? {}).flatMap(([name, value]) => (value ? [[name, value]] : []));
  return `${said.length > 0 ? `?${new URLSearchParams(said)}` : ""}#${line.timestamp}`;
}

const Row = memo(function Row({ line, top, names, place, go, marked, behind, many, open, onFold }: RowProps) {
  const service = line.tags?.serviceId;
  const at = new Date(line.timestamp);
  return (
    <div className="log-line" data-level={line.severity ?? "info"} data-marked={marked} style={{ transform: `translateY(${top}px)` }}>
      <time dateTime={line.timestamp} title={line.timestamp}>
        <a href={addressOf(line, place)} tabIndex={-1} onClick={(event) => go(event, line)}>
          {clock.format(at)}.{String(at.getMilliseconds()).padStart(3, "0")}
        </a>
      </time>
      {names && <span className="from">{(service && names[service]) ?? ""}</span>}
      {behind !== undefined && (
        <button type="button" className="fold" aria-expanded={open} onClick={() => onFold(behind)}>
          {open ? <ChevronDown size={12} /> : <ChevronRight size={12} />}
          {many}
        </button>
      )}
      <span className="text">{ansi(line.message)}</span>
    </div>
  );
});

/** The moment of a line that the address points to, or nothing. */
export const useMarked = (): string => useLocation({ select: ({ hash }) => (/^\d{4}-\d\d-\d\dT/.test(hash) ? hash : "") });

function download(lines: LogLineFragment[]) {
  const text = lines.map((line) => `${line.timestamp} ${(line.severity ?? "info").padEnd(5)} ${withoutAnsi(line.message)}`).join("\n");
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([text, "\n"], { type: "text/plain" }));
  link.download = "orrery.log";
  link.click();
  URL.revokeObjectURL(link.href);
}
