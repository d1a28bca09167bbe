import { createRootRoute, createRoute, createRouter, lazyRouteComponent, Navigate, Outlet, redirect } from "@tanstack/react-router";
import { useEffect, useState } from "react";
import { ask, isSignedOut, problemOf, signInFirst } from "./api/client";
import { useAway, useListening } from "./api/news";
import { askWhole } from "./api/whole";
import { CanvasDocument, DeploymentDocument, EnvironmentReferencesDocument, MembersDocument, ProjectDocument, ProjectsDocument, ServiceDocument, ViewerDocument } from "./gql";
import { Button, Empty, ErrorBox } from "./ui/basic";
import { Over } from "./ui/over";
import { Palette } from "./ui/palette";
import { Toasts } from "./ui/toast";
import { useViewerQuery, ViewerContext } from "./viewer";
import { Welcome } from "./pages/welcome";

function Root() {
  const { data, error, loading, refetch } = useViewerQuery();
  if (data) {
    return (
      <ViewerContext value={data.me}>
        <Offline workspace={data.me.workspaces[0]?.id} />
        <Outlet />
        <Over />
        <Palette />
        <Toasts />
      </ViewerContext>
    );
  }
  if (error) {
    const problem = problemOf(error);
    if (isSignedOut(problem)) {
      if (location.pathname === "/") return <Welcome />;
      signInFirst();
      return null;
    }
    return (
      <main className="main narrow">
        <ErrorBox error={error} retry={() => void refetch()} />
      </main>
    );
  }
  return loading ? null : <Welcome />;
}

/** Says when what is shown cannot be up to date. It listens on every page, so that it knows. */
function Offline({ workspace }: { workspace: string | undefined }) {
  const [offline, set] = useState(!navigator.onLine);
  const isAway = useAway();
  useListening(workspace);
  useEffect(() => {
    const look = () => set(!navigator.onLine);
    addEventListener("online", look);
    addEventListener("offline", look);
    return () => {
      removeEventListener("online", look);
      removeEventListener("offline", look);
    };
  }, []);
  if (!offline && !isAway) return null;
  return (
    <div className="offline" role="status">
      {offline ? "This browser is offline." : "Reconnecting to the server."} What you see is what was last heard; it goes on when the connection is back.
    </div>
  );
}

function Failed({ error, reset }: { error: unknown; reset: () => void }) {
  return (
    <main className="main narrow">
      <ErrorBox error={error} retry={() => (reset(), void router.invalidate())} />
    </main>
  );
}

function NotFound() {
  return (
    <main className="main narrow">
      <Empty title="There is nothing at this address">
        <p>It was deleted, or it never was, or it belongs to a workspace that you are not a member of.</p>
        <Button onClick={() => void router.navigate({ to: "/" })}>All projects</Button>
      </Empty>
    </main>
  );
}

/** Data that a page shows is here before the page is; who is not signed in is asked to, by the root. */
async function load(work: () => Promise<unknown>) {
  try {
    await ask(ViewerDocument, {}, false);
  } catch {
    return;
  }
  await work();
}

const root = createRootRoute({ component: Root, errorComponent: Failed, notFoundComponent: NotFound });

const home = createRoute({
  getParentRoute: () => root,
  path: "/",
  validateSearch: (search: Record<string, unknown>): { workspace?: string } => (typeof search.workspace === "string" ? { workspace: search.workspace } : {}),
  loaderDeps: ({ search }) => search,
  loader: ({ deps }) =>
    load(async () => {
      const { me } = await ask(ViewerDocument, {}, false);
      const workspace = me.workspaces.find((one) => one.id === deps.workspace) ?? me.workspaces[0];
      if (workspace) await ask(ProjectsDocument, { workspaceId: workspace.id });
    }),
  component: lazyRouteComponent(() => import("./pages/home"), "Home"),
});

const create = createRoute({ getParentRoute: () => root, path: "/new", validateSearch: (search: Record<string, unknown>): { workspace?: string } => (typeof search.workspace === "string" ? { workspace: search.workspace } : {}), component: lazyRouteComponent(() => import("./pages/create"), "Create") });

const project = createRoute({
  getParentRoute: () => root,
  path: "/p/$project",
  loader: ({ params }) => load(() => ask(ProjectDocument, { id: params.project })),
  component: Outlet,
});

async function firstEnvironment(id: string): Promise<string | undefined> {
  const { project: found } = await ask(ProjectDocument, { id }, false);
  const all = found.environments.edges.map((edge) => edge.node);
  return (all.find((one) => one.name === "production") ?? all[0])?.id;
}

const projectIndex = createRoute({
  getParentRoute: () => project,
  path: "/",
  loader: ({ params }) =>
    load(async () => {
      const env = await firstEnvironment(params.project);
      throw env ? redirect({ to: "/p/$project/$env", params: { project: params.project, env } }) : redirect({ to: "/p/$project/settings", params });
    }),
});

