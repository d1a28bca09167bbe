import { useQuery } from "@apollo/client/react";
import { useNavigate, useParams } from "@tanstack/react-router";
import { Command } from "cmdk";
import { useEffect, useRef, useState } from "react";
import { CanvasDocument, ProjectsDocument } from "../gql";
import { useViewer, useWorkspace } from "../viewer";
import { copyText, Dialog } from "./basic";
import { tell } from "./toast";

let open: (() => void) | undefined;

export function openPalette() {
  open?.();
}

/** Ctrl-K reaches every page, project and service, and copies ids; ? lists the shortcuts. */
export function Palette() {
  const [shown, setShown] = useState(false);
  const [help, setHelp] = useState(false);
  const dialog = useRef<HTMLDialogElement>(null);
  open = () => setShown(true);
  useEffect(() => {
    const pressed = (event: KeyboardEvent) => {
      if (event.key.toLowerCase() === "k" && (event.metaKey || event.ctrlKey)) {
        event.preventDefault();
        setShown((now) => !now);
      }
      const target = event.target as HTMLElement;
      if (event.key === "?" && !target.matches("input, textarea, select, [contenteditable]")) setHelp(true);
    };
    addEventListener("keydown", pressed);
    return () => removeEventListener("keydown", pressed);
  }, []);
  useEffect(() => {
    if (shown) dialog.current?.showModal();
  }, [shown]);
  return (
    <>
      {shown && (
        <dialog ref={dialog} className="palette" aria-label="Search" onClose={() => setShown(false)} onMouseDown={(event) => event.target === dialog.current && setShown(false)}>
          <Choices close={() => setShown(false)} />
        </dialog>
      )}
      <Dialog title="Shortcuts" open={help} onClose={() => setHelp(false)}>
        <div className="section">
          {[
            ["Ctrl K", "Search pages, projects and services"],
            ["?", "This list"],
            ["Esc", "Close a panel or a dialog"],
          ].map(([key, what]) => (
            <div key={key} className="row between">
              <span>{what}</span>
              <kbd>{key}</kbd>
            </div>
          ))}
        </div>
      </Dialog>
    </>
  );
}

function Choices({ close }: { close: () => void }) {
  const viewer = useViewer();
  const workspace = useWorkspace();
  const navigate = useNavigate();
  const { project, env, service } = useParams({ strict: false }) as { project?: string; env?: string; service?: string };
  const projects = useQuery(ProjectsDocument, { variables: { workspaceId: workspace.id } }).data?.projects.edges ?? [];
  const canvas = useQuery(CanvasDocument, { variables: { projectId: project ?? "", environmentId: env ?? "" }, skip: !project || !env }).data;
  const go = (to: string) => () => {
    close();
    void navigate({ to });
  };
  const copy = (what: string, text: string) => () => {
    close();
    void copyText(text).then(() => tell(`Copied the ${what}`));
  };
  const here = `/p/${project}/${env}`;
  return (
    <Command label="Search">
      <Command.Input placeholder="Go to a page, project or service…" autoFocus />
      <Command.List>
        <Command.Empty>Nothing is called that.</Command.Empty>
        {canvas && (
          <Command.Group heading="Services">
            {canvas.environment.serviceInstances.edges.map(({ node }) => (
              <Command.Item key={node.id} value={`service ${node.serviceName}`} onSelect={go(`${here}/s/${node.serviceId}/deployments`)}>
                {node.serviceName}
              </Command.Item>
            ))}
          </Command.Group>
        )}
        {service && (
          <Command.Group heading="This service">
            {["deployments", "logs", "metrics", "variables", "containers", "triggers", "storage", "domains", "settings"].map((tab) => (
              <Command.Item key={tab} value={`service ${tab}`} onSelect={go(`${here}/s/${service}/${tab}`)}>
                {tab[0].toUpperCase() + tab.slice(1)}
              </Command.Item>
            ))}
            <Command.Item onSelect={copy("service id", service)}>Copy the service id</Command.Item>
          </Command.Group>
        )}
        {project && env && (
          <Command.Group heading="This project">
            <Command.Item onSelect={go(here)}>Canvas</Command.Item>
            <Command.Item onSelect={go(`${here}/logs`)}>All logs</Command.Item>
            <Command.Item onSelect={go(`${here}/activity`)}>Activity</Command.Item>
            <Command.Item onSelect={go(`/p/${project}/settings`)}>Project settings</Command.Item>
            <Command.Item onSelect={copy("project id", project)}>Copy the project id</Command.Item>
            <Command.Item onSelect={copy("environment id", env)}>Copy the environment id</Command.Item>
          </Command.Group>
        )}
        <Command.Group heading="Projects">
          {projects.map(({ node }) => (
            <Command.Item key={node.id} value={`project ${node.name}`} onSelect={go(`/p/${node.id}`)}>
              {node.name}
            </Command.Item>
          ))}
          <Command.Item onSelect={go("/new")}>New project</Command.Item>
        </Command.Group>
        <Command.Group heading="Pages">
          <Command.Item onSelect={go("/account")}>Account</Command.Item>
          <Command.Item onSelect={go("/account/tokens")}>Tokens</Command.Item>
          <Command.Item onSelect={go("/flow")}>Flow</Command.Item>
          <Command.Item onSelect={go("/flow/keys")}>Flow API keys</Command.Item>
          <Command.Item onSelect={go(`/w/${workspace.id}/members`)}>Members</Command.Item>
          <Command.Item onSelect={go(`/w/${workspace.id}/usage`)}>Usage</Command.Item>
          <Command.Item onSelect={go(`/w/${workspace.id}/notifications`)}>Notifications</Command.Item>
          {workspace.viewerCanAdminister && <Command.Item onSelect={go(`/w/${workspace.id}/audit`)}>Audit log</Command.Item>}
          {viewer.isAdmin && <Command.Item onSelect={go("/operator")}>This server</Command.Item>}
          <Command.Item onSelect={() => location.assign("/graphiql")}>GraphiQL</Command.Item>
          <Command.Item onSelect={() => location.assign("/explorer")}>Explorer</Command.Item>
        </Command.Group>
      </Command.List>
    </Command>
  );
}
