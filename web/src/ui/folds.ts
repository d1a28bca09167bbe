import type { LogLineFragment } from "../gql";
import { withoutAnsi } from "./ansi";

/** Fewer lines than these are not put behind one: it would say hardly less than they do. */
const LEAST = 3;

/** Where a program was, as Node, Java, Python, Ruby, Rust and gdb write it. */
const FRAME = /^\s+(?:at |File "|from |\d+: )|^\s*#\d+ |^\s*\.\.\. \d+ more/;
const GOES_ON = /^\s+\S|^Caused by: /;

/** What is written over several lines, such as an object, begins so, and its lines are indented. */
const OPENS = /[{[(]\s*$/;
const INDENTED = /^\s+\S/;
/** Of a short one, more is said by its lines than is gained by hiding them. */
const LEAST_BLOCK = 10;

/** Lines behind the one before them: the same again, the stack of what it says, or what it opens. */
export interface Fold {
  /** The number of the first of them. Lines keep their numbers when others come before them. */
  readonly from: number;
  many: number;
  readonly isSame: boolean;
}

interface Run {
  text: string;
  /** The container that wrote it. */
  by: string | null | undefined;
  kind: "same" | "stack" | "block" | null;
  fold: Fold;
}

/** Of a growing log, which lines are drawn: the place of any of a million is found without a list of them all. */
export class Folds {
  /** The number of the first line. */
  first = 0;
  private next = 0;
  private all: Fold[] = [];
  private opened = new Set<number>();
  private run: Run | null = null;
  /** How many lines the folds up to each one hide. */
  private hidden: number[] = [];

  constructor(private on: boolean) {}

  /** How many rows there are. */
  get rows(): number {
    return this.next - this.first - this.upTo(this.all.length - 1);
  }

  turn(on: boolean): void {
    this.on = on;
    this.count(0);
  }

  /** More lines at the end. */
  append(lines: LogLineFragment[], from: number): void {
    const known = this.all.length;
    for (let at = from; at < lines.length; at++) this.run = this.take(lines[at], this.run, this.all);
    // The last of those that were known may have grown.
    this.count(Math.max(0, known - 1));
  }

  /** So many lines more at the beginning, of which those behind are known already. */
  prepend(lines: LogLineFragment[], many: number): void {
    const [first, next] = [this.first - many, this.next];
    const before: Fold[] = [];
    let run: Run | null = null;
    this.next = first;
    for (let at = 0; at < lines.length; at++) {
      const line = lines[at];
      if (at >= many && (run === null || !goesOn(line, run))) break;
      run = this.take(line, run, before);
    }
    // What went on from before has become part of it.
    const kept = this.all.filter((fold) => fold.from > this.next);
    if (this.next === next) this.run = run;
    this.all = before.concat(kept);
    this.first = first;
    this.next = next;
    this.count(0);
  }

  /** So many lines less at the beginning. */
  drop(many: number): void {
    this.first += many;
    this.all = this.all.filter((fold) => fold.from > this.first);
    this.count(0);
  }

  /** The line that a row shows, counted from the first. */
  lineAt(row: number): number {
    let [low, high] = [0, this.all.length];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.all[middle].from - 1 - this.first - this.upTo(middle - 1) < row) low = middle + 1;
      else high = middle;
    }
    return row + this.upTo(low - 1);
  }

  /** The row of a line, or of the one that it is behind. */
  rowOf(line: number): number {
    const at = this.nearest(line);
    const fold = this.all[at];
    if (!fold) return line;
    const behind = this.isClosed(fold) && line + this.first < fold.from + fold.many;
    return behind ? fold.from - 1 - this.first - this.upTo(at - 1) : line - this.upTo(at);
  }

  /** What a line has behind it. */
  behind(line: number): Fold | undefined {
    if (!this.on) return undefined;
    const fold = this.all[this.nearest(line + 1)];
    return fold?.from === line + this.first + 1 ? fold : undefined;
  }

  isClosed(fold: Fold): boolean {
    return this.on && !this.opened.has(fold.from);
  }

  /** Opens what is closed, and the other way round. */
  toggle(from: number): void {
    if (!this.opened.delete(from)) this.opened.add(from);
    this.count(0);
  }

  /** Has a line drawn. False when it is already. */
  reveal(line: number): boolean {
    const fold = this.all[this.nearest(line)];
    if (!fold || !this.isClosed(fold) || line + this.first >= fold.from + fold.many) return false;
    this.toggle(fold.from);
    return true;
  }

  /** The last fold that begins at a line or before it, or -1. */
  private nearest(line: number): number {
    let [low, high] = [0, this.all.length];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.all[middle].from <= line + this.first) low = middle + 1;
      else high = middle;
    }
    return low - 1;
  }

  private take(line: LogLineFragment, run: Run | null, into: Fold[]): Run {
    const number = this.next++;
    if (run === null || !goesOn(line, run)) return { text: textOf(line), by: line.tags?.deploymentInstanceId, kind: null, fold: { from: number + 1, many: 0, isSame: false } };
    if (run.kind === null) {
      const text = textOf(line);
      run.kind = text === run.text ? "same" : FRAME.test(text) ? "stack" : "block";
      run.fold = { ...run.fold, isSame: run.kind === "same" };
    }
    run.fold.many += 1;
    if (run.fold.many === (run.kind === "block" ? LEAST_BLOCK : LEAST)) into.push(run.fold);
    return run;
  }

  private upTo(at: number): number {
    return this.hidden[at] ?? 0;
  }

  private count(from: number): void {
    this.hidden.length = Math.min(from, this.hidden.length);
    for (let at = this.hidden.length; at < this.all.length; at++) this.hidden.push(this.upTo(at - 1) + (this.isClosed(this.all[at]) ? this.all[at].many : 0));
  }
}

function textOf({ message }: LogLineFragment): string {
  return message.includes("\u001b") ? withoutAnsi(message) : message;
}

/** Whether a line belongs behind the one that a run began with. */
function goesOn(line: LogLineFragment, run: Run): boolean {
  if (line.tags?.deploymentInstanceId !== run.by) return false;
  const text = textOf(line);
  if (run.kind === "stack") return GOES_ON.test(text) || FRAME.test(text);
  if (run.kind === "block") return INDENTED.test(text);
  return text === run.text || (run.kind === null && (FRAME.test(text) || (OPENS.test(run.text) && INDENTED.test(text))));
}
