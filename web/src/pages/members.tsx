import { useQuery } from "@apollo/client/react";
import { useNavigate, useParams } from "@tanstack/react-router";
import { useState } from "react";
import { change, problemOf } from "../api/client";
import { useNews } from "../api/news";
import { MembersDocument, WorkspaceInviteCodeCreateDocument, WorkspaceLeaveDocument, WorkspaceRoleSetDocument, WorkspaceUpdateDocument, WorkspaceUserInviteDocument, WorkspaceUserRemoveDocument, type MembersQuery, type WorkspaceRole } from "../gql";
import { Act, Asking, Button, Confirm, ErrorBox, Field, Shown } from "../ui/basic";
import { useSaving } from "../ui/saving";
import { tell } from "../ui/toast";
import { useViewer } from "../viewer";
import { plans } from "./plan-switch";
import { WorkspaceFrame } from "./workspace-frame";

export const roles: Record<WorkspaceRole, [string, string]> = {
  OWNER: ["Owner", "everything, the plan included"],
  ADMIN: ["Admin", "projects, keys and members"],
  MEMBER: ["Member", "services, variables and their secrets"],
  DEPLOYER: ["Deployer", "deploys, restarts and rolls back"],
  VIEWER: ["Viewer", "looks, and changes nothing"],
};

type Workspace = MembersQuery["workspace"];
type Member = Workspace["members"][number];

export function Members() {
  const { workspace } = useParams({ from: "/w/$workspace/members" });
  const { data, error, refetch } = useQuery(MembersDocument, { variables: { workspaceId: workspace }, fetchPolicy: "cache-and-network" });
  useNews(workspace, refetch);
  const found = data?.workspace;
  return (
    <WorkspaceFrame workspace={workspace} title="Members" badge={found && <span className="badge">{plans[found.plan]} plan</span>}>
      {error && !data && <ErrorBox error={error} retry={() => void refetch()} />}
      {found?.viewerCanAdminister && <Invite workspace={workspace} />}
      {found && (
        <ul className="sheet list" aria-label="Members">
          {found.members.map((member) => (
            <Row key={member.id} of={member} workspace={found} />
          ))}
        </ul>
      )}
      <dl className="small quiet stack tight">
        {Object.entries(roles).map(([role, [word, what]]) => (
          <div key={role} className="row" style={{ alignItems: "baseline" }}>
            <dt style={{ width: 72 }}>{word}</dt>
            <dd style={{ margin: 0 }}>{what}</dd>
          </div>
        ))}
      </dl>
      {found?.viewerCanAdminister && <Rename key={found.id} of={found} />}
      {found && <Leave of={found} />}
    </WorkspaceFrame>
  );
}

function Row({ of, workspace }: { of: Member; workspace: Workspace }) {
  const viewer = useViewer();
  const [removing, setRemoving] = useState(false);
  const [isSaving, save] = useSaving();
  const owns = workspace.viewerRole === "OWNER";
  const may = workspace.viewerCanAdminister && of.id !== viewer.id && (owns || of.workspaceRole !== "OWNER");
  const set = (role: WorkspaceRole) => change(WorkspaceRoleSetDocument, { input: { workspaceId: workspace.id, userId: of.id, role } });
  return (
    <li>
      <span className="grow" style={{ minWidth: 0 }}>
        <span className="cut" style={{ display: "block", fontWeight: 500 }}>
          {of.name}
          {of.id === viewer.id && <span className="quiet"> (you)</span>}
        </span>
        <span className="cut small quiet" style={{ display: "block" }}>
          {of.email}
        </span>
      </span>
      {may ? (
        <>
          <select className="select" style={{ width: 120 }} aria-label={`Role of ${of.email}`} value={of.workspaceRole} disabled={isSaving} aria-busy={isSaving} onChange={(event) => save(event.target, set(event.target.value as WorkspaceRole), `${of.email} has another role`)}>
            {Object.entries(roles).map(([role, [word]]) => (
              <option key={role} value={role} disabled={role === "OWNER" && !owns}>
                {word}
              </option>
            ))}
          </select>
          <Button size="small" kind="danger" aria-label={`Remove ${of.email}`} onClick={() => setRemoving(true)}>
            Remove
          </Button>
        </>
      ) : (
        <span className="badge">{roles[of.workspaceRole][0]}</span>
      )}
      <Confirm
        title={`Remove ${of.email}?`}
        what={`They and their tokens no longer reach anything in ${workspace.name}, from their next request on.`}
        verb="Remove"
        keep="Keep them"
        done={`${of.email} is no longer a member`}
        act={() => change(WorkspaceUserRemoveDocument, { workspaceId: workspace.id, userId: of.id })}
        open={removing}
        onClose={() => setRemoving(false)}
      />
    </li>
  );
}

