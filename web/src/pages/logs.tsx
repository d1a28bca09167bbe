import { Link, useNavigate, useParams, useSearch } from "@tanstack/react-router";
import { useCallback, useMemo, useState } from "react";
import { useWhole } from "../api/whole";
import { CanvasDocument } from "../gql";
import { Command, Empty } from "../ui/basic";
import { Log, momentOf, useMarked } from "../ui/log";
import { rangeOf, Ranges, ranges, type Range } from "../ui/ranges";
import { useInstance } from "./service";

function useFilter(): [string | undefined, (filter: string) => void] {
  const { filter } = useSearch({ strict: false }) as { filter?: string };
  const navigate = useNavigate();
  const set = useCallback((text: string) => void navigate({ to: ".", search: (old: object) => ({ ...old, filter: text || undefined }), replace: true }), [navigate]);
  return [filter, set];
}

/** When a range begins: counted from the moment at which it was chosen, and earlier when the address then points to an earlier line. */
function useSince(range: Range | undefined): string | undefined {
  const marked = useMarked();
  const [before, setBefore] = useState({ range, marked: "" });
  if (before.range !== range) setBefore({ range, marked });
  const since = useMemo(() => (range ? momentOf(Date.now() - ranges[range][0] * 1000) : undefined), [range]);
  return since && marked && marked !== before.marked && marked < since ? marked : since;
}

/** The range that the address names, and when it begins. */
function useRange(): [Range | undefined, string | undefined] {
  const { range } = useSearch({ strict: false }) as { range?: string };
  return [rangeOf(range), useSince(rangeOf(range))];
}

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
        tools={<Ranges chosen={range} none={["All", "From the beginning"]} />}
        empty={range ? `No line was written in the last ${ranges[range][2]}. New ones appear here as they come.` : "Nothing has written a line yet. What your services write to standard output appears here."}
      />
    </main>
  );
}

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

/** What is running now of one service, or all that it wrote in a range of time, whichever deployment it was. */
export function ServiceLogs() {
  const { env, service } = useParams({ from: "/p/$project/$env/canvas/s/$service/$tab" });
  const instance = useInstance();
  const [filter, setFilter] = useFilter();
  const [range, since] = useRange();
  const { log } = useSearch({ strict: false }) as { log?: string };
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
  if (log === "requests") {
    return (
      <div className="panel-body flush">
        <Log key={`requests ${deployment.id}`} source={{ requests: deployment.id }} filter={filter} onFilter={setFilter} tools={<Which requests />} empty="No request has reached what runs now. New ones appear here as they come." />
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
