import { useQuery } from "@apollo/client/react";
import { Link, useParams } from "@tanstack/react-router";
import { MoreHorizontal } from "lucide-react";
import { useState } from "react";
import { change } from "../api/client";
import { useNews } from "../api/news";
import {
  DeploymentApproveDocument,
  DeploymentCancelDocument,
  DeploymentRedeployDocument,
  DeploymentRemoveDocument,
  DeploymentRestartDocument,
  DeploymentRollbackDocument,
  DeploymentsDocument,
  DeploymentStopDocument,
  type DeploymentRowFragment,
} from "../gql";
import { Act, Button, Command, Confirm, copyText, Empty, ErrorBox } from "../ui/basic";
import { FolderButton } from "../ui/deploy-folder";
import { Item, Menu } from "../ui/menu";
import { MOST_ROWS, withOlder } from "../ui/older";
import { DeploymentState, isUnderWay } from "../ui/state";
import { Ago, Elapsed } from "../ui/time";
import { tell } from "../ui/toast";
import { useProject } from "./environment";
import { Executions } from "./executions";
import { useInstance } from "./service";

export function messageOf(deployment: DeploymentRowFragment): string {
  const meta = deployment.meta as { commitMessage?: string; message?: string; reason?: string; cliMessage?: string } | null;
  const said = meta?.commitMessage ?? meta?.cliMessage ?? meta?.message;
  if (said) return said;
  const reason = meta?.reason;
  return reason ? reason[0].toUpperCase() + reason.slice(1).toLowerCase() : "Deploy";
}

export function Deployments() {
  const { env, service } = useParams({ from: "/p/$project/$env/canvas/s/$service/$tab" });
  return <OfService key={`${env} ${service}`} />;
}

function OfService() {
  const params = useParams({ from: "/p/$project/$env/canvas/s/$service/$tab" });
  const project = useProject();
  const instance = useInstance();
  const [first, setFirst] = useState(20);
  const { data: now, previousData, error, refetch } = useQuery(DeploymentsDocument, {
    variables: { input: { projectId: params.project, environmentId: params.env, serviceId: params.service }, first },
  });
  const data = now ?? previousData;
  useNews(project.workspaceId, refetch);
  if (!data) return <div className="panel-body">{error && <ErrorBox error={error} retry={() => void refetch()} />}</div>;
  const rows = data.deployments.edges.map((edge) => edge.node);
  const { pageInfo } = data.deployments;
  if (rows.length === 0) {
    return (
      <div className="panel-body">
        <Empty title="Nothing deployed yet">
          <p>Deploy a folder to this service. The build log appears here as it is written.</p>
          {project.viewerCanDeploy && (
            <FolderButton kind="primary" place={{ project: params.project, env: params.env, service: { id: params.service, name: instance.serviceName } }}>
              Choose a folder
            </FolderButton>
          )}
          <Command>{`orrery railway -- up --service ${instance.serviceName}`}</Command>
        </Empty>
      </div>
    );
  }
  const live = instance.activeDeployments[0]?.id;
  return (
    <div className="panel-body">
      <Executions />
      <ul className="sheet list" aria-label="Deployments">
        {rows.map((deployment) => (
          <li key={deployment.id} style={{ gap: 4, paddingRight: 8 }}>
            <Link to="/p/$project/$env/s/$service/deployments/$deployment" params={{ project: params.project, env: params.env, service: params.service, deployment: deployment.id }} className="row grow" style={{ color: "inherit", gap: 16 }}>
              <span style={{ width: 100, flex: "none" }}>
                <DeploymentState status={deployment.status} stopped={deployment.deploymentStopped} />
              </span>
              <span className="grow">
                <span className="cut" style={{ display: "block", fontWeight: 500 }}>
                  {messageOf(deployment)}
                </span>
                <span className="cut small quiet" style={{ display: "block" }}>
                  {isUnderWay(deployment.status) ? (
                    <>
                      for <Elapsed since={deployment.createdAt} />
                    </>
                  ) : (
                    <Ago at={deployment.createdAt} />
                  )}
                  {deployment.creator && ` by ${deployment.creator.name || deployment.creator.email}`}
                  {deployment.status === "NEEDS_APPROVAL" && !project.viewerCanAdminister && " · waits for an admin of the workspace"}
                  {deployment.id === live && deployment.instances.length > 0 && ` · ${deployment.instances.filter((one) => one.status === "RUNNING").length} of ${instance.numReplicas ?? 1} running`}
                </span>
              </span>
            </Link>
            <Approval deployment={deployment} />
            <DeploymentMenu deployment={deployment} live={deployment.id === live} can={project.viewerCanDeploy} />
          </li>
        ))}
      </ul>
      {pageInfo.hasNextPage && first < MOST_ROWS && <Button onClick={() => setFirst(withOlder)}>Older deployments</Button>}
    </div>
  );
}