/** Adds who has an account here at once; for anybody else there is a link that works once. */
function Invite({ workspace }: { workspace: string }) {
  const [email, setEmail] = useState("");
  const [role, setRole] = useState<WorkspaceRole>("MEMBER");
  const [link, setLink] = useState<string | null>(null);
  const [why, setWhy] = useState<string | null>(null);
  const invite = async (direct: boolean) => {
    setLink(null);
    setWhy(null);
    const code = (await change(WorkspaceInviteCodeCreateDocument, { workspaceId: workspace, role })).workspaceInviteCodeCreate;
    const made = `${location.origin}/invite/${code}`;
    if (!direct) {
      setLink(made);
      return;
    }
    try {
      await change(WorkspaceUserInviteDocument, { workspaceId: workspace, code, email: email.trim() });
      tell(`${email.trim()} is a member now`);
      setEmail("");
    } catch (error) {
      const problem = problemOf(error);
      if (problem.code !== "NOT_FOUND") throw problem;
      setWhy(`Nobody on this server has the address ${email.trim()}. Whoever has an account here joins with this link; the operator makes accounts.`);
      setLink(made);
    }
  };
  return (
    <section className="stack" aria-label="Invite">
      <div className="row wrap" style={{ alignItems: "flex-end" }}>
        <div style={{ flex: "2 1 200px" }}>
          <Field label="E-mail address">
            <input className="input" type="email" value={email} onChange={(event) => setEmail(event.target.value)} placeholder="ada@example.com" />
          </Field>
        </div>
        <div style={{ flex: "1 1 120px" }}>
          <Field label="As">
            <select className="select" value={role} onChange={(event) => setRole(event.target.value as WorkspaceRole)}>
              {(["ADMIN", "MEMBER", "DEPLOYER", "VIEWER"] as const).map((one) => (
                <option key={one} value={one}>
                  {roles[one][0]}
                </option>
              ))}
            </select>
          </Field>
        </div>
        <Act kind="primary" disabled={!/^[^@\s]+@[^@\s]+$/.test(email.trim())} act={() => invite(true)}>
          Add
        </Act>
        <Act act={() => invite(false)}>Make a link</Act>
      </div>
      {why && <p className="second small">{why}</p>}
      {link && <Shown secret={link} what="invitation" />}
    </section>
  );
}

function Rename({ of }: { of: Workspace }) {
  const [name, setName] = useState(of.name);
  return (
    <section className="stack tight">
      <h2>Name</h2>
      <div className="row">
        <input className="input" style={{ maxWidth: 320 }} aria-label="Name of the workspace" value={name} onChange={(event) => setName(event.target.value)} />
        <Act disabled={!name.trim() || name === of.name} act={() => change(WorkspaceUpdateDocument, { id: of.id, name: name.trim() })} done="Renamed">
          Rename
        </Act>
      </div>
    </section>
  );
}

function Leave({ of }: { of: Workspace }) {
  const navigate = useNavigate();
  const { workspaces } = useViewer();
  if (of.members.length < 2 || workspaces.length < 2) return null;
  return (
    <section className="stack tight">
      <h2>Leave</h2>
      <p className="second small">You no longer see anything of {of.name} until somebody invites you again.</p>
      <span>
        <Asking
          title={`Leave ${of.name}?`}
          what="Your tokens no longer reach anything in it either, and you cannot come back by yourself."
          verb="Leave it"
          keep="Stay"
          done={`You have left ${of.name}`}
          act={async () => {
            await change(WorkspaceLeaveDocument, { id: of.id });
            await navigate({ to: "/" });
          }}
          trigger={(ask) => (
            <Button kind="danger" onClick={ask}>
              Leave the workspace
            </Button>
          )}
        />
      </span>
    </section>
  );
}
