import { ArrowDownToLine, ChevronDown, ChevronRight, Clock, Download, ListCollapse, Pause, Play } from "lucide-react";
import { memo, useCallback, useEffect, useId, useLayoutEffect, useRef, useState } from "react";
import { flushSync } from "react-dom";
import type { LogLineFragment } from "../gql";
import { ansi, withoutAnsi } from "./ansi";
import { Button, ErrorBox } from "./basic";
import { State } from "./state";
import { useLog, type Lines, type LogSource } from "./stream";

/** Of every line: where one stands is known without looking at those before it, be they a million. */
const HEIGHT = 20;
/** Lines that are drawn above and below those in sight. */
const AROUND = 30;
/** A new part of the log is drawn after so many lines. */
const STRIDE = 10;
/** How often older lines are asked for to find the moment that the address names. */
const SEARCHES = 50;
/** A moment as lines have it: of a fixed width, so that moments sort as text. */
export const momentOf = (at: number) => new Date(at).toISOString().replace("Z", "000000Z");
const clock = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit", second: "2-digit" });

const ofLines = ["@level:error", "@level:warn", "@level:error OR @level:warn", '"exact words"', "-healthz", "@deployment:"];
const ofRequests = ["@httpStatus:500..599", "@httpStatus:400..499", "@method:POST", "@path:/", "@totalDuration:>500"];

export interface LogProps {
  source: LogSource;
  filter?: string;
  onFilter?: (filter: string) => void;
  /** Names of services, when lines come from several. */
  names?: Record<string, string>;
  empty: string;
  tools?: React.ReactNode;
}

export function Log({ source, filter = "", onFilter, names, empty, tools }: LogProps) {
  const [paused, setPaused] = useState(false);
  const [folded, setFolded] = useState(() => localStorage.getItem("log-folds") !== "off");
  const lines = useLog(source, filter, paused, folded);
  return (
    <section className="log" aria-label="Log">
      <div className="log-tools">
        {onFilter && <Filter value={filter} onChange={onFilter} names={names} suggestions={"requests" in source ? ofRequests : ofLines} />}
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
        <Button size="small" kind="plain" title="Download what is shown" onClick={() => download(lines.all)}>
          <Download size={14} />
          <span className="hidden">Download what is shown</span>
        </Button>
      </div>
      {lines.problem && (
        <div style={{ padding: 12 }}>
          <ErrorBox error={lines.problem} />
        </div>
      )}
      <Rows of={lines} names={names} empty={lines.state === "connecting" ? "Connecting…" : filter ? "No line matches the filter yet. New ones appear here as they come." : empty} />
    </section>
  );
}

function LiveState({ state, paused, count }: { state: string; paused: boolean; count: number }) {
  const lines = <span className="quiet small numbers">{count.toLocaleString()} lines</span>;
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
  const go = (value: string) => {
    setAsking(false);
    if (value) location.hash = momentOf(new Date(value).getTime());
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

function Filter({ value, onChange, names = {}, suggestions }: { value: string; onChange: (filter: string) => void; names?: Record<string, string>; suggestions: string[] }) {
  const [text, set] = useState(value);
  const sent = useRef<string[]>([]);
  const id = useId();
  useEffect(() => {
    // What was typed here comes back a moment later, when more may have been typed.
    const at = sent.current.indexOf(value);
    if (at < 0) set(value);
    else sent.current.splice(0, at + 1);
  }, [value]);
  useEffect(() => {
    if (text === value) return;
    const timer = setTimeout(() => {
      sent.current.push(text);
      onChange(text);
    }, 350);
    return () => clearTimeout(timer);
  }, [text, value, onChange]);
  return (
    <>
      <input className="input" style={{ width: "min(320px, 100%)", height: 28, fontFamily: "var(--mono)", fontSize: 12 }} type="search" list={id} aria-label="Filter lines" placeholder="Filter: words, @level:error, -not" value={text} onChange={(event) => set(event.target.value)} spellCheck={false} />
      <datalist id={id}>
        {suggestions.map((one) => (
          <option key={one} value={one} />
        ))}
        {Object.entries(names).map(([service, name]) => (
          <option key={service} value={`@service:${service}`}>
            {name}
          </option>
        ))}
      </datalist>
    </>
  );
}

/** Where a moment is: its own line, or the first one after it. Behind what is here, and before it, there is none. */
function placeOf(moment: string, lines: LogLineFragment[]): number {
  if (moment < lines[0].timestamp || moment > lines[lines.length - 1].timestamp) return -1;
  const own = lines.findIndex((line) => line.timestamp === moment);
  return own >= 0 ? own : lines.findIndex((line) => line.timestamp > moment);
}

function Rows({ of, names, empty }: { of: Lines; names?: Record<string, string>; empty: string }) {
  const { all: lines, version, added, folds, older } = of;
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
    // Once is enough: who goes on to the newest line stays there.
    if (!search.current.found) {
      const at = placeOf(marked, lines);
      if (at >= 0) {
        if (folds.reveal(at)) {
          turn((n) => n + 1);
          return;
        }
        search.current.found = true;
        const top = folds.rowOf(at) * HEIGHT;
        if (following.current || top < element.scrollTop || top > element.scrollTop + element.clientHeight - HEIGHT) {
          follow(false);
          element.scrollTop = top - element.clientHeight / 2;
          look();
        }
        return;
      }
      if (marked < lines[0].timestamp && search.current.asked < SEARCHES) void older().then((more) => (search.current.asked += Number(more)));
    }
    if (following.current) element.scrollTop = element.scrollHeight;
  }, [version, turned, lines, added, folds, marked, older, follow, look]);

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

  if (!some) return <div className="empty quiet">{empty}</div>;
  const first = follows ? Math.max(0, count - seen.rows) : seen.first;
  const from = Math.max(0, first - AROUND);
  const drawn = Array.from({ length: Math.max(0, Math.min(count, first + seen.rows + AROUND) - from) }, (_, row) => folds.lineAt(from + row));
  return (
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
  );
}

interface RowProps {
  line: LogLineFragment;
  top: number;
  names?: Record<string, string>;
  marked: boolean;
  /** What is folded behind it: its number, and in words how much. */
  behind?: number;
  many?: string;
  open?: boolean;
  onFold: (from: number) => void;
}

const Row = memo(function Row({ line, top, names, marked, behind, many, open, onFold }: RowProps) {
  const service = line.tags?.serviceId;
  const at = new Date(line.timestamp);
  return (
    <div className="log-line" data-level={line.severity ?? "info"} data-marked={marked} style={{ transform: `translateY(${top}px)` }}>
      <time dateTime={line.timestamp} title={line.timestamp}>
        <a href={`#${line.timestamp}`} tabIndex={-1}>
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

/** The line that the address points to. */
export function useMarked(): string {
  const [hash, set] = useState(() => decodeURIComponent(location.hash.slice(1)));
  useEffect(() => {
    const changed = () => set(decodeURIComponent(location.hash.slice(1)));
    addEventListener("hashchange", changed);
    return () => removeEventListener("hashchange", changed);
  }, []);
  return hash;
}

function download(lines: LogLineFragment[]) {
  const text = lines.map((line) => `${line.timestamp} ${(line.severity ?? "info").padEnd(5)} ${withoutAnsi(line.message)}`).join("\n");
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([text, "\n"], { type: "text/plain" }));
  link.download = "orrery.log";
  link.click();
  URL.revokeObjectURL(link.href);
}
