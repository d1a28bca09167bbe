import { useQuery } from "@apollo/client/react";
import { Link, Outlet, useNavigate, useParams } from "@tanstack/react-router";
import { Check, ChevronsUpDown, Plus } from "lucide-react";
import { createContext, use, useState } from "react";
import { change } from "../api/client";
import { EnvironmentCreateDocument, ProjectDocument, type ProjectQuery } from "../gql";
import { Act, Dialog, ErrorBox, Field } from "../ui/basic";
import { Bar } from "../ui/frame";
import { Item, Menu, MenuLabel } from "../ui/menu";

export type Project = ProjectQuery["project"];

const ProjectContext = createContext<Project | null>(null);

export function useProject(): Project {
  const project = use(ProjectContext);
  if (!project) throw new Error("only shown within a project");
  return project;
}

export function ProjectFrame({ id, env, children }: { id: string; env?: string; children: React.ReactNode }) {
  const { data, error, refetch } = useQuery(ProjectDocument, { variables: { id } });
  const [creating, setCreating] = useState(false);
  const navigate = useNavigate();
  if (!data) {
    return (
      <>
        <Bar />
        <main className="main narrow">{error && <ErrorBox error={error} retry={() => void refetch()} />}</main>
      </>
    );
  }
  const { project } = data;
  const environments = project.environments.edges.map((edge) => edge.node);
  const current = environments.find((one) => one.id === env);
  const first = current ?? environments.find((one) => one.name === "production") ?? environments[0];
  return (
    <ProjectContext value={project}>
      <Bar>
        <span className="crumb">
          <Link to="/p/$project" params={{ project: id }} className="cut">
            <span className="cut">{project.name}</span>
          </Link>
        </span>
        {current && (
          <span className="crumb">
            <Menu
              trigger={
                <button type="button" aria-label={`Environment ${current.name}`}>
                  <span className="cut">{current.name}</span>
                  <ChevronsUpDown size={12} />
                </button>
              }
            >
              <MenuLabel>Environments</MenuLabel>
              {environments.map((one) => (
                <Item key={one.id} onSelect={() => navigate({ to: "/p/$project/$env", params: { project: id, env: one.id } })}>
                  <span className="grow cut">{one.name}</span>
                  {one.id === env && <Check size={14} />}
                </Item>
              ))}
              {project.viewerCanAdminister && (
                <>
                  <hr />
                  <Item onSelect={() => setCreating(true)}>
                    <Plus size={14} /> New environment
                  </Item>
                </>
              )}
            </Menu>
          </span>
        )}
        <nav className="tabs" aria-label="Project" style={{ marginLeft: 8 }}>
          {first && (
            <>
              <Link to="/p/$project/$env" params={{ project: id, env: first.id }} className="tab" activeOptions={{ exact: true }}>
                Canvas
              </Link>
              <Link to="/p/$project/$env/logs" params={{ project: id, env: first.id }} className="tab">
                Logs
              </Link>
              <Link to="/p/$project/$env/activity" params={{ project: id, env: first.id }} className="tab">
                Activity
              </Link>
            </>
          )}
          <Link to="/p/$project/settings" params={{ project: id }} className="tab">
            Settings
          </Link>
        </nav>
      </Bar>
      {project.deletedAt && (
        <div className="offline" role="status">
          This project is being deleted. {project.viewerCanAdminister && <Link to="/p/$project/settings" params={{ project: id }}>Take it back in its settings</Link>}
        </div>
      )}
      {children}
      <NewEnvironment project={project} source={current?.id} open={creating} onClose={() => setCreating(false)} />
    </ProjectContext>
  );
}

export function Environment() {
  const { project, env } = useParams({ from: "/p/$project/$env" });
  return (
    <ProjectFrame id={project} env={env}>
      <Outlet />
    </ProjectFrame>
  );
}

export function NewEnvironment({ project, source, open, onClose }: { project: Project; source?: string; open: boolean; onClose: () => void }) {
  const [name, setName] = useState("");
  const [copy, setCopy] = useState(source ?? "");
  const navigate = useNavigate();
  return (
    <Dialog title="New environment" open={open} onClose={onClose}>
      <div className="section">
        <Field label="Name">
          <input className="input" value={name} onChange={(event) => setName(event.target.value)} placeholder="staging" autoFocus />
        </Field>
        <Field label="Start from" hint="Services, settings and variables are copied; data is not">
          <select className="select" value={copy} onChange={(event) => setCopy(event.target.value)}>
            <option value="">Nothing</option>
            {project.environments.edges.map(({ node }) => (
              <option key={node.id} value={node.id}>
                A copy of {node.name}
              </option>
            ))}
          </select>
        </Field>
      </div>
      <footer>
        <Act
          kind="primary"
          disabled={!name.trim()}
          act={async () => {
            const made = await change(EnvironmentCreateDocument, { input: { projectId: project.id, name: name.trim(), sourceEnvironmentId: copy || null } });
            onClose();
            setName("");
            await navigate({ to: "/p/$project/$env", params: { project: project.id, env: made.environmentCreate.id } });
          }}
        >
          Make it
        </Act>
      </footer>
    </Dialog>
  );
}
