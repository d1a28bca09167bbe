import { useQuery } from "@apollo/client/react";
import { Link, useParams } from "@tanstack/react-router";
import { WorkspacePlanDocument, type WorkspacePlanQuery } from "../gql";
import { Command, ErrorBox } from "../ui/basic";
import { Meter } from "../ui/meter";
import { useViewer } from "../viewer";
import { Credits } from "./credits";
import { PlanSwitch, plans } from "./plan-switch";
import { WorkspaceFrame } from "./workspace-frame";

type Workspace = WorkspacePlanQuery["workspace"];
type Use = Workspace["planUse"];

/** What a workspace may use, and what it uses of that today. */
export function PlanPage() {
  const { workspace } = useParams({ from: "/w/$workspace/plan" });
  const { data, error, refetch } = useQuery(WorkspacePlanDocument, { variables: { workspaceId: workspace }, fetchPolicy: "cache-and-network" });
  return (
    <WorkspaceFrame workspace={workspace} title="Plan" badge={data && <span className="badge">{plans[data.workspace.plan]}</span>}>
      {error && !data && <ErrorBox error={error} retry={() => void refetch()} />}
      {data && (
        <>
          <WhoChanges of={data.workspace} />
          <Containers use={data.workspace.planUse} />
          <Requests use={data.workspace.planUse} workspace={workspace} />
          <Credits {...data.workspace.flowCredits} />
        </>
      )}
    </WorkspaceFrame>
  );
}

function WhoChanges({ of }: { of: Workspace }) {
  const viewer = useViewer();
  const own = viewer.workspaces.find((one) => one.id === of.id);
  if (viewer.isAdmin) {
    return (
      <section className="row wrap between" aria-label="Change the plan">
        <span className="second">You run this server: the plan of every workspace is yours to set.</span>
        <PlanSwitch workspace={{ id: of.id, name: own?.name ?? "this workspace", plan: of.plan }} />
      </section>
    );
  }
  return (
    <section className="stack tight" aria-label="Change the plan">
      <p className="second">Nothing is billed here. Whoever runs this server sets the plans of its workspaces, in the dashboard or there:</p>
      {own && (
        <span>
          <Command>{`orrery plan set ${own.username} professional`}</Command>
        </span>
      )}
    </section>
  );
}

function Containers({ use: { containers, containerLimit, containersPerApp } }: { use: Use }) {
  return (
    <section className="stack tight" aria-label="Containers">
      <div className="row wrap between">
        <h2>Containers</h2>
        <span className="numbers">{containerLimit === null ? containers.toLocaleString("en") : `${containers.toLocaleString("en")} of ${containerLimit.toLocaleString("en")}`}</span>
      </div>
      {containerLimit !== null && <Meter label="Containers used" used={containers} of={containerLimit} />}
      <p className="second small">{containersPerApp === 1 ? "Each service has one container on this plan." : `A service may be scaled to ${containersPerApp} of them.`}</p>
    </section>
  );
}

const windows = [
  ["perSecond", "a second"],
  ["perMinute", "a minute"],
  ["perHour", "an hour"],
  ["perDay", "a day"],
] as const;

function Requests({ use, workspace }: { use: Use; workspace: string }) {
  const count = (requests: number) => requests.toLocaleString("en");
  const limits = windows.flatMap(([name, window]) => {
    const most = use.keyLimits[name];
    return most === null || most === undefined ? [] : [`${count(most)} ${window}`];
  });
  return (
    <section className="stack tight" aria-label="Requests">
      <div className="row wrap between">
        <h2>Requests with keys</h2>
        <span className="numbers">{count(use.requestsToday)} today</span>
      </div>
      <ul className="sheet list">
        <li>
          <span className="grow">Each key may make</span>
          <span className="numbers">{limits.length > 0 ? limits.join(", ") : "as many requests as it likes"}</span>
        </li>
        <li>
          <span className="grow">Refused today because a limit was reached</span>
          <span className="numbers">{count(use.requestsRefused)}</span>
        </li>
        <li>
          <span className="grow">Keys for Galaxy's API</span>
          <span>{use.galaxyKeys ? "Can be made" : "On the plan Professional"}</span>
        </li>
      </ul>
      <p className="second small">
        A key may have limits of its own; keys of Flow have no others, and those of whoever runs the server have the operator's, whatever the plan. Days begin at midnight UTC. What each key asks is under{" "}
        <Link to="/w/$workspace/usage" params={{ workspace }}>
          Usage
        </Link>
        .
      </p>
    </section>
  );
}
