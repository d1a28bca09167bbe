import "@xyflow/react/dist/style.css";
import { useQuery } from "@apollo/client/react";
import { Link, Outlet, useNavigate, useParams } from "@tanstack/react-router";
import { Background, Controls, Handle, Position, ReactFlow, ReactFlowProvider, useReactFlow, type Edge, type Node, type NodeProps } from "@xyflow/react";
import { Box, Clock, Database, FolderUp, Globe, Plus } from "lucide-react";
import { useEffect, useMemo, useState } from "react";
import { change } from "../api/client";
import { CanvasDocument, EnvironmentReferencesDocument, ServiceCreateDocument, type ServiceCardFragment } from "../gql";
import { Act, Button, Command, Dialog, Empty, ErrorBox, Field } from "../ui/basic";
import { DropArea, FolderButton, nameFor } from "../ui/deploy-folder";
import { place, references } from "../ui/layout";
import { DeploymentState } from "../ui/state";
import { Ago, megabytes } from "../ui/time";
import { useProject } from "./environment";
import { StagedBar } from "./staged";
import { Templates } from "./templates";

type Card = ServiceCardFragment & { volume?: string };

export function useNarrow(): boolean {
  const [narrow, set] = useState(() => matchMedia("(max-width: 760px)").matches);
  useEffect(() => {
    const query = matchMedia("(max-width: 760px)");
    const look = () => set(query.matches);
    query.addEventListener("change", look);
    return () => query.removeEventListener("change", look);
  }, []);
  return narrow;
}

export function Canvas() {
  const { project: projectId, env } = useParams({ from: "/p/$project/$env/canvas" });
  const { service } = useParams({ strict: false }) as { service?: string };
  const project = useProject();
  const variables = { projectId, environmentId: env };
  const { data, error, refetch } = useQuery(CanvasDocument, { variables, pollInterval: 3000, skipPollAttempt: () => document.hidden });
  const config = useQuery(EnvironmentReferencesDocument, { variables, skip: !project.viewerCanWrite, errorPolicy: "ignore" }).data?.environment.config as unknown;
  const narrow = useNarrow();
  const [adding, setAdding] = useState(false);

  const cards = useMemo<Card[]>(() => {
    const volumes = data?.environment.volumeInstances.edges.map((edge) => edge.node) ?? [];
    return (data?.environment.serviceInstances.edges ?? []).map(({ node }) => {
      const volume = volumes.find((one) => one.serviceId === node.serviceId);
      return { ...node, volume: volume && `${volume.mountPath}, ${megabytes(volume.currentSizeMB)} of ${megabytes(volume.sizeMB)}` };
    });
  }, [data]);
  const names = useMemo(() => Object.fromEntries(cards.map((card) => [card.serviceId, card.serviceName])), [cards]);
  const links = useMemo(() => references(config, new Map(cards.map((card) => [card.serviceId, card.serviceName]))), [config, cards]);

  if (error && !data) {
    return (
      <main className="main narrow">
        <ErrorBox error={error} retry={() => void refetch()} />
      </main>
    );
  }
  return (
    <DropArea place={{ project: projectId, env }} enabled={project.viewerCanWrite} hint="Drop to deploy it as a new service" className="stage">
      <div className="canvas">
        {project.viewerCanWrite && cards.length > 0 && (
          <div className="canvas-actions">
            <Button onClick={() => setAdding(true)}>
              <Plus size={14} /> Add
            </Button>
          </div>
        )}
        {data && cards.length === 0 ? (
          <Nothing add={() => setAdding(true)} env={env} />
        ) : narrow ? (
          <nav className="cards" aria-label="Services" style={{ paddingTop: 64 }}>
            {cards.map((card) => (
              <CardLink key={card.id} card={card} selected={card.serviceId === service} />
            ))}
          </nav>
        ) : (
          <ReactFlowProvider>
            <Graph cards={cards} links={links} selected={service} />
          </ReactFlowProvider>
        )}
      </div>
      <StagedBar project={projectId} env={env} count={data?.environment.unmergedChangesCount ?? 0} names={names} />
      <Outlet />
      <AddService open={adding} onClose={() => setAdding(false)} env={env} />
    </DropArea>
  );
}

const nodeTypes = { card: CardNode };

