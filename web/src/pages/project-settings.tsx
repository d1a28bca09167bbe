import { useQuery } from "@apollo/client/react";
import { Link, useNavigate, useParams } from "@tanstack/react-router";
import { useState } from "react";
import { change } from "../api/client";
import { EnvironmentDeleteDocument, EnvironmentProtectDocument, EnvironmentRenameDocument, MembersDocument, ProjectScheduleDeleteDocument, ProjectTokenCreateDocument, ProjectTokenDeleteDocument, ProjectTokensDocument, ProjectUpdateDocument } from "../gql";
import { Act, Asking, Button, Command, ConfirmByName, Empty, Field, Shown } from "../ui/basic";
import { Ago, Moment } from "../ui/time";
import { tell } from "../ui/toast";
import { goneAt, takeBack } from "./ending";
import { NewEnvironment, ProjectFrame, useProject } from "./environment";
import { roles } from "./members";
import { VariableList } from "./variables";

export function ProjectSettings() {
  const { project } = useParams({ from: "/p/$project/settings" });
  return (
    <ProjectFrame id={project}>
      <main className="main narrow">
        <div className="stack loose">
          <General />
          <Environments />
          <Shared />
          <People />
          <ProjectTokens />
          <Danger />
        </div>
      </main>
    </ProjectFrame>
  );
}

function General() {
  const project = useProject();
  const [name, setName] = useState(project.name);
  const [description, setDescription] = useState(project.description ?? "");
  return (
    <section className="stack">
      <h1>Settings</h1>
      <div className="two-columns">
        <Field label="Name">
          <input className="input" value={name} onChange={(event) => setName(event.target.value)} disabled={!project.viewerCanAdminister} />
        </Field>
        <Field label="Description">
          <input className="input" value={description} onChange={(event) => setDescription(event.target.value)} disabled={!project.viewerCanAdminister} />
        </Field>
      </div>
      {(name !== project.name || description !== (project.description ?? "")) && (
        <span>
          <Act kind="primary" disabled={!name.trim()} act={() => change(ProjectUpdateDocument, { id: project.id, input: { name: name.trim(), description } })} done="Saved">
            Save
          </Act>
        </span>
      )}
    </section>
  );
}

function Environments() {
  const project = useProject();
  const [creating, setCreating] = useState(false);
  const [renaming, setRenaming] = useState<{ id: string; name: string } | null>(null);
  const list = project.environments.edges.map((edge) => edge.node);
  return (
    <section className="stack tight">
      <div className="row between">
        <h2>Environments</h2>
        {project.viewerCanAdminister && (
          <Button size="small" onClick={() => setCreating(true)}>
            New environment
          </Button>
        )}
      </div>
      <p className="second">In a protected environment, what anybody but an admin or owner of the workspace deploys waits until one of them approves it.</p>
      <ul className="sheet list">
        {list.map((one) => (
          <li key={one.id} style={{ flexWrap: "wrap" }}>
            {renaming?.id === one.id ? (
              <>
                <input className="input" style={{ maxWidth: 240 }} aria-label="New name" value={renaming.name} onChange={(event) => setRenaming({ id: one.id, name: event.target.value })} autoFocus />
                <Act
                  act={async () => {
                    await change(EnvironmentRenameDocument, { id: one.id, input: { name: renaming.name.trim() } });
                    setRenaming(null);
                  }}
                >
                  Rename
                </Act>
                <Button kind="plain" onClick={() => setRenaming(null)}>
                  Keep
                </Button>
              </>
            ) : (
              <>
                <span className="grow cut" style={{ minWidth: 90 }}>
                  {one.name}
                </span>
                {one.isEphemeral && <span className="badge">Temporary</span>}
                {one.isProtected && <span className="badge">Protected</span>}
                <span className="small quiet phone-hide">
                  made <Ago at={one.createdAt} />
                </span>
                {project.viewerCanAdminister && (
                  <Act size="small" kind="plain" act={() => change(EnvironmentProtectDocument, { id: one.id, protected: !one.isProtected })} done={one.isProtected ? "Deployments wait no longer" : "Deployments wait for an admin"}>
                    {one.isProtected ? "End protection" : "Protect"}
                  </Act>
                )}
                {project.viewerCanAdminister && (
                  <Button size="small" kind="plain" onClick={() => setRenaming({ id: one.id, name: one.name })}>
                    Rename
                  </Button>
                )}
                {project.viewerCanAdminister && list.length > 1 && (
                  <ConfirmByName title={`Delete ${one.name}?`} name={one.name} verb="Delete" what="Everything that runs in it ends, and its variables, domains and volumes go with it." act={() => change(EnvironmentDeleteDocument, { id: one.id })} />
                )}
              </>
            )}
          </li>
        ))}
      </ul>
      <NewEnvironment project={project} open={creating} onClose={() => setCreating(false)} />
    </section>
  );
}

function Shared() {
  const project = useProject();
  const list = project.environments.edges.map((edge) => edge.node);
  const [env, setEnv] = useState(list[0]?.id ?? "");
  // Those of a project that is being deleted are read again once that is taken back.
  if (!project.viewerCanWrite || project.deletedAt || !env) return null;
  return (
    <section className="stack">
      <div className="row between">
        <h2>Shared variables</h2>
        <select className="select" style={{ width: 180 }} aria-label="Environment" value={env} onChange={(event) => setEnv(event.target.value)}>
          {list.map((one) => (
            <option key={one.id} value={one.id}>
              {one.name}
            </option>
          ))}
        </select>
      </div>
      <VariableList key={env} project={project.id} env={env} service={null} />
    </section>
  );
}

