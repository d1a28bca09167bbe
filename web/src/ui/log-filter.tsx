import { useEffect, useRef, useState } from "react";
import type { LogLineFragment } from "../gql";
import { ComboInput, type Offer, type Offered } from "./combo-input";
import { clock } from "./time";

const MOST = 10;
/** So many of the newest lines are looked through for the containers and deployments that wrote them. */
const LOOKED = 5000;

const ofLines = ["@level:error", "@level:warn", "@level:info", "@level:debug", "@deployment:", "@replica:"];
const ofRequests = ["@httpStatus:500..599", "@httpStatus:400..499", "@method:GET", "@method:POST", "@path:/", "@totalDuration:>500", "@replica:"];

type Names = Record<string, string>;
type Writer = "deployment" | "replica";

/** Who wrote the newest lines, the last one first. */
function writers(key: Writer, lines: LogLineFragment[], names: Names): Offer[] {
  const found = new Map<string, Offer>();
  for (let at = lines.length - 1; at >= Math.max(0, lines.length - LOOKED); at--) {
    const { tags, timestamp } = lines[at];
    const id = key === "replica" ? tags?.deploymentInstanceId : tags?.deploymentId;
    if (!id || found.has(id)) continue;
    const name = tags?.serviceId && names[tags.serviceId];
    found.set(id, { text: `@${key}:${id}`, name: `${name ? `${name}, ` : ""}last at ${clock.format(new Date(timestamp))}` });
  }
  return [...found.values()];
}

/** What may be meant by the last word of a filter. */
function offersFor(text: string, requests: boolean, names: Names, writersOf: (key: Writer) => Offer[]): Offered {
  const word = /(?:^|[\s(])-?([^\s()"]*)$/.exec(text)?.[1];
  const isQuoted = (text.split('"').length - 1) % 2 === 1;
  if (word === undefined || isQuoted) return { from: 0, found: [] };
  const wanted = word.toLowerCase();
  const begins = (one: string) => one.toLowerCase().startsWith(wanted);
  const key = /^@(deployment|replica):/.exec(wanted)?.[1] as Writer | undefined;
  const isBetween = /[^\s(]\s+\S*$/.test(text);
  const plain: Offer[] = [...(requests ? ofRequests : ofLines), ...(isBetween ? ["OR"] : [])].map((one) => ({ text: one }));
  const services = Object.entries(names).map(([id, name]) => ({ text: `@service:${id}`, name }));
  const isService = ({ text: own, name }: { text: string; name: string }) => begins(own) || begins(`@service:${name}`) || (wanted !== "" && begins(name));
  const found = [...(key ? writersOf(key) : []), ...plain].filter((one) => begins(one.text)).concat(services.filter(isService));
  return { from: text.length - word.length, found: found.filter((one) => one.text !== word).slice(0, MOST) };
}

interface Props {
  value: string;
  onChange: (filter: string) => void;
  names?: Names;
  requests: boolean;
  lines: LogLineFragment[];
}

/** Which lines are shown: sent once nothing was typed for a moment. */
export function LogFilter({ value, onChange, names = {}, requests, lines }: Props) {
  const [text, set] = useState(value);
  const sent = useRef<string[]>([]);
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
  const wrote = useRef<Partial<Record<Writer, Offer[]>>>({});
  const writersOf = (key: Writer) => {
    const now = writers(key, lines, names);
    // A filter that ends where its value is still to come shows no line.
    if (now.length > 0) wrote.current[key] = now;
    return wrote.current[key] ?? [];
  };
  return (
    <span className="log-filter">
      <ComboInput type="search" aria-label="Filter lines" label="Suggestions" placeholder="Filter: words, @level:error, -not" value={text} onValue={set} offersFor={(now) => offersFor(now, requests, names, writersOf)} free />
    </span>
  );
}
