import { Link, useNavigate } from "@tanstack/react-router";
import { useState } from "react";
import { afterPaint, isPlain } from "./after-paint";

/** Seconds that are shown, and seconds between two points of a chart. */
export const ranges = {
  "5m": [300, 5, "5 minutes"],
  "1h": [3_600, 30, "1 hour"],
  "6h": [21_600, 180, "6 hours"],
  "24h": [86_400, 720, "24 hours"],
  "7d": [604_800, 3_600, "7 days"],
  "30d": [2_592_000, 14_400, "30 days"],
} as const satisfies Record<string, readonly [number, number, string]>;

export type Range = keyof typeof ranges;

/** What an address says of the time, if this page knows it. */
export const rangeOf = (text: unknown): Range | undefined => (typeof text === "string" && text in ranges ? (text as Range) : undefined);

/** What an address says with another range. One deployment that it named is what no range is of. */
const ranged = (range: Range | undefined) => (old: object) => ({ ...old, range, deployment: undefined });

/** The choice of a time range, which stands in the address, or of none: what it is called then, and what it means. */
export function Ranges({ chosen, none }: { chosen: Range | undefined; none?: [name: string, title: string] }) {
  const navigate = useNavigate();
  // What was picked is marked before the address has it, and what the address has once that changes.
  const [now, set] = useState({ chosen, marked: chosen });
  if (now.chosen !== chosen) set({ chosen, marked: chosen });
  const link = (range: Range | undefined, title: string) => (
    <Link
      key={range ?? "all"}
      to="."
      search={ranged(range)}
      replace
      activeOptions={{ exact: true }}
      className="tab"
      title={title}
      data-status={range === now.marked ? "active" : undefined}
      aria-current={range === now.marked ? "true" : undefined}
      onClick={(event) => {
        if (!isPlain(event)) return;
        event.preventDefault();
        set({ chosen, marked: range });
        afterPaint(() => void navigate({ to: ".", search: ranged(range), replace: true }));
      }}
    >
      {range ?? none?.[0]}
    </Link>
  );
  return (
    <nav className="ranges" aria-label="Time range">
      {(Object.keys(ranges) as Range[]).map((one) => link(one, `The last ${ranges[one][2]}`))}
      {none && link(undefined, none[1])}
    </nav>
  );
}