/** Who reaches the project: roles are given for all projects of a workspace. */
function People() {
  const { workspaceId } = useProject();
  const found = useQuery(MembersDocument, { variables: { workspaceId: workspaceId ?? "" }, skip: !workspaceId, errorPolicy: "ignore" }).data?.workspace;
  if (!found) return null;
  return (
    <section className="stack tight">
      <div className="row between">
        <h2>Members</h2>
        <Link to="/w/$workspace/members" params={{ workspace: found.id }} className="button" data-size="small">
          {found.viewerCanAdminister ? "Invite and change" : "All about members"}
        </Link>
      </div>
      <p className="second">Everybody in {found.name} reaches all of its projects, each as far as their role goes.</p>
      <ul className="sheet list" aria-label="Members">
        {found.members.map((member) => (
          <li key={member.id}>
            <span className="grow cut">{member.name || member.email}</span>
            <span className="badge">{roles[member.workspaceRole][0]}</span>
          </li>
        ))}
      </ul>
    </section>
  );
}

function ProjectTokens() {
  const project = useProject();
  const { data } = useQuery(ProjectTokensDocument, { variables: { projectId: project.id }, skip: !project.viewerCanAdminister });
  const list = project.environments.edges.map((edge) => edge.node);
  const [name, setName] = useState("");
  const [env, setEnv] = useState(list[0]?.id ?? "");
  const [secret, setSecret] = useState<string | null>(null);
  if (!project.viewerCanAdminister) return null;
  const tokens = data?.projectTokens.edges.map((edge) => edge.node) ?? [];
  return (
    <section className="stack">
      <div className="stack tight">
        <h2>Project tokens</h2>
        <p className="second">For CI: each deploys to one environment, as the header Project-Access-Token or RAILWAY_TOKEN.</p>
      </div>
      {secret && <Shown secret={secret} what="token" />}
      <div className="row wrap" style={{ alignItems: "flex-end" }}>
        <div style={{ flex: "2 1 160px" }}>
          <Field label="Name">
            <input className="input" value={name} onChange={(event) => setName(event.target.value)} placeholder="CI" />
          </Field>
        </div>
        <div style={{ flex: "1 1 140px" }}>
          <Field label="Environment">
            <select className="select" value={env} onChange={(event) => setEnv(event.target.value)}>
              {list.map((one) => (
                <option key={one.id} value={one.id}>
                  {one.name}
                </option>
              ))}
            </select>
          </Field>
        </div>
        <Act
          disabled={!name.trim()}
          act={async () => {
            const made = await change(ProjectTokenCreateDocument, { input: { projectId: project.id, environmentId: env, name: name.trim() } });
            setSecret(made.projectTokenCreate);
            setName("");
          }}
        >
          Create token
        </Act>
      </div>
      {tokens.length === 0 ? (
        <div className="sheet">
          <Empty title="No project tokens">
            <p>Create one above and keep it where your CI keeps its secrets. There it deploys a folder like this:</p>
            <Command>{`RAILWAY_TOKEN=… orrery railway --server ${location.origin} -- up --ci`}</Command>
          </Empty>
        </div>
      ) : (
        <ul className="sheet list" aria-label="Project tokens">
          {tokens.map((token) => (
            <li key={token.id}>
              <span className="grow cut">{token.name}</span>
              <code className="quiet">{token.displayToken}</code>
              <span className="badge">{list.find((one) => one.id === token.environmentId)?.name}</span>
              <Asking
                title={`Revoke ${token.name}?`}
                what="Whatever still deploys with this token is refused from its next request on. A revoked token does not come back."
                verb="Revoke the token"
                done={`${token.name} is revoked`}
                act={() => change(ProjectTokenDeleteDocument, { id: token.id })}
                trigger={(ask) => (
                  <Button size="small" kind="danger" aria-label={`Revoke ${token.name}`} onClick={ask}>
                    Revoke
                  </Button>
                )}
              />
            </li>
          ))}
        </ul>
      )}
    </section>
  );
}

function Danger() {
  const project = useProject();
  const navigate = useNavigate();
  if (!project.viewerCanAdminister) return null;
  const { id, name } = project;
  return (
    <section className="stack tight">
      <h2>Danger</h2>
      {project.deletedAt ? (
        <>
          <p className="second">
            Everything that ran in this project has ended. It is deleted for good on <Moment at={goneAt(project.deletedAt)} />.
          </p>
          <span>
            <Act act={() => takeBack(project)}>Take back</Act>
          </span>
        </>
      ) : (
        <>
          <p className="second">Ends everything that runs in this project, and deletes it with all environments 48 hours later.</p>
          <span>
            <ConfirmByName
              title={`Delete ${name}?`}
              name={name}
              verb="Delete the project"
              what="Everything that runs in it ends now. For 48 hours the list of projects takes that back; then every service, deployment, variable, domain and volume in all of its environments is gone."
              act={async () => {
                await change(ProjectScheduleDeleteDocument, { id });
                await navigate({ to: "/", search: { workspace: project.workspaceId ?? undefined } });
                tell(`${name} is deleted in 48 hours`, () => void takeBack({ id, name }));
              }}
            />
          </span>
        </>
      )}
    </section>
  );
}