const projectSettings = createRoute({ getParentRoute: () => project, path: "settings", component: lazyRouteComponent(() => import("./pages/project-settings"), "ProjectSettings") });

const environment = createRoute({
  getParentRoute: () => project,
  path: "$env",
  component: lazyRouteComponent(() => import("./pages/environment"), "Environment"),
});

const canvas = createRoute({
  getParentRoute: () => environment,
  id: "canvas",
  loader: ({ params }) =>
    load(async () => {
      const variables = { projectId: params.project, environmentId: params.env };
      const { project: found } = await ask(ProjectDocument, { id: params.project }, false);
      // Lines decide where the cards stand. Whoever may not see them sees the cards all the same.
      const lines = found.viewerCanWrite ? ask(EnvironmentReferencesDocument, variables).catch(() => undefined) : undefined;
      await Promise.all([askWhole(CanvasDocument, variables), lines]);
    }),
  component: lazyRouteComponent(() => import("./pages/canvas"), "Canvas"),
});

const canvasIndex = createRoute({ getParentRoute: () => canvas, path: "/" });

const service = createRoute({
  getParentRoute: () => canvas,
  path: "s/$service",
  // Not waited for: what the canvas knows of it is shown at once.
  loader: ({ params }) => load(async () => void ask(ServiceDocument, { environmentId: params.env, serviceId: params.service }).catch(() => undefined)),
  component: lazyRouteComponent(() => import("./pages/service"), "ServicePanel"),
});

const serviceIndex = createRoute({
  getParentRoute: () => service,
  path: "/",
  component: () => {
    const params = serviceIndex.useParams();
    return <Navigate to="/p/$project/$env/s/$service/$tab" params={{ ...params, tab: "deployments" }} replace />;
  },
});

const text = (value: unknown): string | undefined => (typeof value === "string" && value ? value : undefined);

const filterSearch = (search: Record<string, unknown>): { filter?: string; range?: string } => {
  const [filter, range] = [text(search.filter), text(search.range)];
  return { ...(filter && { filter }), ...(range && { range }) };
};

const serviceSearch = (search: Record<string, unknown>): { filter?: string; range?: string; log?: "requests"; deployment?: string } => {
  const deployment = text(search.deployment);
  return { ...filterSearch(search), ...(search.log === "requests" ? { log: "requests" } : {}), ...(deployment && { deployment }) };
};

const serviceTab = createRoute({ getParentRoute: () => service, path: "$tab", validateSearch: serviceSearch, component: lazyRouteComponent(() => import("./pages/service"), "ServiceTab") });

const deployment = createRoute({
  getParentRoute: () => service,
  path: "deployments/$deployment",
  validateSearch: (search: Record<string, unknown>): { log?: "app" | "build" | "requests"; filter?: string } => ({ ...filterSearch(search), ...(search.log === "app" || search.log === "build" || search.log === "requests" ? { log: search.log } : {}) }),
  loader: ({ params }) => load(() => ask(DeploymentDocument, { id: params.deployment })),
  component: lazyRouteComponent(() => import("./pages/deployment"), "DeploymentPage"),
});

const logs = createRoute({
  getParentRoute: () => environment,
  path: "logs",
  validateSearch: filterSearch,
  loader: ({ params }) => load(() => askWhole(CanvasDocument, { projectId: params.project, environmentId: params.env }, false)),
  component: lazyRouteComponent(() => import("./pages/logs"), "Logs"),
});

const activity = createRoute({ getParentRoute: () => environment, path: "activity", component: lazyRouteComponent(() => import("./pages/activity"), "ActivityPage") });

const account = createRoute({ getParentRoute: () => root, path: "/account", validateSearch: (search: Record<string, unknown>): { account?: string } => { const account = text(search.account); return account ? { account } : {}; }, component: lazyRouteComponent(() => import("./pages/account"), "Account") });
const tokens = createRoute({ getParentRoute: () => root, path: "/account/tokens", component: lazyRouteComponent(() => import("./pages/tokens"), "Tokens") });

const members = createRoute({
  getParentRoute: () => root,
  path: "/w/$workspace/members",
  loader: ({ params }) => load(() => ask(MembersDocument, { workspaceId: params.workspace })),
  component: lazyRouteComponent(() => import("./pages/members"), "Members"),
});

