import { useQuery } from "@apollo/client/react";
import { Link, useParams } from "@tanstack/react-router";
import { useEffect, useMemo, useState } from "react";
import { change } from "../api/client";
import { useNews } from "../api/news";
import { ContainerKillDocument, ContainerMetricsDocument, ContainersDocument, type ContainerMetricsQuery, type ContainersQuery } from "../gql";
import { Button, Command, Confirm, Empty, ErrorBox } from "../ui/basic";
import { Chart, useInWindow } from "../ui/chart";
import { bytes, lastOf, momentsOf, onto, short, type Sample, type Window } from "../ui/series";
import { State, type Tone } from "../ui/state";
import { Ago } from "../ui/time";
import { useProject } from "./environment";
import { useInstance } from "./service";

type Container = ContainersQuery["containers"][number];

const words: Record<string, [Tone, string]> = {
  CREATED: ["waiting", "Planned"],
  INITIALIZING: ["busy", "Starting"],
  RUNNING: ["healthy", "Running"],
  RESTARTING: ["busy", "Restarting"],
  REMOVING: ["busy", "Stopping"],
};

const LENGTH = 900;
const STEP = 5;
const GB = 1024 ** 3;
const end = () => Math.floor(Date.now() / 1000 / STEP) * STEP;

/** The last quarter of an hour, moving on with every sample. */
function useLately(): Window {
  const [to, set] = useState(end);
  useEffect(() => {
    const id = setInterval(() => !document.hidden && set(end()), STEP * 1000);
    return () => clearInterval(id);
  }, []);
  return useMemo(() => ({ from: to - LENGTH, to, step: STEP }), [to]);
}

/** The running copies of a service, each with what it uses. */
export function Containers() {
  const { env, service } = useParams({ from: "/p/$project/$env/canvas/s/$service/$tab" });
  const { viewerCanDeploy, workspaceId } = useProject();
  const { serviceName, nextCronRunAt } = useInstance();
  const place = { environmentId: env, serviceId: service };
  const { data, error, refetch } = useQuery(ContainersDocument, { variables: place, fetchPolicy: "cache-and-network" });
  useNews(workspaceId, refetch);
  const window = useLately();
  const asked = useQuery(ContainerMetricsDocument, { variables: { ...place, startDate: new Date(window.from * 1000).toISOString(), endDate: new Date(window.to * 1000).toISOString(), step: STEP }, fetchPolicy: "no-cache" });
  const measured = useInWindow(asked.data, window);
  const [open, setOpen] = useState<string | null>(null);
  if (!data) return <div className="panel-body">{error && <ErrorBox error={error} retry={() => void refetch()} />}</div>;
  if (data.containers.length === 0) {
    return (
      <div className="panel-body">
        <Empty title="No container runs">
          <p>{nextCronRunAt ? "The service runs by its schedule: its container is here while it does." : "Each replica of the service is a container. They appear here once something is deployed."}</p>
          {viewerCanDeploy && !nextCronRunAt && <Command>{`orrery railway -- up --service ${serviceName}`}</Command>}
        </Empty>
      </div>
    );
  }
  return (
    <div className="panel-body">
      <ul className="sheet list" aria-label="Containers">
        {data.containers.map((container) => (
          <Row key={container.id} of={container} metrics={measured?.data} window={measured?.window ?? window} open={open === container.id} onOpen={() => setOpen(open === container.id ? null : container.id)} alone={data.containers.length === 1} />
        ))}
      </ul>
    </div>
  );
}

