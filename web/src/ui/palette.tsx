import { useQuery } from "@apollo/client/react";
import { useNavigate, useParams } from "@tanstack/react-router";
import { Command } from "cmdk";
import { lazy, Suspense, useCallback, useDeferredValue, useEffect, useMemo, useState, type KeyboardEvent as KeyboardEventOf, type MouseEvent as MouseEventOf } from "react";
import { ask, change, Problem } from "../api/client";
import { flow } from "../api/flow";
import { useWhole } from "../api/whole";
import {
  CanvasDocument,
  CommitStagedDocument,
  DeploymentApproveDocument,
  DeploymentCancelDocument,
  DeploymentRedeployDocument,
  DeploymentRestartDocument,
  DeploymentRollbackDocument,
  DeploymentsDocument,
  ExecutionCreateDocument,
  PaletteServicesDocument,
  ProjectDocument,
  ProjectNamesDocument,
  ServiceDocument,
  StageChangesDocument,
  StagedChangesDocument,
  TemplateDeployDocument,
  TemplatesDocument,
} from "../gql";
import type { Verb } from "../pages/verbs";
import { useViewer, useWorkspace } from "../viewer";
import { copyText, Dialog } from "./basic";
import { signOut } from "./sign-out";
import { addressOf, isUnderWay } from "./state";
import { setTheme, themes } from "./theme";
import { tell, undoNewest } from "./toast";
import { useAsked } from "./use-asked";

/** Their questions are not part of what every page loads. */
const Verbs = lazy(async () => ({ default: (await import("../pages/verbs")).Verbs }));

let open: (() => void) | undefined;

export function openPalette() {
  open?.();
}

/** As many as are looked through at a glance; a few letters find the others. */
const MOST = 20;

/** What the letters may mean: first the names that have them side by side, then those that have them in this order. */
function nearest<T>(all: T[], name: (one: T) => string, text: string): T[] {
  const letters = [...text.toLowerCase().replaceAll(" ", "")];
  const beside = all.filter((one) => name(one).toLowerCase().includes(text.trim().toLowerCase()));
  if (letters.length === 0 || beside.length >= MOST) return beside.slice(0, MOST);
  const found = new Set(beside);
  const inOrder = (one: T) => {
    const word = name(one).toLowerCase();
    let at = 0;
    return letters.every((letter) => (at = word.indexOf(letter, at) + 1) > 0);
  };
  return [...beside, ...all.filter((one) => !found.has(one) && inOrder(one))].slice(0, MOST);
}

