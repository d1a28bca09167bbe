import { useQuery } from "@apollo/client/react";
import { Link, useParams } from "@tanstack/react-router";
import { useState } from "react";
import { useNews } from "../api/news";
import { useWhole } from "../api/whole";
import { CanvasDocument, DeploymentsDocument } from "../gql";
import { Button, Command, Empty, ErrorBox } from "../ui/basic";
import { MOST_ROWS, withOlder } from "../ui/older";
import { DeploymentState } from "../ui/state";
import { Ago } from "../ui/time";
import { Activities } from "./audit";
import { messageOf } from "./deployments";
import { useProject } from "./environment";

/** Who did what, newest first. Admins see everything; others see the deployments. */
export function ActivityPage() {
  const project = useProject();
  const { env } = useParams({ from: "/p/$project/$env/activity" });
  return project.viewerCanAdminister && project.workspaceId ? (
    <main className="main narrow">
      <div className="head">
        <h1>Activity</h1>
      </div>
      <Activities workspace={project.workspaceId} project={project.id} env={env} />
    </main>
  ) : (
    <DeploymentsMade />
  );
}

function DeploymentsMade() {
  const { project, env } = useParams({ from: "/p/$project/$env/activity" });
  const services = useWhole(CanvasDocument, { projectId: project, environmentId: env }).data?.environment.serviceInstances.edges ?? [];
  const names = Object.fromEntries(services.map(({ node }) => [node.serviceId, node.serviceName]));
  const [first, setFirst] = useState(50);
  const { data: now, previousData, error, refetch } = useQuery(DeploymentsDocument, { variables: { input: { projectId: project, environmentId: env }, first } });
  const data = now ?? previousData;
  useNews(useProject().workspaceId, refetch);
  const rows = data?.deployments.edges.map((edge) => edge.node) ?? [];
  return (
    <main className="main narrow">
      <div className="head">
        <h1>Activity</h1>
      </div>
      {error && !data && <ErrorBox error={error} retry={() => void refetch()} />}
      {data && rows.length === 0 ? (
        <div className="sheet">
          <Empty title="Nothing has happened here yet">
            <p>Each deployment shows up with who began it.</p>
            <Command>orrery railway -- up</Command>
          </Empty>
        </div>
      ) : (
        <ol className="sheet list">
          {rows.map((row) => (
            <li key={row.id} style={{ padding: 0 }}>
              <Link to="/p/$project/$env/s/$service/deployments/$deployment" params={{ project, env, service: row.serviceId ?? "", deployment: row.id }} className="item row grow" style={{ padding: "10px 16px", gap: 16, color: "inherit" }}>
                <span className="grow" style={{ minWidth: 0 }}>
                  <span className="cut" style={{ display: "block" }}>
                    <strong>{row.creator?.name || row.creator?.email || "Orrery"}</strong> deployed <strong>{names[row.serviceId ?? ""] ?? "a deleted service"}</strong>
                  </span>
                  <span className="cut small quiet" style={{ display: "block" }}>
                    {messageOf(row)}
                  </span>
                </span>
                <DeploymentState status={row.status} stopped={row.deploymentStopped} />
                <span className="small quiet" style={{ width: 80, textAlign: "right" }}>
                  <Ago at={row.createdAt} />
                </span>
              </Link>
            </li>
          ))}
        </ol>
      )}
      {data?.deployments.pageInfo.hasNextPage && first < MOST_ROWS && (
        <span style={{ marginTop: 16 }}>
          <Button onClick={() => setFirst(withOlder)}>Older</Button>
        </span>
      )}
    </main>
  );
}