function Row({ of, metrics, window, open, onOpen, alone }: { of: Container; metrics: ContainerMetricsQuery | undefined; window: Window; open: boolean; onOpen: () => void; alone: boolean }) {
  const params = useParams({ from: "/p/$project/$env/canvas/s/$service/$tab" });
  const { viewerCanDeploy, viewerCanWrite } = useProject();
  const [asking, setAsking] = useState(false);
  const used = useMemo(() => usedBy(of.id, metrics), [of.id, metrics]);
  const silent = of.status === "RUNNING" ? of.unhealthySince : null;
  const [tone, word] = silent ? (["failed", "Unhealthy"] as const) : (words[of.status] ?? (["off", of.status.toLowerCase()] as const));
  return (
    <li style={{ flexWrap: "wrap" }}>
      <span className="grow stack" style={{ gap: 0, minWidth: 160 }}>
        <span className="row">
          <strong className="numbers">Container {of.index + 1}</strong>
          <State tone={tone}>{word}</State>
        </span>
        <small className="quiet cut">
          <code>{of.id.slice(-8)}</code>, {silent ? "does not answer since" : "since"} <Ago at={silent ?? of.updatedAt} />
          {of.restarts > 0 && `, restarted ${of.restarts === 1 ? "once" : `${of.restarts} times`}`}
          {of.reason && `: ${of.reason}`}
        </small>
      </span>
      <span className="numbers small second" style={{ width: 190, textAlign: "right" }}>
        {used ? `${short(used.cpu)} vCPU, ${bytes(used.memory)}` : "Not measured yet"}
      </span>
      <span className="row">
        <Button size="small" aria-expanded={open} onClick={onOpen}>
          Charts
        </Button>
        <Link className="button" data-size="small" to="/p/$project/$env/s/$service/$tab" params={{ ...params, tab: "logs" }} search={{ filter: `@replica:${of.id}` }}>
          Log
        </Link>
        {viewerCanWrite && of.status === "RUNNING" && (
          <a className="button" data-size="small" href={`/shell/${of.id}?of=${encodeURIComponent(`container ${of.index + 1}`)}`} target="_blank" rel="noreferrer">
            Open shell
          </a>
        )}
        {viewerCanDeploy && (
          <Button size="small" kind="danger" disabled={of.status === "REMOVING"} onClick={() => setAsking(true)}>
            Kill
          </Button>
        )}
      </span>
      {open && (
        <div className="stack" style={{ flexBasis: "100%" }}>
          {used ? <Usage name={`container ${of.index + 1}`} used={used} window={window} /> : <p className="quiet small">The first samples come within seconds.</p>}
        </div>
      )}
      <Confirm
        title={`Kill container ${of.index + 1}?`}
        what={alone ? "It is the only one: the service does not answer until the fresh one is healthy." : "The others take its requests until a fresh one is healthy."}
        verb="Kill the container"
        done="A fresh container takes its place"
        act={() => change(ContainerKillDocument, { environmentId: params.env, serviceId: params.service, id: of.id })}
        open={asking}
        onClose={() => setAsking(false)}
      />
    </li>
  );
}

interface Used {
  cpu: number;
  memory: number;
  cpus: Sample[];
  memories: Sample[];
  cpuLimit: number | null;
  memoryLimit: number | null;
}

function usedBy(id: string, metrics: ContainerMetricsQuery | undefined): Used | null {
  const of = (measurement: string) => metrics?.metrics.find((one) => one.measurement === measurement && one.tags.deploymentInstanceId === id)?.values ?? [];
  const [cpus, memories] = [of("CPU_USAGE"), of("MEMORY_USAGE_GB").map(({ ts, value }) => ({ ts, value: value * GB }))];
  const cpu = cpus.at(-1);
  if (!cpu) return null;
  const memoryLimit = of("MEMORY_LIMIT_GB").at(-1)?.value ?? null;
  return { cpu: cpu.value, memory: memories.at(-1)?.value ?? 0, cpus, memories, cpuLimit: of("CPU_LIMIT").at(-1)?.value ?? null, memoryLimit: memoryLimit && memoryLimit * GB };
}

function Usage({ name, used, window }: { name: string; used: Used; window: Window }) {
  const charts = useMemo(() => {
    const moments = momentsOf(window, used.cpus);
    const cpu = onto(moments, used.cpus, null);
    const memory = onto(moments, used.memories, null);
    const said = (value: number | null, limit: number | null, format: (value: number) => string) => (value === null ? "Not running" : limit ? `${format(value)} of ${format(limit)}` : format(value));
    return [
      { title: `Processor of ${name}`, now: `${said(lastOf(cpu), used.cpuLimit, short)} vCPU`, least: 0.1, moments, lines: [{ label: "Used", colour: "--accent", values: cpu }], format: short },
      { title: `Memory of ${name}`, now: said(lastOf(memory), used.memoryLimit, bytes), least: 16 * 1024 ** 2, binary: true, moments, lines: [{ label: "Used", colour: "--accent", values: memory }], format: bytes },
    ];
  }, [used, window, name]);
  return charts.map((chart) => <Chart key={chart.title} {...chart} window={window} />);
}