const notifications = createRoute({ getParentRoute: () => root, path: "/w/$workspace/notifications", component: lazyRouteComponent(() => import("./pages/notifications"), "Notifications") });
const webhooks = createRoute({ getParentRoute: () => root, path: "/w/$workspace/webhooks", component: lazyRouteComponent(() => import("./pages/webhooks"), "Webhooks") });
const usage = createRoute({ getParentRoute: () => root, path: "/w/$workspace/usage", component: lazyRouteComponent(() => import("./pages/usage"), "WorkspaceUsage") });
const plan = createRoute({ getParentRoute: () => root, path: "/w/$workspace/plan", component: lazyRouteComponent(() => import("./pages/plan"), "PlanPage") });
const audit = createRoute({ getParentRoute: () => root, path: "/w/$workspace/audit", component: lazyRouteComponent(() => import("./pages/audit"), "Audit") });
const invite = createRoute({ getParentRoute: () => root, path: "/invite/$code", component: lazyRouteComponent(() => import("./pages/invite"), "Invite") });

const flow = createRoute({ getParentRoute: () => root, path: "/flow", component: lazyRouteComponent(() => import("./pages/flow"), "Flow") });
const workflow = createRoute({ getParentRoute: () => root, path: "/flow/$workflow", component: lazyRouteComponent(() => import("./pages/workflow"), "WorkflowEditor") });
const workflowRuns = createRoute({ getParentRoute: () => root, path: "/flow/$workflow/runs", component: lazyRouteComponent(() => import("./pages/workflow-runs"), "WorkflowRuns") });
const workflowRun = createRoute({ getParentRoute: () => root, path: "/flow/$workflow/runs/$run", component: lazyRouteComponent(() => import("./pages/workflow-run"), "WorkflowRun") });
const workflowStarts = createRoute({ getParentRoute: () => root, path: "/flow/$workflow/starts", component: lazyRouteComponent(() => import("./pages/workflow-starts"), "WorkflowStarts") });
const flowKeys = createRoute({ getParentRoute: () => root, path: "/flow/keys", component: lazyRouteComponent(() => import("./pages/flow-keys"), "FlowKeys") });
const operator = createRoute({ getParentRoute: () => root, path: "/operator", component: lazyRouteComponent(() => import("./pages/operator"), "Operator") });

/** Where the links of the command-line client lead. */
const cliProject = createRoute({
  getParentRoute: () => root,
  path: "/project/$project",
  validateSearch: (search: Record<string, unknown>): { environmentId?: string } => ({ environmentId: text(search.environmentId) }),
  loaderDeps: ({ search }) => search,
  loader: ({ params, deps }) => {
    throw deps.environmentId ? redirect({ to: "/p/$project/$env", params: { ...params, env: deps.environmentId } }) : redirect({ to: "/p/$project", params });
  },
});

const cliService = createRoute({
  getParentRoute: () => root,
  path: "/project/$project/service/$service",
  validateSearch: (search: Record<string, unknown>): { environmentId?: string; id?: string } => search,
  loaderDeps: ({ search }) => search,
  loader: ({ params, deps }) =>
    load(async () => {
      const env = deps.environmentId ?? (await firstEnvironment(params.project)) ?? "";
      const there = { project: params.project, service: params.service, env };
      throw deps.id ? redirect({ to: "/p/$project/$env/s/$service/deployments/$deployment", params: { ...there, deployment: deps.id } }) : redirect({ to: "/p/$project/$env/s/$service", params: there });
    }),
});

/** Where Galaxy's own addresses lead; those of an account's settings are the server's to answer. */
const galaxyApp = createRoute({
  getParentRoute: () => root,
  path: "/app/$host",
  loader: ({ params }) =>
    load(async () => {
      const { placeOf } = await import("./galaxy/apps");
      throw redirect({ to: "/p/$project/$env/s/$service", params: await placeOf(params.host) });
    }),
});

const tree = root.addChildren([
  home,
  create,
  project.addChildren([projectIndex, projectSettings, environment.addChildren([canvas.addChildren([canvasIndex, service.addChildren([serviceIndex, serviceTab, deployment])]), logs, activity])]),
  account,
  tokens,
  members,
  notifications,
  webhooks,
  usage,
  plan,
  audit,
  invite,
  flow,
  workflow,
  workflowRuns,
  workflowRun,
  workflowStarts,
  flowKeys,
  operator,
  cliProject,
  cliService,
  galaxyApp,
]);

export const router = createRouter({ routeTree: tree, defaultPreload: "intent", defaultPreloadStaleTime: 5000, defaultErrorComponent: Failed, defaultNotFoundComponent: NotFound, defaultPendingMs: 400, scrollRestoration: true });

// Tabs and the browser's history are told apart by what a page is about, and where that is.
router.subscribe("onRendered", () => {
  const words = [document.querySelector("h1"), document.querySelector(".crumb")].map((one) => one?.textContent?.trim()).filter(Boolean);
  document.title = [...new Set(words), "Orrery"].join(" · ");
});

declare module "@tanstack/react-router" {
  interface Register {
    router: typeof router;
  }
}
