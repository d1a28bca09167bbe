import { useQuery } from "@apollo/client/react";
import { Link, useParams } from "@tanstack/react-router";
import { useState } from "react";
import { change } from "../api/client";
import { useNews } from "../api/news";
import { ExecutionCreateDocument, ExecutionsDocument, type ExecutionsQuery } from "../gql";
import { Act, Button, ErrorBox } from "../ui/basic";
import { MOST_ROWS, withOlder } from "../ui/older";
import { State, type Tone } from "../ui/state";
import { Ago, duration, Elapsed, Moment } from "../ui/time";
import { useProject } from "./environment";
import { useInstance } from "./service";

type Execution = ExecutionsQuery["deploymentInstanceExecutions"]["edges"][number]["node"];

const words: Record<string, [Tone, string]> = {
  CREATED: ["waiting", "Starting"],
  RUNNING: ["busy", "Running"],
  EXITED: ["healthy", "Succeeded"],
  CRASHED: ["failed", "Failed"],
  REMOVED: ["off", "Ended"],
  SKIPPED: ["off", "Skipped"],
};

/** When a service with a schedule runs next, and how its runs ended; nothing for one that runs all the time. */
export function Executions() {
  const instance = useInstance();
  if (!instance.nextCronRunAt && !instance.cronSchedule) return null;
  return (
    <>
      <Runs />
      <h2>Deployments</h2>
    </>
  );
}

function Runs() {
  const { env, service } = useParams({ from: "/p/$project/$env/canvas/s/$service/$tab" });
  const { viewerCanDeploy, workspaceId } = useProject();
  const instance = useInstance();
  const [first, setFirst] = useState(10);
  const { data: now, previousData, error, refetch } = useQuery(ExecutionsDocument, {
    variables: { input: { environmentId: env, serviceId: service }, first },
    fetchPolicy: "cache-and-network",
  });
  const data = now ?? previousData;
  useNews(workspaceId, refetch);
  const rows = data?.deploymentInstanceExecutions.edges.map((edge) => edge.node) ?? [];
  const deployed = instance.activeDeployments.length > 0;
  return (
    <section className="stack" aria-label="Runs">
      <div className="row between wrap">
        <div className="stack" style={{ gap: 2 }}>
          <h2>Runs</h2>
          <span className="small quiet">
            {instance.nextCronRunAt ? (
              <>
                Next at <Moment at={instance.nextCronRunAt} />
              </>
            ) : (
              "None is due: the schedule counts from the next deployment on"
            )}
          </span>
        </div>
        {viewerCanDeploy && deployed && (
          <Act size="small" disabled={rows.some((run) => !run.completedAt)} act={() => change(ExecutionCreateDocument, { input: { serviceInstanceId: instance.id } })} done="It runs now">
            Run now
          </Act>
        )}
      </div>
      {error && !data && <ErrorBox error={error} retry={() => void refetch()} />}
      {data && rows.length === 0 && <p className="second small">It has not run yet. It runs at its times, is expected to end, and is skipped while the run before goes on.</p>}
      {rows.length > 0 && (
        <ul className="sheet list" aria-label="Runs">
          {rows.map((run) => (
            <Row key={run.id} of={run} />
          ))}
        </ul>
      )}
      {data?.deploymentInstanceExecutions.pageInfo.hasNextPage && first < MOST_ROWS && (
        <Button size="small" onClick={() => setFirst(withOlder)}>
          Older runs
        </Button>
      )}
    </section>
  );
}

function Row({ of }: { of: Execution }) {
  const { project, env, service } = useParams({ from: "/p/$project/$env/canvas/s/$service/$tab" });
  const [tone, word] = words[of.status] ?? (["off", of.status.toLowerCase()] as const);
  const skipped = of.status === "SKIPPED";
  return (
    <li>
      <span style={{ width: 100, flex: "none" }}>
        <State tone={tone}>{word}</State>
      </span>
      <span className="grow small quiet cut">
        <Ago at={of.createdAt} />
        {!skipped && of.completedAt && `, took ${duration(new Date(of.completedAt).getTime() - new Date(of.createdAt).getTime())}`}
        {!of.completedAt && (
          <>
            , for <Elapsed since={of.createdAt} />
          </>
        )}
        {of.exitCode !== null && of.exitCode !== undefined && `, exit status ${of.exitCode}`}
        {of.reason && `: ${of.reason}`}
      </span>
      {!skipped && (
        <Link className="button" data-size="small" to="/p/$project/$env/s/$service/deployments/$deployment" params={{ project, env, service, deployment: of.deploymentId }} search={{ log: "app", filter: `@replica:${of.id}` }}>
          Log
        </Link>
      )}
    </li>
  );
}