function Graph({ cards, links, selected }: { cards: Card[]; links: [string, string][]; selected?: string }) {
  const flow = useReactFlow();
  const ids = cards.map((card) => card.serviceId).join(" ");
  const positions = useMemo(() => place(ids.split(" ").filter(Boolean), links, Math.max(2, Math.ceil(Math.sqrt(ids.split(" ").length * 1.2)))), [ids, links]);
  // The same objects as long as nothing has changed: hundreds of cards are not drawn again because one is opened.
  const nodes = useMemo<Node[]>(() => cards.map((card) => ({ id: card.serviceId, type: "card", position: positions.get(card.serviceId) ?? { x: 0, y: 0 }, data: { card }, draggable: true, focusable: false, width: 232, height: 92 })), [cards, positions]);
  const edges = useMemo<Edge[]>(() => links.map(([from, to]) => ({ id: `${from} ${to}`, source: from, target: to, focusable: false, selectable: false, style: { strokeWidth: 1.5 } })), [links]);
  const open = Boolean(selected);
  useEffect(() => {
    // The panel has taken a part of the canvas, or has given it back.
    const id = setTimeout(() => {
      void flow.fitView({ padding: 0.2, maxZoom: 1, duration: matchMedia("(prefers-reduced-motion: reduce)").matches ? 0 : 160, nodes: selected ? [{ id: selected }] : undefined });
    }, 30);
    return () => clearTimeout(id);
  }, [open, selected, flow, ids]);
  return (
    <ReactFlow nodes={nodes} edges={edges} nodeTypes={nodeTypes} fitView fitViewOptions={{ padding: 0.2, maxZoom: 1 }} minZoom={0.1} maxZoom={1.5} nodesConnectable={false} onlyRenderVisibleElements={cards.length > 60} proOptions={{ hideAttribution: true }} deleteKeyCode={null} panOnScroll>
      <Background gap={24} size={1} color="var(--line)" />
      <Controls showInteractive={false} position="bottom-left" />
    </ReactFlow>
  );
}

function CardNode({ data }: NodeProps) {
  const { card } = data as { card: Card };
  const selected = useParams({ strict: false, select: (params) => (params as { service?: string }).service === card.serviceId }) === true;
  return (
    <>
      <Handle type="target" position={Position.Left} isConnectable={false} />
      <CardLink card={card} selected={selected} />
      <Handle type="source" position={Position.Right} isConnectable={false} />
    </>
  );
}

function CardLink({ card, selected }: { card: Card; selected: boolean }) {
  const { project, env } = useParams({ from: "/p/$project/$env/canvas" });
  const latest = card.latestDeployment;
  const active = card.activeDeployments[0];
  const running = active?.instances.filter((one) => one.status === "RUNNING").length ?? 0;
  const wanted = card.numReplicas ?? 1;
  const domain = card.domains.customDomains[0]?.domain ?? card.domains.serviceDomains[0]?.domain;
  return (
    <Link to="/p/$project/$env/s/$service/$tab" params={{ project, env, service: card.serviceId, tab: "deployments" }} className="node nopan" data-selected={selected} draggable={false}>
      <span className="stack" style={{ gap: 2, minWidth: 0 }}>
        <span className="row">
          {card.volume ? <Database size={14} className="quiet" /> : card.cronSchedule ? <Clock size={14} className="quiet" /> : <Box size={14} className="quiet" />}
          <span className="name cut">{card.serviceName}</span>
        </span>
        <span className="where cut">{card.volume ?? domain ?? card.cronSchedule ?? card.source?.image ?? "No address"}</span>
      </span>
      <span className="row between small quiet">
        <DeploymentState status={latest?.status} stopped={latest?.deploymentStopped} />
        {active && latest?.id === active.id ? (
          <span className="numbers">
            {running} of {wanted}
          </span>
        ) : (
          latest && <Ago at={latest.createdAt} />
        )}
      </span>
    </Link>
  );
}

function Nothing({ add, env }: { add: () => void; env: string }) {
  const project = useProject();
  return (
    <Empty title="This environment is empty">
      {project.viewerCanWrite ? (
        <>
          <p>Drop a folder here to deploy it as a service.</p>
          <span className="row">
            <FolderButton place={{ project: project.id, env }} kind="primary">
              <FolderUp size={14} /> Choose a folder
            </FolderButton>
            <Button onClick={add}>
              <Plus size={14} /> Add something else
            </Button>
          </span>
          <p className="quiet">or from a terminal:</p>
          <Command>{`orrery railway -- link --project ${project.id} && orrery railway -- up`}</Command>
        </>
      ) : (
        <p>Services appear here once somebody has deployed one.</p>
      )}
    </Empty>
  );
}

function AddService({ open, onClose, env }: { open: boolean; onClose: () => void; env: string }) {
  const project = useProject();
  const navigate = useNavigate();
  const [name, setName] = useState("");
  return (
    <Dialog title="Add to this environment" open={open} onClose={onClose} className="wide">
      <div className="section">
        <FolderButton place={{ project: project.id, env }}>
          <FolderUp size={14} /> Deploy a folder
        </FolderButton>
        <p className="small quiet">You can also drop a folder on the canvas at any time.</p>
        <hr style={{ width: "100%", border: 0, borderTop: "1px solid var(--line)" }} />
        {open && <Templates env={env} done={onClose} />}
        <hr style={{ width: "100%", border: 0, borderTop: "1px solid var(--line)" }} />
        <Field label="An empty service" hint="Deploy to it later, from a folder or the command line">
          <input className="input" value={name} onChange={(event) => setName(event.target.value)} placeholder="worker" />
        </Field>
      </div>
      <footer>
        <Act
          kind="primary"
          disabled={!name.trim()}
          act={async () => {
            const made = await change(ServiceCreateDocument, { input: { projectId: project.id, environmentId: env, name: nameFor(name) } });
            onClose();
            setName("");
            await navigate({ to: "/p/$project/$env/s/$service", params: { project: project.id, env, service: made.serviceCreate.id } });
          }}
        >
          <Globe size={14} /> Make the service
        </Act>
      </footer>
    </Dialog>
  );
}
