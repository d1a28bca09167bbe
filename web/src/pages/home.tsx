import { useQuery } from "@apollo/client/react";
import { Link } from "@tanstack/react-router";
import { FolderUp } from "lucide-react";
import { useState } from "react";
import { useNews } from "../api/news";
import { ProjectsDocument, type ProjectsQuery } from "../gql";
import { GalaxyApps } from "../galaxy/apps";
import { Button, Command, Empty, ErrorBox } from "../ui/basic";
import { DropArea, FolderButton } from "../ui/deploy-folder";
import { Bar, NewProject } from "../ui/frame";
import { State, stateOf, type Tone } from "../ui/state";
import { Ago, Moment } from "../ui/time";
import { useWorkspace } from "../viewer";
import { Ending, goneAt } from "./ending";

type Project = ProjectsQuery["projects"]["edges"][number]["node"];

export function Home() {
  const workspace = useWorkspace();
  const { data, error, refetch } = useQuery(ProjectsDocument, { variables: { workspaceId: workspace.id } });
  useNews(workspace.id, refetch);
  const projects = data?.projects.edges.map((edge) => edge.node) ?? [];
  const isEmpty = projects.every((one) => one.deletedAt) && !data?.projects.pageInfo.hasNextPage;
  const place = { workspace: workspace.id };
  return (
    <>
      <Bar />
      <DropArea place={place} enabled={workspace.viewerCanAdminister} hint="Drop to deploy it as a new project" className="grow" style={{ position: "relative" }}>
        <main className="main">
          <div className="head">
            <h1>Projects</h1>
            {workspace.viewerCanAdminister && !isEmpty && (
              <span className="row">
                <FolderButton place={place}>
                  <FolderUp size={14} /> Deploy a folder
                </FolderButton>
                <NewProject />
              </span>
            )}
          </div>
          {error && !data && <ErrorBox error={error} retry={() => void refetch()} />}
          {data && isEmpty && (
            <div className="sheet">
              <Empty title={workspace.viewerCanAdminister ? "Deploy your first app" : "No projects yet"}>
                {workspace.viewerCanAdminister ? (
                  <>
                    <p>Drop a folder anywhere on this page. Orrery finds out what kind of app it is, builds it, and gives it an address.</p>
                    <FolderButton place={place} kind="primary">
                      <FolderUp size={14} /> Choose a folder
                    </FolderButton>
                    <p className="quiet">or, in the folder, from a terminal:</p>
                    <Command>orrery railway -- init && orrery railway -- up</Command>
                    <Link to="/new">Start with an empty project</Link>
                  </>
                ) : (
                  <p>Projects of this workspace appear here once an admin has made one.</p>
                )}
              </Empty>
            </div>
          )}
          {projects.length > 0 && (
            <ul className="sheet list" aria-label="Projects">
              {projects.map((project) => (
                <ProjectRow key={project.id} project={project} />
              ))}
              <More key={workspace.id} page={data?.projects.pageInfo} />
            </ul>
          )}
          {workspace.plan === "PRO" && <GalaxyApps key={workspace.id} username={workspace.username} workspace={workspace.id} />}
        </main>
      </DropArea>
    </>
  );
}

/** What comes after a page of the list, once it is asked for. */
function More({ page }: { page: ProjectsQuery["projects"]["pageInfo"] | undefined }) {
  const workspace = useWorkspace();
  const [isAsked, ask] = useState(false);
  const { data: now, previousData, error, refetch } = useQuery(ProjectsDocument, { variables: { workspaceId: workspace.id, after: page?.endCursor }, skip: !isAsked || !page?.hasNextPage });
  // A new project moves where a page begins. Until it is here again the one before stays: all that was opened after it would be closed.
  const data = now ?? previousData;
  useNews(isAsked ? workspace.id : null, refetch);
  if (!page?.hasNextPage) return null;
  if (!data) {
    return (
      <li>
        {error ? (
          <ErrorBox error={error} retry={() => void refetch()} />
        ) : (
          <Button busy={isAsked} onClick={() => ask(true)}>
            More projects
          </Button>
        )}
      </li>
    );
  }
  return (
    <>
      {data.projects.edges.map(({ node }) => (
        <ProjectRow key={node.id} project={node} />
      ))}
      <More page={data.projects.pageInfo} />
    </>
  );
}