/** What can be decided about a deployment that waits for it. */
export function Approval({ deployment }: { deployment: DeploymentRowFragment }) {
  const project = useProject();
  if (deployment.status !== "NEEDS_APPROVAL") return null;
  return (
    <>
      {project.viewerCanAdminister && (
        <Act size="small" kind="primary" act={() => change(DeploymentApproveDocument, { id: deployment.id })} done="Approved">
          Approve
        </Act>
      )}
      {project.viewerCanDeploy && (
        <Act size="small" act={() => change(DeploymentCancelDocument, { id: deployment.id })} done="Cancelled">
          Cancel
        </Act>
      )}
    </>
  );
}

export function DeploymentMenu({ deployment, live, can }: { deployment: DeploymentRowFragment; live: boolean; can: boolean }) {
  const [ending, setEnding] = useState<"stop" | "remove" | null>(null);
  const run = (work: Promise<unknown>, text: string) => void work.then(() => tell(text), tell.problem);
  return (
    <>
      <Menu
        align="end"
        trigger={
          <button type="button" className="icon-button" aria-label="What can be done with this deployment">
            <MoreHorizontal size={16} />
          </button>
        }
      >
        {can && deployment.canRollback && !live && <Item onSelect={() => run(change(DeploymentRollbackDocument, { id: deployment.id }), "Rolling back to this deployment")}>Roll back to this</Item>}
        {can && deployment.canRedeploy && <Item onSelect={() => run(change(DeploymentRedeployDocument, { id: deployment.id }), "Deploying the same source again")}>Deploy again</Item>}
        {can && live && <Item onSelect={() => run(change(DeploymentRestartDocument, { id: deployment.id }), "Restarting, one copy after the other")}>Restart</Item>}
        {can && isUnderWay(deployment.status) && <Item onSelect={() => run(change(DeploymentCancelDocument, { id: deployment.id }), "Cancelled")}>Cancel</Item>}
        {can && live && !deployment.deploymentStopped && <Item onSelect={() => setEnding("stop")}>Stop…</Item>}
        {can && live && (
          <Item tone="danger" onSelect={() => setEnding("remove")}>
            Take out of service…
          </Item>
        )}
        <Item onSelect={() => void copyText(deployment.id).then(() => tell("Copied the deployment id"))}>Copy the deployment id</Item>
      </Menu>
      <EndDeployment id={deployment.id} ending={ending} onClose={() => setEnding(null)} />
    </>
  );
}

/** Asks before a deployment is stopped or taken out of service. */
export function EndDeployment({ id, ending, onClose }: { id: string; ending: "stop" | "remove" | null; onClose: () => void }) {
  return (
    <>
      <Confirm
        title="Stop this deployment?"
        what="Its containers end, and the service does not answer until it is restarted or deployed again."
        verb="Stop it"
        keep="Let it run"
        done="Stopped"
        act={() => change(DeploymentStopDocument, { id })}
        open={ending === "stop"}
        onClose={onClose}
      />
      <Confirm
        title="Take this deployment out of service?"
        what="Its containers end and it serves nobody any more. The service does not answer until something is deployed again."
        verb="Take it out of service"
        keep="Let it run"
        done="Taken out of service"
        act={() => change(DeploymentRemoveDocument, { id })}
        open={ending === "remove"}
        onClose={onClose}
      />
    </>
  );
}
