import "@xyflow/react/dist/style.css";
import { useQuery } from "@apollo/client/react";
import { Link, Outlet, useParams } from "@tanstack/react-router";
import { Background, Controls, getViewportForBounds, Handle, Position, ReactFlow, ReactFlowProvider, useReactFlow, useStore, useStoreApi, type Edge, type Node, type NodeProps } from "@xyflow/react";
import { Box, Clock, Database, FolderUp, HardDrive, Plus } from "lucide-react";
import { memo, useEffect, useMemo, useRef, useState } from "react";
import { useNews } from "../api/news";
import { useWhole } from "../api/whole";
import { CanvasDocument, EnvironmentReferencesDocument, type CanvasQuery, type ServiceCardFragment } from "../gql";
import { Button, Command, Empty, ErrorBox } from "../ui/basic";
import { DropArea, FolderButton } from "../ui/deploy-folder";
import { place, references, type Placed } from "../ui/layout";
import { DeploymentState } from "../ui/state";
import { Ago, megabytes } from "../ui/time";
import { AddService } from "./add-service";
import { useProject } from "./environment";
import { IdleVolume, type Volume } from "./idle-volume";
import { StagedBar } from "./staged";

type Card = ServiceCardFragment & { volume?: string };

const made = new WeakMap<ServiceCardFragment, Card>();

/** The same objects for services that are as they were: of hundreds of cards, those that have changed are drawn again. */
function cardsOf(data: CanvasQuery | undefined): Card[] {
  const volumes = new Map(data?.environment.volumeInstances.edges.map(({ node }) => [node.serviceId, `${node.mountPath}, ${megabytes(node.currentSizeMB)} of ${megabytes(node.sizeMB)}`]));
  return (data?.environment.serviceInstances.edges ?? []).map(({ node }) => {
    const volume = volumes.get(node.serviceId);
    const before = made.get(node);
    const card = before && before.volume === volume ? before : { ...node, volume };
    made.set(node, card);
    return card;
  });
}

/** Volumes that no service has stand on the canvas by themselves. */
function idleOf(data: CanvasQuery | undefined): Volume[] {
  return (data?.environment.volumeInstances.edges ?? []).map((edge) => edge.node).filter((one) => one.serviceId === null && !one.isPendingDeletion);
}

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
  const project = useProject();
  const variables = { projectId, environmentId: env };
  const { data, error, again } = useWhole(CanvasDocument, variables);
  useNews(project.workspaceId, again);
  const config = useQuery(EnvironmentReferencesDocument, { variables, skip: !project.viewerCanWrite, errorPolicy: "ignore" }).data?.environment.config as unknown;
  const narrow = useNarrow();
  const [adding, setAdding] = useState(false);

  const cards = useMemo(() => cardsOf(data), [data]);
  const idle = useMemo(() => idleOf(data), [data]);
  const [volume, setVolume] = useState<string | null>(null);
  const isEmpty = cards.length + idle.length === 0;
  const named = JSON.stringify(cards.map((card) => [card.serviceId, card.serviceName]));
  const names = useMemo(() => new Map(JSON.parse(named) as [string, string][]), [named]);
  // Another value of a variable is no other line.
  const linked = useMemo(() => JSON.stringify(references(config, names)), [config, names]);
  const links = useMemo(() => JSON.parse(linked) as [string, string][], [linked]);
  useEffect(() => {
    // What a click opens is here before it.
    const id = setTimeout(() => void import("./service"), 500);
    return () => clearTimeout(id);
  }, []);

  if (error && !data) {
    return (
      <main className="main narrow">
        <ErrorBox error={error} retry={() => void again()} />
      </main>
    );
  }
  return (
    <DropArea place={{ project: projectId, env }} enabled={project.viewerCanWrite} hint="Drop to deploy it as a new service" className="stage">
      <div className="canvas">
        {project.viewerCanWrite && !isEmpty && (
          <div className="canvas-actions">
            <Button onClick={() => setAdding(true)}>
              <Plus size={14} /> Add
            </Button>
          </div>
        )}
        {data && isEmpty ? (
          <Nothing add={() => setAdding(true)} env={env} />
        ) : narrow ? (
          <nav className="cards" aria-label="Services" style={{ paddingTop: 64 }}>
            {cards.map((card) => (
              <CardLink key={card.id} card={card} />
            ))}
            {idle.map((one) => (
              <VolumeButton key={one.id} of={one} open={setVolume} />
            ))}
          </nav>
        ) : (
          <ReactFlowProvider>
            <Graph cards={cards} idle={idle} links={links} open={setVolume} />
          </ReactFlowProvider>
        )}
      </div>
      <StagedBar project={projectId} env={env} count={data?.environment.unmergedChangesCount ?? 0} names={Object.fromEntries(names)} />
      <Outlet />
      <IdleVolume of={idle.find((one) => one.id === volume)} env={env} services={cards.filter((card) => !card.volume).map((card) => [card.serviceId, card.serviceName])} onClose={() => setVolume(null)} />
      <AddService open={adding} onClose={() => setAdding(false)} project={projectId} env={env} />
    </DropArea>
  );
}

const nodeTypes = { card: CardNode, volume: VolumeNode };
const fit = { padding: 0.2, maxZoom: 1 };
const hidden = { hideAttribution: true };
const SIZE = { width: 232, height: 92 };
/** Any smaller, and the middles of two cards would be less than 24 pixels apart. */
const SMALLEST = 0.195;

