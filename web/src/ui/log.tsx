import { useVirtualizer } from "@tanstack/react-virtual";
import { ArrowDownToLine, Download, Pause, Play } from "lucide-react";
import { useEffect, useId, useLayoutEffect, useRef, useState } from "react";
import type { LogLineFragment } from "../gql";
import { ansi, withoutAnsi } from "./ansi";
import { Button, ErrorBox } from "./basic";
import { State } from "./state";
import { useLog, type Lines, type LogSource } from "./stream";

const HEIGHT = 20;
/** How often older lines are asked for to find the one that the address points to. */
const SEARCHES = 50;
const clock = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit", second: "2-digit" });

const suggestions = ["@level:error", "@level:warn", "@level:error OR @level:warn", '"exact words"', "-healthz", "@service:", "@deployment:"];

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
  const lines = useLog(source, filter, paused);
  return (
    <section className="log" aria-label="Log">
      <div className="log-tools">
        {onFilter && <Filter value={filter} onChange={onFilter} />}
        {tools}
        <span className="grow" />
        <LiveState state={lines.state} paused={paused} count={lines.all.length} />
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

function Filter({ value, onChange }: { value: string; onChange: (filter: string) => void }) {
  const [text, set] = useState(value);
  const id = useId();
  useEffect(() => set(value), [value]);
  useEffect(() => {
    if (text === value) return;
    const timer = setTimeout(() => onChange(text), 350);
    return () => clearTimeout(timer);
  }, [text, value, onChange]);
  return (
    <>
      <input className="input" style={{ width: "min(320px, 100%)", height: 28, fontFamily: "var(--mono)", fontSize: 12 }} type="search" list={id} aria-label="Filter lines" placeholder="Filter: words, @level:error, -not" value={text} onChange={(event) => set(event.target.value)} spellCheck={false} />
      <datalist id={id}>
        {suggestions.map((one) => (
          <option key={one} value={one} />
        ))}
      </datalist>
    </>
  );
}

function Rows({ of, names, empty }: { of: Lines; names?: Record<string, string>; empty: string }) {
  const { all: lines, version, added, older } = of;
  const box = useRef<HTMLDivElement>(null);
  const [follows, setFollows] = useState(true);
  const following = useRef(true);
  const marked = useMarked();
  const rows = useVirtualizer({ count: lines.length, getScrollElement: () => box.current, estimateSize: () => HEIGHT, overscan: 20, initialRect: { width: 600, height: 800 } });

  // What was before the eyes stays there when lines are put above it.
  const above = useRef(0);
  useLayoutEffect(() => {
    if (added > above.current && box.current && !following.current) box.current.scrollTop += (added - above.current) * HEIGHT;
    above.current = added;
  }, [added]);

  const searches = useRef(0);
  useEffect(() => {
    const element = box.current;
    if (!element) return;
    if (marked && following.current) {
      const at = lines.findIndex((line) => line.timestamp === marked);
      if (at >= 0) {
        following.current = false;
        setFollows(false);
        rows.scrollToIndex(at, { align: "center" });
        return;
      }
      if (lines.length > 0 && marked < lines[0].timestamp && searches.current < SEARCHES) {
        void older().then((more) => (searches.current += Number(more)));
      }
    }
    if (following.current) element.scrollTop = element.scrollHeight;
  }, [version, lines, marked, rows, older]);

  if (lines.length === 0) return <div className="empty quiet">{empty}</div>;
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
          if (atEnd !== following.current) {
            following.current = atEnd;
            setFollows(atEnd);
          }
          if (!atEnd && element.scrollTop < element.clientHeight * 2) void older();
        }}
      >
        <div style={{ height: rows.getTotalSize(), position: "relative" }}>
          {rows.getVirtualItems().map((item) => (
            <Row key={item.index} line={lines[item.index]} top={item.start} names={names} marked={lines[item.index].timestamp === marked} />
          ))}
        </div>
      </div>
      {!follows && (
        <Button
          size="small"
          style={{ position: "absolute", right: 16, bottom: 16, boxShadow: "var(--shadow)" }}
          onClick={() => {
            following.current = true;
            setFollows(true);
            rows.scrollToIndex(lines.length - 1, { align: "end" });
          }}
        >
          <ArrowDownToLine size={14} /> Newest
        </Button>
      )}
    </div>
  );
}

function Row({ line, top, names, marked }: { line: LogLineFragment; top: number; names?: Record<string, string>; marked: boolean }) {
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
      <span className="text">{ansi(line.message)}</span>
    </div>
  );
}

/** The line that the address points to. */
function useMarked(): string {
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
