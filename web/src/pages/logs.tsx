import { Link, Navigate, useNavigate, useParams, useSearch } from "@tanstack/react-router";
import { useCallback, useMemo, useState } from "react";
import { useWhole } from "../api/whole";
import { CanvasDocument, type LogLineFragment } from "../gql";
import { Command, Empty } from "../ui/basic";
import { Log, momentOf, useMarked } from "../ui/log";
import { rangeOf, Ranges, ranges, type Range } from "../ui/ranges";
import { useInstance } from "./service";

function useFilter(): [string | undefined, (filter: string) => void] {
  const { filter } = useSearch({ strict: false }) as { filter?: string };
  const navigate = useNavigate();
  const set = useCallback((text: string) => void navigate({ to: ".", search: (old: object) => ({ ...old, filter: text || undefined }), hash: true, replace: true }), [navigate]);
  return [filter, set];
}

/** When a range begins: counted from the moment at which it was chosen, and earlier when the address points to an earlier line. */
function useSince(range: Range | undefined): string | undefined {
  const marked = useMarked();
  const since = useMemo(() => (range ? momentOf(Date.now() - ranges[range][0] * 1000) : undefined), [range]);
  const [now, set] = useState({ range, since });
  // Later lines that are pointed to then do not take away what is before them.
  if (now.range !== range) set({ range, since });
  else if (now.since && marked && marked < now.since) set({ range, since: marked });
  return now.since;
}

/** The range that the address names, and when it begins. */
function useRange(): [Range | undefined, string | undefined] {
  const { range } = useSearch({ strict: false }) as { range?: string };
  return [rangeOf(range), useSince(rangeOf(range))];
}

const places = Object.fromEntries(Object.keys(ranges).map((range) => [range, () => ({ range })]));

/** What the address of a line in a range of time says: one function for each, as each line is drawn again with another. */
const inRange = (range: Range | undefined) => (range ? places[range] : undefined);

/** Everything in an environment. */
export function Logs() {
  const { project, env } = useParams({ from: "/p/$project/$env/logs" });
  const [filter, setFilter] = useFilter();
  const [range, since] = useRange();
  const { data } = useWhole(CanvasDocument, { projectId: project, environmentId: env });
  const names = useMemo(() => Object.fromEntries((data?.environment.serviceInstances.edges ?? []).map(({ node }) => [node.serviceId, node.serviceName])), [data]);
  return (
    <main className="stage" style={{ flexDirection: "column" }}>
      <h1 className="hidden">Logs</h1>
      <Log
        source={{ environment: env, since }}
        filter={filter}
        onFilter={setFilter}
        names={names}
        place={inRange(range)}
        tools={<Ranges chosen={range} none={["All", "From the beginning"]} />}
        empty={range ? `No line was written in the last ${ranges[range][2]}. New ones appear here as they come.` : "Nothing has written a line yet. What your services write to standard output appears here."}
      />
    </main>
  );
}

const ofDeployment = ({ tags }: LogLineFragment) => ({ deployment: tags?.deploymentId ?? undefined });
const ofRequests = ({ tags }: LogLineFragment) => ({ log: "requests", deployment: tags?.deploymentId ?? undefined });

/** Two logs of a service: what it writes, and what it is asked. */
function Which({ requests }: { requests: boolean }) {
  return (
    <span className="tabs" role="group" aria-label="Which log">
      {([undefined, "requests"] as const).map((log) => (
        <Link key={log ?? "app"} from="/p/$project/$env/s/$service/$tab" to="." search={{ log }} replace className="tab" data-status={requests === (log === "requests") ? "active" : undefined} aria-current={requests === (log === "requests")}>
          {log ? "Requests" : "App"}
        </Link>
      ))}
    </span>
  );
}

/** Leads to all that a service has written since a moment: the deployment that wrote then may not be the one that runs. */
const sinceThen = (moment: string) => (
  <Link from="/p/$project/$env/s/$service/$tab" to="." search={{ range: widest(Date.now() - Date.parse(moment)) }} hash={moment} replace className="button" data-size="small">
    Look in all that the service has written since then
  </Link>
);

/** The shortest range that reaches back so many milliseconds. A line that is older than any begins it. */
const widest = (ms: number): Range => (Object.keys(ranges) as Range[]).find((range) => ranges[range][0] * 1000 > ms) ?? "30d";

/** What is running now of one service, or all that it wrote in a range of time, whichever deployment it was. */
export function ServiceLogs() {
  const { project, env, service } = useParams({ from: "/p/$project/$env/canvas/s/$service/$tab" });
  const instance = useInstance();
  const [filter, setFilter] = useFilter();
  const [range, since] = useRange();
  const { log, deployment: named } = useSearch({ strict: false }) as { log?: string; deployment?: string };
  const marked = useMarked();
  const deployment = instance.activeDeployments[0] ?? instance.latestDeployment;
  if (!deployment) {
    return (
      <div className="panel-body">
        <Empty title="No log yet">
          <p>What the app writes to standard output appears here once it is deployed.</p>
          <Command>{`orrery railway -- up --service ${instance.serviceName}`}</Command>
        </Empty>
      </div>
    );
  }
  // A line that was linked to is where it was written, whatever has been deployed since.
  if (named && !range && named !== deployment.id) {
    return <Navigate to="/p/$project/$env/s/$service/deployments/$deployment" params={{ project, env, service, deployment: named }} search={{ log: log === "requests" ? log : "app", filter }} hash={marked} replace />;
  }
  if (log === "requests") {
    return (
      <div className="panel-body flush">
        <Log key={`requests ${deployment.id}`} source={{ requests: deployment.id }} filter={filter} onFilter={setFilter} place={ofRequests} tools={<Which requests />} empty="No request has reached what runs now. New ones appear here as they come." />
      </div>
    );
  }
  return (
    <div className="panel-body flush">
      <Log
        key={range ?? deployment.id}
        source={range ? { environment: env, service, since } : { app: deployment.id }}
        filter={filter}
        onFilter={setFilter}
        place={inRange(range) ?? ofDeployment}
        elsewhere={range ? undefined : sinceThen}
        tools={
          <>
            <Which requests={false} />
            <Ranges chosen={range} none={["Running", "What runs now, from its beginning"]} />
          </>
        }
        empty={range ? `Neither the app nor a build of it wrote a line in the last ${ranges[range][2]}. New ones appear here as they come.` : "The app has not written anything yet."}
      />
    </div>
  );
}