type CardOnCanvas = Node<{ card: Card }, "card">;
type VolumeOnCanvas = Node<{ of: Volume; open: (id: string) => void }, "volume">;

const Graph = memo(function Graph({ cards, idle, links, open }: { cards: Card[]; idle: Volume[]; links: [string, string][]; open: (id: string) => void }) {
  const ids = [...cards.map((card) => card.serviceId), ...idle.map((one) => one.id)].join(" ");
  const positions = useMemo(() => place(ids.split(" ").filter(Boolean), links, Math.max(2, Math.ceil(Math.sqrt(ids.split(" ").length * 1.2)))), [ids, links]);
  const before = useRef(new Map<string, CardOnCanvas>());
  const nodes = useMemo(() => {
    const all = cards.map((card): CardOnCanvas => {
      const position = positions.get(card.serviceId) ?? { x: 0, y: 0 };
      const old = before.current.get(card.serviceId);
      return old && old.data.card === card && old.position === position ? old : { id: card.serviceId, type: "card", position, data: { card }, focusable: false, ...SIZE };
    });
    before.current = new Map(all.map((node) => [node.id, node]));
    const volumes = idle.map((of): VolumeOnCanvas => ({ id: of.id, type: "volume", position: positions.get(of.id) ?? { x: 0, y: 0 }, data: { of, open }, focusable: false, ...SIZE }));
    return [...all, ...volumes];
  }, [cards, idle, positions, open]);
  const edges = useMemo<Edge[]>(() => links.map(([from, to]) => ({ id: `${from} ${to}`, source: from, target: to, focusable: false, selectable: false, style: { strokeWidth: 1.5 } })), [links]);
  return (
    <ReactFlow nodes={nodes} edges={edges} nodeTypes={nodeTypes} fitView fitViewOptions={fit} minZoom={SMALLEST} maxZoom={1.5} nodesConnectable={false} nodesDraggable={false} onlyRenderVisibleElements={cards.length > 60} proOptions={hidden} deleteKeyCode={null} panOnScroll>
      <Background gap={24} size={1} color="var(--line)" />
      <Controls showInteractive={false} position="bottom-left" />
      <InSight positions={positions} />
    </ReactFlow>
  );
});

/**
 * Shows all services when they stand elsewhere than before, and moves the open one out from under the panel. The scale stays what it was:
 * coming nearer to one card would take the others away, and closing the panel would have to draw them all again.
 */
function InSight({ positions }: { positions: Map<string, Placed> }) {
  const selected = useParams({ strict: false, select: (params) => (params as { service?: string }).service });
  const flow = useReactFlow();
  const store = useStoreApi();
  // Before that, the graph itself is about to show everything.
  const isReady = useStore((state) => state.width > 0 && !state.fitViewQueued);
  const shown = useRef(positions);
  useEffect(() => {
    if (!isReady || positions.size === 0) return;
    const id = setTimeout(() => {
      const { width, height, domNode, transform } = store.getState();
      let [x, y, zoom] = transform;
      if (shown.current !== positions) {
        shown.current = positions;
        ({ x, y, zoom } = getViewportForBounds(flow.getNodesBounds(flow.getNodes()), width, height, SMALLEST, fit.maxZoom, fit.padding));
      }
      const at = selected && positions.get(selected);
      if (at) {
        const panel = domNode?.closest(".stage")?.querySelector<HTMLElement>(".panel");
        const free = panel?.offsetLeft ?? width;
        const [left, top] = [at.x * zoom + x, at.y * zoom + y];
        if (left < 8 || left + SIZE.width * zoom > free - 8) x = free / 2 - (at.x + SIZE.width / 2) * zoom;
        if (top < 8 || top + SIZE.height * zoom > height - 8) y = height / 2 - (at.y + SIZE.height / 2) * zoom;
      }
      if (x === transform[0] && y === transform[1] && zoom === transform[2]) return;
      void flow.setViewport({ x, y, zoom }, { duration: matchMedia("(prefers-reduced-motion: reduce)").matches ? 0 : 160, interpolate: "linear" });
    }, 30);
    return () => clearTimeout(id);
  }, [positions, selected, isReady, flow, store]);
  return null;
}

function CardNode({ data }: NodeProps<CardOnCanvas>) {
  return (
    <>
      <Handle type="target" position={Position.Left} isConnectable={false} />
      <CardLink card={data.card} />
      <Handle type="source" position={Position.Right} isConnectable={false} />
    </>
  );
}

function VolumeNode({ data }: NodeProps<VolumeOnCanvas>) {
  return <VolumeButton of={data.of} open={data.open} />;
}

function VolumeButton({ of, open }: { of: Volume; open: (id: string) => void }) {
  return (
    <button type="button" className="node nopan" onClick={() => open(of.id)}>
      <span className="stack" style={{ gap: 2, minWidth: 0 }}>
        <span className="row">
          <HardDrive size={14} className="quiet" />
          <span className="name cut">{of.volume.name}</span>
        </span>
        <span className="where cut">
          {of.mountPath}, {megabytes(of.currentSizeMB)} of {megabytes(of.sizeMB)}
        </span>
      </span>
      <span className="small quiet">No service has it</span>
    </button>
  );
}

const CardLink = memo(function CardLink({ card }: { card: Card }) {
  const { project, env } = useParams({ from: "/p/$project/$env/canvas" });
  const selected = useParams({ strict: false, select: (params) => (params as { service?: string }).service === card.serviceId });
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
});

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