/** A project that is being deleted is no place to go to. */
function EndedRow({ project, deletedAt }: { project: Project; deletedAt: string }) {
  const { viewerCanAdminister } = useWorkspace();
  return (
    <li className="row wrap" style={{ gap: 16 }}>
      <span className="grow" style={{ minWidth: 160 }}>
        <span className="cut second" style={{ display: "block", fontWeight: 600 }}>
          {project.name}
        </span>
        <span className="small quiet" style={{ display: "block" }}>
          Deleted <Ago at={deletedAt} />, gone for good on <Moment at={goneAt(deletedAt)} />
        </span>
      </span>
      {viewerCanAdminister && <Ending of={project} />}
    </li>
  );
}

function ProjectRow({ project }: { project: Project }) {
  return project.deletedAt ? <EndedRow project={project} deletedAt={project.deletedAt} /> : <LiveRow project={project} />;
}

type Instance = Project["services"]["edges"][number]["node"]["serviceInstances"]["edges"][number]["node"];

/** What somebody should look at first. */
const urgent: Tone[] = ["failed", "busy", "waiting"];

/** How services stand together: what is wrong, under way or waits for somebody in one of them; else how many of them serve. */
function ServicesState({ of }: { of: Instance[] }) {
  if (of.length === 0) return <State tone="off">Empty</State>;
  const states = of.map(({ latestDeployment: latest }) => stateOf({ status: latest?.status, stopped: latest?.deploymentStopped }));
  // One that a newer deployment is to replace goes on serving, and one that sleeps answers when it is asked.
  const live = of.filter((one) => one.activeDeployments.some((deployment) => !deployment.deploymentStopped)).length;
  const first = urgent.map((tone) => states.find((state) => state[0] === tone)).find(Boolean);
  const same = (live === 0 || states[0][0] === "asleep") && states.every(([, word]) => word === states[0][1]) ? states[0] : undefined;
  const [tone, word] = first ?? same ?? [live === of.length ? "healthy" : "off", `${live} of ${of.length} live`];
  return <State tone={tone}>{word}</State>;
}

function LiveRow({ project }: { project: Project }) {
  const environments = project.environments.edges.map((edge) => edge.node);
  const main = environments.find((one) => one.name === "production") ?? environments[0];
  const instances = project.services.edges.flatMap(({ node }) => node.serviceInstances.edges.map((edge) => ({ ...edge.node, name: node.name })));
  const here = instances.filter((one) => one.environmentId === main?.id);
  const deployments = instances.map((one) => ({ name: one.name, ...one.latestDeployment })).filter((one) => one.createdAt);
  deployments.sort((one, other) => String(other.createdAt).localeCompare(String(one.createdAt)));
  const last = deployments[0];
  const target = main ? ({ to: "/p/$project/$env", params: { project: project.id, env: main.id } } as const) : ({ to: "/p/$project/settings", params: { project: project.id } } as const);
  return (
    <li style={{ padding: 0 }}>
      <Link {...target} className="item" style={{ display: "flex", alignItems: "center", gap: 16, padding: "12px 16px", width: "100%", color: "inherit" }}>
        <span className="grow" style={{ minWidth: 0 }}>
          <span className="cut" style={{ display: "block", fontWeight: 600 }}>
            {project.name}
          </span>
          <span className="cut small quiet" style={{ display: "block" }}>
            {project.description || (environments.length > 1 ? `${environments.length} environments` : main?.name)}
          </span>
        </span>
        <span style={{ width: 150 }} className="phone-hide">
          <ServicesState of={here} />
        </span>
        <span className="small second cut last-deployment">
          {last?.createdAt ? (
            <>
              {last.name} · <Ago at={last.createdAt} />
            </>
          ) : (
            <span className="quiet">Nothing deployed yet</span>
          )}
        </span>
      </Link>
    </li>
  );
}
