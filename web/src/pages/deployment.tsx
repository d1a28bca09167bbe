import { useQuery, useSubscription } from "@apollo/client/react";
import { Link, useNavigate, useParams, useSearch } from "@tanstack/react-router";
import { ChevronLeft } from "lucide-react";
import { useCallback } from "react";
import { change } from "../api/client";
import { DeploymentCancelDocument, DeploymentChangesDocument, DeploymentDocument, DeploymentRollbackDocument, DeploymentsDocument, DeploymentStepsDocument, type DeploymentEventStep, type DeploymentQuery, type DeploymentRowFragment, type DeploymentStatus } from "../gql";
import { Act, ErrorBox } from "../ui/basic";
import { between } from "../ui/difference";
import { Log } from "../ui/log";
import { DeploymentState, isUnderWay, Shape, type Tone } from "../ui/state";
import { Ago, duration, Elapsed } from "../ui/time";
import { Approval, DeploymentMenu, messageOf } from "./deployments";
import { useProject } from "./environment";
import { useInstance } from "./service";
import { Differences } from "./staged";

type Step = DeploymentQuery["deploymentEvents"]["edges"][number]["node"];

const names: Record<DeploymentEventStep, string> = {
  SNAPSHOT_CODE: "Take the source",
  BUILD_IMAGE: "Build",
  PUBLISH_IMAGE: "Keep the result",
  MIGRATE_VOLUMES: "Move volumes",
  WAIT_FOR_DEPENDENCIES: "Wait for others",
  PRE_DEPLOY_COMMAND: "Run the pre-deploy command",
  CREATE_CONTAINER: "Start",
  HEALTHCHECK: "Wait until it is healthy",
  CONFIGURE_NETWORK: "Send requests to it",
  DRAIN_INSTANCES: "Let the previous one finish",
};

/** Logs of a deployment. Which one a line is in stands in its address: it is another one while it is built than later. */
const logs = {
  build: { name: "Build log", empty: "The build has not written anything yet.", source: (id: string) => ({ build: id }), place: () => ({ log: "build" }) },
  app: { name: "App log", empty: "The app has not written anything yet.", source: (id: string) => ({ app: id }), place: () => ({ log: "app" }) },
  requests: { name: "Requests", empty: "No request has reached it.", source: (id: string) => ({ requests: id }), place: () => ({ log: "requests" }) },
};

export function DeploymentPage() {
  const params = useParams({ from: "/p/$project/$env/canvas/s/$service/deployments/$deployment" });
  const search = useSearch({ from: "/p/$project/$env/canvas/s/$service/deployments/$deployment" });
  const navigate = useNavigate();
  const project = useProject();
  const instance = useInstance();
  const { data, error, refetch } = useQuery(DeploymentDocument, { variables: { id: params.deployment } });
  // Both write to the same rows of the cache that the query reads.
  useSubscription(DeploymentChangesDocument, { variables: { id: params.deployment } });
  useSubscription(DeploymentStepsDocument, { variables: { id: params.deployment }, onData: ({ data: event }) => event.data && !data?.deploymentEvents.edges.some((edge) => edge.node.id === event.data?.deploymentEvents.id) && void refetch() });
  const onFilter = useCallback((filter: string) => void navigate({ to: ".", search: (old: object) => ({ ...old, filter: filter || undefined }), hash: true, replace: true }), [navigate]);
  if (!data) return <div className="panel-body">{error && <ErrorBox error={error} retry={() => void refetch()} />}</div>;
  const { deployment } = data;
  const steps = data.deploymentEvents.edges.map((edge) => edge.node);
  const building = steps.every((step) => ["SNAPSHOT_CODE", "WAIT_FOR_DEPENDENCIES", "BUILD_IMAGE"].includes(step.step));
  const shown = search.log ?? (building || deployment.status === "FAILED" ? "build" : "app");
  const live = instance.activeDeployments.some((one) => one.id === deployment.id);
  return (
    <div className="panel-body flush">
      <div className="stack" style={{ padding: "16px 20px", borderBottom: "1px solid var(--line)", overflow: "auto", maxHeight: "46%", flex: "none" }}>
        <div className="row">
          <Link to="/p/$project/$env/s/$service/$tab" params={{ project: params.project, env: params.env, service: params.service, tab: "deployments" }} className="icon-button" aria-label="All deployments">
            <ChevronLeft size={16} />
          </Link>
          <h2 className="cut">{messageOf(deployment)}</h2>
          <DeploymentState status={deployment.status} stopped={deployment.deploymentStopped} />
          <span className="grow" />
          {project.viewerCanDeploy && isUnderWay(deployment.status) && (
            <Act size="small" act={() => change(DeploymentCancelDocument, { id: deployment.id })}>
              Cancel
            </Act>
          )}
          {project.viewerCanDeploy && deployment.canRollback && !live && !isUnderWay(deployment.status) && (
            <Act size="small" act={() => change(DeploymentRollbackDocument, { id: deployment.id })} done="Rolling back to this deployment">
              Roll back to this
            </Act>
          )}
          <Approval deployment={deployment} />
          <DeploymentMenu deployment={deployment} live={live} can={project.viewerCanDeploy} />
        </div>
        {deployment.status === "NEEDS_APPROVAL" && (
          <div className="notice" data-tone="waiting">
            {project.viewerCanAdminister
              ? "This environment is protected. Nothing is built or started before you, or another admin, approve it; what serves goes on. Older ones that wait end with it."
              : "This environment is protected: an admin of the workspace has to approve the deployment. Nothing is built or started before, and what serves goes on."}
          </div>
        )}
        <div className="small quiet">
          <Ago at={deployment.createdAt} />
          {deployment.creator && ` by ${deployment.creator.name || deployment.creator.email}`} · <code>{deployment.id.slice(0, 8)}</code>
        </div>
        <ol className="steps" aria-label="Steps">
          {steps.map((step, index) => (
            <StepRow key={step.id} step={step} last={index === steps.length - 1} under={isUnderWay(deployment.status)} />
          ))}
        </ol>
        <Compared of={deployment} />
      </div>
      <Log
        key={`${shown} ${deployment.id}`}
        source={logs[shown].source(deployment.id)}
        filter={search.filter}
        onFilter={onFilter}
        place={logs[shown].place}
        empty={logs[shown].empty}
        tools={
          <span className="tabs" role="group" aria-label="Which log">
            {(["build", "app", "requests"] as const).map((log) => (
              <Link key={log} from="/p/$project/$env/s/$service/deployments/$deployment" to="." search={{ log }} replace className="tab" data-status={shown === log ? "active" : undefined} aria-current={shown === log}>
                {logs[log].name}
              </Link>
            ))}
          </span>
        }
      />
    </div>
  );
}