/** Ctrl-K reaches every page, project, service and verb, and copies ids; ? lists the shortcuts. */
export function Palette() {
  const [shown, setShown] = useState(false);
  const [help, setHelp] = useState(false);
  const [verb, setVerb] = useState<Verb | null>(null);
  const show = useCallback((scrim: HTMLDivElement | null) => {
    // An `autoFocus` would have come before this, and nobody would know any more what had the focus.
    const before = document.activeElement;
    scrim?.querySelector("input")?.focus();
    return () => {
      if (scrim?.contains(document.activeElement) && before instanceof HTMLElement) before.focus();
    };
  }, []);
  open = () => setShown(true);
  useEffect(() => {
    const pressed = (event: KeyboardEvent) => {
      if (event.key.toLowerCase() === "k" && (event.metaKey || event.ctrlKey)) {
        event.preventDefault();
        // Nothing is reached past a dialog before it is answered.
        if (!document.querySelector("dialog[open]")) setShown((now) => !now);
      }
      if ((event.target as HTMLElement).matches("input, textarea, select, [contenteditable]")) return;
      if (event.key === "?") setHelp(true);
      if (event.key === "z" && (event.metaKey || event.ctrlKey) && undoNewest()) event.preventDefault();
      const filter = event.key === "/" && document.querySelector<HTMLInputElement>("input[type=search]");
      if (filter) {
        event.preventDefault();
        filter.focus();
      }
    };
    addEventListener("keydown", pressed);
    return () => removeEventListener("keydown", pressed);
  }, []);
  const held = (event: KeyboardEventOf<HTMLElement>) => {
    // Escape that ends a composition is the input method's.
    if (event.key === "Escape" && !event.nativeEvent.isComposing) {
      event.stopPropagation();
      setShown(false);
    }
    // The field is all that has the focus in here, whatever is clicked, and what is behind waits.
    if (event.key === "Tab") event.preventDefault();
  };
  const pointed = (event: MouseEventOf<HTMLElement>) => {
    if (!(event.target as HTMLElement).matches("input")) event.preventDefault();
    if (event.target === event.currentTarget) setShown(false);
  };
  return (
    <>
      {shown && (
        // A dialog of the browser's own would have everything behind it styled anew: with hundreds of cards, longer than a key should take.
        // biome-ignore lint: Escape closes it, the click is an addition to it
        <div ref={show} className="scrim" onMouseDown={pointed} onKeyDown={held}>
          <div className="palette" role="dialog" aria-modal="true" aria-label="Search">
            <Choices close={() => setShown(false)} help={() => setHelp(true)} begin={setVerb} />
          </div>
        </div>
      )}
      {verb && (
        <Suspense>
          <Verbs of={verb} onClose={() => setVerb((now) => (now === verb ? null : now))} />
        </Suspense>
      )}
      <Dialog title="Shortcuts" open={help} onClose={() => setHelp(false)}>
        <div className="section">
          {[
            ["Ctrl K", "Search pages, projects, services and what can be done"],
            ["/", "Filter the log"],
            ["Ctrl Z", "Take back what was just done, or a change of a workflow"],
            ["Delete", "Take the chosen step or edge out of a workflow"],
            ["Tab, Enter", "Go from service to service on the canvas, and open one"],
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

/** Goes back to the newest deployment before the one that serves. */
async function rollBack(input: { projectId?: string; environmentId: string; serviceId: string }): Promise<void> {
  const { environmentId, serviceId } = input;
  const [{ serviceInstance }, { deployments }] = await Promise.all([ask(ServiceDocument, { environmentId, serviceId }), ask(DeploymentsDocument, { input, first: 50 })]);
  const all = deployments.edges.map((edge) => edge.node);
  // While one takes over from another, nobody can say which is the one before.
  if (all[0] && isUnderWay(all[0].status)) throw new Problem("A deployment is under way. Cancel it, or go back when it has ended.", "");
  const serves = all.findIndex((one) => one.id === serviceInstance.activeDeployments[0]?.id);
  const target = serves < 0 ? undefined : all.slice(serves + 1).find((one) => one.canRollback);
  if (!target) throw new Problem("No deployment before this one can be gone back to. What serves goes on.", "");
  await change(DeploymentRollbackDocument, { id: target.id });
}

/** The newest workflows, and those of all that have what is typed in their names. */
function useWorkflows(text: string) {
  const [typed, setTyped] = useState("");
  useEffect(() => {
    const timer = setTimeout(() => setTyped(text.trim().replace(/^workflow\s+/i, "").slice(0, 100)), 150);
    return () => clearTimeout(timer);
  }, [text]);
  const newest = useAsked(() => flow.workflows(), "newest workflows").data?.items ?? [];
  const found = useAsked(async () => (typed ? (await flow.workflows(typed)).items : []), `workflows ${typed}`).data ?? [];
  return [...newest, ...found.filter((one) => !newest.some((other) => other.id === one.id))];
}

/** Discards what is staged in an environment, and says how to get it back. */
async function discardStaged(projectId: string, environmentId: string): Promise<void> {
  const { environmentStagedChanges } = await ask(StagedChangesDocument, { projectId, environmentId });
  const kept = environmentStagedChanges.patch as unknown;
  await change(StageChangesDocument, { environmentId, input: {}, merge: false });
  tell("The staged changes are discarded", () => void change(StageChangesDocument, { environmentId, input: kept, merge: false }).catch(tell.problem));
}

/** Services of other projects that a few lines make room for. */
const MOST_ELSEWHERE = 8;

/** Services wherever they are in the workspace, with the environment that they are found in first. */
function useServices(workspace: string) {
  // A workspace may have thousands.
  const asked = useAsked(() => ask(PaletteServicesDocument, { workspaceId: workspace }, "apart"), `services ${workspace}`).data;
  return useMemo(
    () =>
      (asked?.projects.edges ?? []).flatMap(({ node: project }) =>
        project.services.edges.flatMap(({ node }) => {
          const env = node.serviceInstances.edges[0]?.node.environmentId;
          return env ? [{ id: node.id, name: node.name, project, env }] : [];
        }),
      ),
    [asked],
  );
}

function Choices({ close, help, begin }: { close: () => void; help: () => void; begin: (verb: Verb) => void }) {
  const viewer = useViewer();
  const fallback = useWorkspace();
  const navigate = useNavigate();
  const { workspace: named, project, env: opened, service, deployment, workflow, run } = useParams({ strict: false }) as { workspace?: string; project?: string; env?: string; service?: string; deployment?: string; workflow?: string; run?: string };
  const found = useQuery(ProjectDocument, { variables: { id: project ?? "" }, skip: !project }).data?.project;
  // What is open says whose it is.
  const whose = named ?? found?.workspaceId;
  const workspace = viewer.workspaces.find((one) => one.id === whose) ?? fallback;
  const [text, setText] = useState("");
  // The field comes first: what can be chosen is many lines.
  const all = useDeferredValue(true, false);
  const projects = nearest(useQuery(ProjectNamesDocument, { variables: { workspaceId: workspace.id }, fetchPolicy: "cache-and-network" }).data?.projects.edges ?? [], ({ node }) => `project ${node.name}`, text);
  // A page of a project that is of no environment leads to the one that its tabs lead to.
  const environments = found?.environments.edges.map((edge) => edge.node) ?? [];
  const env = opened ?? (environments.find((one) => one.name === "production") ?? environments[0])?.id;
  const canvas = useWhole(CanvasDocument, project && env ? { projectId: project, environmentId: env } : null).data;
  const services = nearest(canvas?.environment.serviceInstances.edges ?? [], ({ node }) => `service ${node.serviceName}`, text);
  const workflows = nearest(useWorkflows(text), (one) => `workflow ${one.name}`, text);
  const here = new Set(canvas?.environment.serviceInstances.edges.map(({ node }) => node.serviceId));
  const others = useServices(workspace.id).filter((one) => !here.has(one.id));
  // On a canvas that has services of its own, the first look is for those.
  const elsewhere = text.trim() || here.size === 0 ? nearest(others, (one) => `service ${one.name}`, text).slice(0, MOST_ELSEWHERE) : [];
  const volumes = canvas?.environment.volumeInstances.edges.filter(({ node }) => service && node.serviceId === service) ?? [];
  const instance = canvas?.environment.serviceInstances.edges.find(({ node }) => node.serviceId === service)?.node;
  const [latest, active] = [instance?.latestDeployment, instance?.activeDeployments.at(0)];
  const address = instance && addressOf(instance);
  const templates = useQuery(TemplatesDocument, { skip: !env || !found?.viewerCanWrite }).data?.templates.edges ?? [];
  const act = (work: () => Promise<unknown>, said: string) => () => {
    close();
    void work().then(() => tell(said), tell.problem);
  };
  const go = (to: string) => () => {
    close();
    void navigate({ to });
  };
  const first = (verb: Verb) => () => {
    close();
    begin(verb);
  };
  const copy = (what: string, text: string) => () => {
    close();
    void copyText(text).then(() => tell(`Copied the ${what}`));
  };
  const base = `/p/${project}/${env}`;
  return (
    <Command label="Search">
      <Command.Input placeholder="Go to a page, project or service…" value={text} onValueChange={setText} />
      <Command.List>
        {all && (
          <>
            <Command.Empty>Nothing is called that.</Command.Empty>
            {services.length > 0 && (
              <Command.Group heading="Services">
                {services.map(({ node }) => (
                  <Command.Item key={node.id} value={`service ${node.serviceName}`} onSelect={go(`${base}/s/${node.serviceId}/deployments`)}>
                    {node.serviceName}
                  </Command.Item>
                ))}
              </Command.Group>
            )}
            {service && (
              <Command.Group heading="This service">
                {["deployments", "logs", "metrics", "variables", "containers", "triggers", "storage", "domains", "settings"].map((tab) => (
                  <Command.Item key={tab} value={`service ${tab}`} onSelect={go(`${base}/s/${service}/${tab}`)}>
                    {tab[0].toUpperCase() + tab.slice(1)}
                  </Command.Item>
                ))}
                {found?.viewerCanDeploy && latest?.canRedeploy && <Command.Item onSelect={act(() => change(DeploymentRedeployDocument, { id: latest.id }), "Deploying the same source again")}>Deploy the same source again</Command.Item>}
                {found?.viewerCanDeploy && active && <Command.Item onSelect={act(() => change(DeploymentRestartDocument, { id: active.id }), "Restarting, one copy after the other")}>Restart</Command.Item>}
                {found?.viewerCanDeploy && active && <Command.Item onSelect={act(() => rollBack({ projectId: project, environmentId: env ?? "", serviceId: service }), "Rolling back to the one before")}>Roll back to the one before</Command.Item>}
                {found?.viewerCanDeploy && active && instance?.cronSchedule && <Command.Item onSelect={act(() => change(ExecutionCreateDocument, { input: { serviceInstanceId: instance.id } }), "It runs now")}>Run now</Command.Item>}
                {found?.viewerCanDeploy && latest && isUnderWay(latest.status) && <Command.Item onSelect={act(() => change(DeploymentCancelDocument, { id: latest.id }), "Cancelled")}>Cancel the deployment</Command.Item>}
                {found?.viewerCanWrite && instance && env && <Command.Item onSelect={first({ name: "scale", service: instance, env })}>Scale…</Command.Item>}
                {found?.viewerCanDeploy && active && !active.deploymentStopped && <Command.Item onSelect={first({ name: "stop", deployment: active.id })}>Stop…</Command.Item>}
                {found?.viewerCanDeploy && active && <Command.Item onSelect={first({ name: "remove", deployment: active.id })}>Take out of service…</Command.Item>}
                {address && (
                  <Command.Item
                    onSelect={() => {
                      close();
                      window.open(address, "_blank", "noreferrer");
                    }}
                  >
                    Open the app
                  </Command.Item>
                )}
                {found?.viewerCanAdminister && latest?.status === "NEEDS_APPROVAL" && <Command.Item onSelect={act(() => change(DeploymentApproveDocument, { id: latest.id }), "Approved")}>Approve</Command.Item>}
                {found?.viewerCanWrite && !address && <Command.Item onSelect={go(`${base}/s/${service}/domains`)}>Make an address…</Command.Item>}
                {found?.viewerCanWrite && volumes.length > 0 && <Command.Item onSelect={go(`${base}/s/${service}/storage`)}>Back up now…</Command.Item>}
                <Command.Item onSelect={copy("service id", service)}>Copy the service id</Command.Item>
                {volumes.map(({ node }) => (
                  <Command.Item key={node.id} value={`copy volume id ${node.volume.name}`} onSelect={copy("volume id", node.volume.id)}>
                    Copy the id of the volume {node.volume.name}
                  </Command.Item>
                ))}
                {[...(instance?.domains.serviceDomains ?? []), ...(instance?.domains.customDomains ?? [])].map((one) => (
                  <Command.Item key={one.id} value={`copy domain id ${one.domain}`} onSelect={copy("domain id", one.id)}>
                    Copy the id of {one.domain}
                  </Command.Item>
                ))}
                {deployment && <Command.Item onSelect={copy("deployment id", deployment)}>Copy the deployment id</Command.Item>}
              </Command.Group>
            )}
            {project && env && (
              <Command.Group heading="This project">
                <Command.Item onSelect={go(base)}>Canvas</Command.Item>
                <Command.Item onSelect={go(`${base}/logs`)}>All logs</Command.Item>
                <Command.Item onSelect={go(`${base}/activity`)}>Activity</Command.Item>
                <Command.Item onSelect={go(`/p/${project}/settings`)}>Project settings</Command.Item>
                {found?.viewerCanWrite && <Command.Item onSelect={first({ name: "add", project: found, env })}>Add a service…</Command.Item>}
                {templates.map(({ node: { id: templateId, name, category, serializedConfig } }) => (
                  <Command.Item
                    key={templateId}
                    value={`add ${category === "Storage" ? "database" : "template"} ${name}`}
                    onSelect={act(async () => {
                      await change(TemplateDeployDocument, { input: { templateId, serializedConfig, projectId: project, environmentId: env } });
                      await navigate({ to: base });
                    }, `${name} is being deployed`)}
                  >
                    Add {name}
                  </Command.Item>
                ))}
                {found?.viewerCanAdminister && <Command.Item onSelect={first({ name: "environment", project: found, env })}>New environment…</Command.Item>}
                {found?.viewerCanWrite && (canvas?.environment.unmergedChangesCount ?? 0) > 0 && <Command.Item onSelect={act(() => change(CommitStagedDocument, { environmentId: env, message: null }), "Deploying the changes")}>Deploy the staged changes</Command.Item>}
                {found?.viewerCanWrite && (canvas?.environment.unmergedChangesCount ?? 0) > 0 && (
                  <Command.Item
                    onSelect={() => {
                      close();
                      void discardStaged(project, env).catch(tell.problem);
                    }}
                  >
                    Discard the staged changes
                  </Command.Item>
                )}
                <Command.Item onSelect={copy("project id", project)}>Copy the project id</Command.Item>
                <Command.Item onSelect={copy("environment id", env)}>Copy the environment id</Command.Item>
                {found?.environments.edges
                  .filter(({ node }) => node.id !== env)
                  .map(({ node }) => (
                    <Command.Item key={node.id} value={`environment ${node.name}`} onSelect={go(`/p/${project}/${node.id}`)}>
                      Environment {node.name}
                    </Command.Item>
                  ))}
              </Command.Group>
            )}
            {workflow && (
              <Command.Group heading="This workflow">
                <Command.Item onSelect={go(`/flow/${workflow}`)}>Editor</Command.Item>
                <Command.Item onSelect={go(`/flow/${workflow}`)}>Run the workflow…</Command.Item>
                <Command.Item onSelect={go(`/flow/${workflow}/runs`)}>Runs</Command.Item>
                <Command.Item onSelect={go(`/flow/${workflow}/starts`)}>What starts it</Command.Item>
                <Command.Item onSelect={copy("workflow id", workflow)}>Copy the workflow id</Command.Item>
                {run && <Command.Item onSelect={copy("run id", run)}>Copy the run id</Command.Item>}
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
            {elsewhere.length > 0 && (
              <Command.Group heading="Services of other projects">
                {elsewhere.map(({ id, name, project: of, env: where }) => (
                  <Command.Item key={id} value={`service ${name} of ${of.name} ${id}`} onSelect={go(`/p/${of.id}/${where}/s/${id}/deployments`)}>
                    {name} <span className="quiet">in {of.name}</span>
                  </Command.Item>
                ))}
              </Command.Group>
            )}
            {workflows.length > 0 && (
              <Command.Group heading="Workflows">
                {workflows.map((one) => (
                  <Command.Item key={one.id} value={`workflow ${one.name} ${one.id}`} onSelect={go(`/flow/${one.id}`)}>
                    {one.name}
                  </Command.Item>
                ))}
              </Command.Group>
            )}
            <Command.Group heading="Workspace">
              {viewer.workspaces
                .filter((one) => one.id !== workspace.id)
                .map((one) => (
                  <Command.Item
                    key={one.id}
                    value={`workspace ${one.name} ${one.id}`}
                    onSelect={() => {
                      close();
                      void navigate({ to: "/", search: { workspace: one.id } });
                    }}
                  >
                    Workspace {one.name}
                  </Command.Item>
                ))}
              <Command.Item onSelect={copy("workspace id", workspace.id)}>Copy the workspace id</Command.Item>
            </Command.Group>
            <Command.Group heading="Pages">
              <Command.Item onSelect={go("/account")}>Account</Command.Item>
              <Command.Item onSelect={go("/account/tokens")}>Tokens</Command.Item>
              <Command.Item onSelect={go("/flow")}>Flow</Command.Item>
              <Command.Item onSelect={go("/flow/keys")}>Flow API keys</Command.Item>
              <Command.Item onSelect={go(`/w/${workspace.id}/members`)}>Members</Command.Item>
              <Command.Item onSelect={go(`/w/${workspace.id}/usage`)}>Usage</Command.Item>
              <Command.Item onSelect={go(`/w/${workspace.id}/plan`)}>Plan</Command.Item>
              <Command.Item onSelect={go(`/w/${workspace.id}/notifications`)}>Notifications</Command.Item>
              <Command.Item onSelect={go(`/w/${workspace.id}/webhooks`)}>Webhooks</Command.Item>
              {workspace.viewerCanAdminister && <Command.Item onSelect={go(`/w/${workspace.id}/audit`)}>Audit log</Command.Item>}
              {viewer.isAdmin && <Command.Item onSelect={go("/operator")}>This server</Command.Item>}
              <Command.Item onSelect={() => location.assign("/graphiql")}>GraphiQL</Command.Item>
              <Command.Item onSelect={() => location.assign("/explorer")}>Explorer</Command.Item>
              <Command.Item onSelect={() => location.assign("/docs/api")}>API reference</Command.Item>
              <Command.Item
                onSelect={() => {
                  close();
                  help();
                }}
              >
                Shortcuts
              </Command.Item>
              {themes.map(([theme, label]) => (
                <Command.Item
                  key={theme}
                  value={`appearance theme ${label}`}
                  onSelect={() => {
                    close();
                    setTheme(theme);
                  }}
                >
                  Appearance: {label}
                </Command.Item>
              ))}
              <Command.Item onSelect={signOut}>Sign out</Command.Item>
            </Command.Group>
          </>
        )}
      </Command.List>
    </Command>
  );
}
