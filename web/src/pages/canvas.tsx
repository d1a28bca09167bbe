import "@xyflow/react/dist/style.css";
import { useQuery } from "@apollo/client/react";
import { Outlet, useParams } from "@tanstack/react-router";
import { ReactFlowProvider } from "@xyflow/react";
import { FolderUp, Plus } from "lucide-react";
import { useEffect, useMemo, useState } from "react";
import { useNews } from "../api/news";
import { useWhole } from "../api/whole";
import { CanvasDocument, EnvironmentReferencesDocument, type CanvasQuery, type ServiceCardFragment } from "../gql";
import { Button, Command, Empty, ErrorBox } from "../ui/basic";
import { DropArea, FolderButton } from "../ui/deploy-folder";
import { references } from "../ui/layout";
import { megabytes } from "../ui/time";
import { AddService } from "./add-service";
import { CanvasGraph } from "./canvas-graph";
import { useProject } from "./environment";
import { IdleVolume, VolumeButton, type Volume } from "./idle-volume";
import { CardLink, Cards, type Card } from "./service-card";
import { StagedBar } from "./staged";

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
      <Cards project={projectId} env={env}>
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
            <CanvasGraph key={env} cards={cards} idle={idle} links={links} open={setVolume} />
          </ReactFlowProvider>
        )}
      </Cards>
      <StagedBar project={projectId} env={env} count={data?.environment.unmergedChangesCount ?? 0} names={Object.fromEntries(names)} />
      <Outlet />
      <IdleVolume of={idle.find((one) => one.id === volume)} env={env} services={cards.filter((card) => !card.volume).map((card) => [card.serviceId, card.serviceName])} onClose={() => setVolume(null)} />
      <AddService open={adding} onClose={() => setAdding(false)} project={projectId} env={env} />
    </DropArea>
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
