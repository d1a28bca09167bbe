import { useQuery } from "@apollo/client/react";
import { Link, Outlet, useNavigate, useParams, useSearch } from "@tanstack/react-router";
import { ExternalLink, FolderUp, MoreHorizontal, X } from "lucide-react";
import { createContext, use, useCallback, useDeferredValue, useEffect, useRef, useState } from "react";
import { change } from "../api/client";
import { useNews } from "../api/news";
import { useWhole } from "../api/whole";
import { CanvasDocument, DeploymentRedeployDocument, DeploymentRestartDocument, ServiceDocument, ServiceInstanceDeployDocument, type ServiceCardFragment, type ServiceQuery } from "../gql";
import { afterPaint } from "../ui/after-paint";
import { copyText, Empty, ErrorBox } from "../ui/basic";
import { FolderButton } from "../ui/deploy-folder";
import { Item, Menu } from "../ui/menu";
import { rangeOf } from "../ui/ranges";
import { addressOf, DeploymentState } from "../ui/state";
import { tell } from "../ui/toast";
import { Containers } from "./containers";
import { Deployments } from "./deployments";
import { Domains } from "./domains";
import { useProject } from "./environment";
import { Metrics } from "./metrics";
import { ServiceLogs } from "./logs";
import { focusCard, takeByKey } from "./service-card";
import { ServiceSettings } from "./service-settings";
import { Storage } from "./storage";
import { Triggers } from "./triggers";
import { Variables } from "./variables";

export type Instance = ServiceQuery["serviceInstance"];

const InstanceContext = createContext<Instance | null>(null);

export function useInstance(): Instance {
  const instance = use(InstanceContext);
  if (!instance) throw new Error("only shown within a service");
  return instance;
}

const tabs = ["deployments", "logs", "metrics", "variables", "containers", "triggers", "storage", "domains", "settings"] as const;

/** What shows a range of time, and goes on with the one that was chosen in another. */
const timed = new Set<string>(["logs", "metrics"]);

export function ServicePanel() {
  const params = useParams({ from: "/p/$project/$env/canvas/s/$service" });
  const range = useSearch({ strict: false, select: (search) => rangeOf((search as { range?: string }).range) });
  const project = useProject();
  const navigate = useNavigate();
  const { data, error, refetch } = useQuery(ServiceDocument, { variables: { environmentId: params.env, serviceId: params.service } });
  useNews(project.workspaceId, refetch);
  const [left, leave] = useState<string>();
  const close = useCallback(() => {
    leave(params.service);
    afterPaint(() => void navigate({ to: "/p/$project/$env", params: { project: params.project, env: params.env } }));
  }, [navigate, params.project, params.env, params.service]);

  useEffect(() => {
    const pressed = (event: KeyboardEvent) => {
      if (event.key === "Escape" && !document.querySelector("dialog[open], [role=menu]") && !(event.target as HTMLElement).matches("input, textarea, select")) {
        close();
      }
    };
    addEventListener("keydown", pressed);
    return () => removeEventListener("keydown", pressed);
  }, [close]);

  // The canvas knows the head of the panel before the service itself is here.
  const card = useWhole(CanvasDocument, { projectId: params.project, environmentId: params.env }).data?.environment.serviceInstances.edges.find(({ node }) => node.serviceId === params.service)?.node;
  const known: ServiceCardFragment | undefined = data?.serviceInstance ?? card;
  const heading = useRef<HTMLHeadingElement>(null);
  const isHere = known !== undefined;
  useEffect(() => {
    if (isHere && takeByKey(params.service)) heading.current?.focus({ preventScroll: true });
  }, [isHere, params.service]);
  const shown = useRef(params.service);
  shown.current = params.service;
  useEffect(() => () => focusCard(shown.current), []);
  // The head is drawn before what it stands over.
  const whole = useDeferredValue(true, false);
  const waiting = <div className="panel-body">{error && <ErrorBox error={error} retry={() => void refetch()} />}</div>;
  if (!known) {
    return (
      <aside className="panel" aria-label="Service">
        {waiting}
      </aside>
    );
  }
  const service = { id: params.service, name: data?.service.name ?? known.serviceName };
  const address = addressOf(known);
  const latest = known.latestDeployment;
  const active = known.activeDeployments[0];
  return (
    <InstanceContext value={data?.serviceInstance ?? null}>
      <aside className="panel" aria-label={`Service ${service.name}`} hidden={left === params.service}>
        <div className="panel-head">
          <div className="row">
            <h1 ref={heading} className="cut" tabIndex={-1}>
              {service.name}
            </h1>
            <DeploymentState status={latest?.status} stopped={latest?.deploymentStopped} />
            <span className="grow" />
            {whole && address && (
              <a className="button" data-size="small" href={address} target="_blank" rel="noreferrer">
                Open <ExternalLink size={12} />
              </a>
            )}
            {whole && project.viewerCanDeploy && (
              <FolderButton size="small" place={{ project: params.project, env: params.env, service }}>
                <FolderUp size={12} /> Deploy
              </FolderButton>
            )}
            {whole && (
              <Menu
                align="end"
                trigger={
                  <button type="button" className="icon-button" aria-label="More">
                    <MoreHorizontal size={16} />
                  </button>
                }
              >
                {project.viewerCanDeploy && latest && (
                  <Item
                    onSelect={() => {
                      const again = latest.canRedeploy ? change(DeploymentRedeployDocument, { id: latest.id }) : change(ServiceInstanceDeployDocument, { environmentId: params.env, serviceId: service.id });
                      void Promise.resolve(again).then(() => tell("Deploying the same source again"), tell.problem);
                    }}
                  >
                    Deploy the same source again
                  </Item>
                )}
                {project.viewerCanDeploy && active && <Item onSelect={() => void change(DeploymentRestartDocument, { id: active.id }).then(() => tell("Restarting, one copy after the other"), tell.problem)}>Restart</Item>}
                <Item onSelect={() => void copyText(service.id).then(() => tell("Copied the service id"))}>Copy the service id</Item>
              </Menu>
            )}
            <button type="button" className="icon-button" aria-label="Close the panel" onClick={close}>
              <X size={16} />
            </button>
          </div>
          <nav className="tabs" aria-label="Service">
            {tabs.map((tab) => (
              <Link key={tab} to="/p/$project/$env/s/$service/$tab" params={{ ...params, tab }} search={timed.has(tab) ? { range } : {}} className="tab" activeOptions={{ includeSearch: false }}>
                {tab[0].toUpperCase() + tab.slice(1)}
              </Link>
            ))}
          </nav>
        </div>
        {data && whole ? <Outlet /> : waiting}
      </aside>
    </InstanceContext>
  );
}

export function ServiceTab() {
  const { tab } = useParams({ from: "/p/$project/$env/canvas/s/$service/$tab" });
  switch (tab) {
    case "deployments":
      return <Deployments />;
    case "logs":
      return <ServiceLogs />;
    case "metrics":
      return <Metrics />;
    case "variables":
      return <Variables />;
    case "containers":
      return <Containers />;
    case "triggers":
      return <Triggers />;
    case "storage":
      return <Storage />;
    case "domains":
      return <Domains />;
    case "settings":
      return <ServiceSettings />;
    default:
      return <Empty title="There is nothing at this address" />;
  }
}