/** What has answered requests, or does. */
const ran: readonly DeploymentStatus[] = ["SUCCESS", "SLEEPING", "CRASHED", "REMOVING", "REMOVED"];

const settingsOf = (deployment: DeploymentRowFragment) => (deployment.meta as { serviceManifest?: unknown } | null)?.serviceManifest;

/** What is different from what ran before. */
function Compared({ of }: { of: DeploymentRowFragment }) {
  const { project, env, service } = useParams({ from: "/p/$project/$env/canvas/s/$service/deployments/$deployment" });
  const { data } = useQuery(DeploymentsDocument, { variables: { input: { projectId: project, environmentId: env, serviceId: service } }, fetchPolicy: "cache-and-network" });
  const rows = data?.deployments.edges.map((edge) => edge.node) ?? [];
  const at = rows.findIndex((row) => row.id === of.id);
  const before = at < 0 ? undefined : rows.slice(at + 1).find((row) => ran.includes(row.status));
  if (!before) return null;
  const changes = between(settingsOf(before), settingsOf(of));
  const said = `Compared with what ran before: ${before.snapshotId === of.snapshotId ? "the same" : "another"} source, ${changes.length === 0 ? "the same settings" : changes.length === 1 ? "one setting changed" : `${changes.length} settings changed`}`;
  if (changes.length === 0) return <p className="small second">{said}</p>;
  return (
    <details>
      <summary className="small second" style={{ cursor: "pointer" }}>
        {said}
      </summary>
      <Differences of={changes} label="What is different" />
    </details>
  );
}

function StepRow({ step, last, under }: { step: Step; last: boolean; under: boolean }) {
  const error = step.payload?.error;
  const running = !step.completedAt && !error && last && under;
  const tone: Tone = error ? "failed" : running ? "busy" : step.payload?.skipped ? "off" : step.completedAt ? "healthy" : "waiting";
  const why = error ?? step.payload?.detail ?? step.payload?.reason;
  const took = step.payload?.durationMs ?? (step.completedAt ? new Date(step.completedAt).getTime() - new Date(step.createdAt).getTime() : null);
  return (
    <li>
      <span className="status" data-tone={tone}>
        <Shape tone={tone} />
      </span>
      <span>{names[step.step]}</span>
      <span className="small quiet numbers">{running ? <Elapsed since={step.createdAt} /> : took !== null ? duration(took) : ""}</span>
      {why && (
        <span className="why" data-tone={error ? "failed" : undefined}>
          {why}
        </span>
      )}
    </li>
  );
}
