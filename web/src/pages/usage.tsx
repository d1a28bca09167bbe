import { useQuery } from "@apollo/client/react";
import { useParams } from "@tanstack/react-router";
import { useMemo, useState } from "react";
import { ApiKeysDocument, WorkspaceUsageDocument, type MetricMeasurement, type WorkspaceUsageQuery } from "../gql";
import { Empty, ErrorBox } from "../ui/basic";
import { Chart, type Line } from "../ui/chart";
import { bytes, lastOf, momentsOf, onto, short, type Sample, type Window } from "../ui/series";
import { useViewer } from "../viewer";
import { Credits } from "./credits";
import { KeyUsage } from "./keys";
import { WorkspaceFrame } from "./workspace-frame";

const GB = 1024 ** 3;
const MB = 1024 ** 2;
const STEP = 14_400;
const LENGTH = 30 * 86_400;

/** What a workspace has used in the last thirty days. */
export function WorkspaceUsage() {
  const { workspace } = useParams({ from: "/w/$workspace/usage" });
  return (
    <WorkspaceFrame workspace={workspace} title="Usage">
      <Used key={workspace} workspace={workspace} />
      <Keys workspace={workspace} />
    </WorkspaceFrame>
  );
}

const iso = (seconds: number) => new Date(seconds * 1000).toISOString();

function Used({ workspace }: { workspace: string }) {
  const [window] = useState<Window>(() => {
    const now = Math.floor(Date.now() / 1000);
    return { from: now - LENGTH, to: now, step: STEP };
  });
  const { data, error, refetch } = useQuery(WorkspaceUsageDocument, {
    variables: { workspaceId: workspace, startDate: iso(window.from), endDate: iso(window.to), step: STEP },
    fetchPolicy: "no-cache",
  });
  if (!data) return error ? <ErrorBox error={error} retry={() => void refetch()} /> : null;
  return (
    <>
      <Credits {...data.workspace.flowCredits} />
      <Projects data={data} />
      <Charts data={data} window={window} />
    </>
  );
}

/** Use of one project, or of all: vCPU and GB minutes, GB of network. */
type Amounts = Partial<Record<MetricMeasurement, number>>;

const hours = (minutes = 0) => short(minutes / 60);

function Projects({ data }: { data: WorkspaceUsageQuery }) {
  const rows = useMemo(() => {
    const names = new Map(data.projects.edges.map(({ node }) => [node.id, node.name]));
    const used = new Map<string, Amounts>();
    for (const { measurement, value, tags } of data.usage) {
      const of = used.get(tags.projectId ?? "") ?? {};
      of[measurement] = value;
      used.set(tags.projectId ?? "", of);
    }
    const estimated = new Map<string, Amounts>();
    for (const { measurement, estimatedValue, projectId } of data.estimatedUsage) estimated.set(projectId, { ...estimated.get(projectId), [measurement]: estimatedValue });
    return [...used].map(([id, of]) => ({ id, name: names.get(id) ?? id, of, month: estimated.get(id) ?? {} })).sort((a, b) => (b.of.CPU_USAGE ?? 0) - (a.of.CPU_USAGE ?? 0));
  }, [data]);
  if (rows.length === 0) {
    return (
      <Empty title="Nothing has run in the last thirty days">
        <p>While apps run, their processor time, memory, disks and network are measured and added up here.</p>
      </Empty>
    );
  }
  return (
    <section className="stack tight">
      <h2>Projects, last 30 days</h2>
      <div className="sheet table-wrap" tabIndex={0} role="group" aria-label="Use by project">
        <table>
          <thead>
            <tr>
              <th scope="col">Project</th>
              <th scope="col">Processor</th>
              <th scope="col">Memory</th>
              <th scope="col">Volumes</th>
              <th scope="col">Network</th>
              <th scope="col">This month, at this rate</th>
            </tr>
          </thead>
          <tbody>
            {rows.map(({ id, name, of, month }) => (
              <tr key={id}>
                <th scope="row" className="row-name">
                  <span className="cut">{name}</span>
                </th>
                <td className="numbers nowrap">{hours(of.CPU_USAGE)} vCPU h</td>
                <td className="numbers nowrap">{hours(of.MEMORY_USAGE_GB)} GB h</td>
                <td className="numbers nowrap">{hours(of.DISK_USAGE_GB)} GB h</td>
                <td className="numbers nowrap">{bytes(((of.NETWORK_RX_GB ?? 0) + (of.NETWORK_TX_GB ?? 0)) * GB)}</td>
                <td className="numbers nowrap second">
                  {hours(month.CPU_USAGE)} vCPU h, {hours(month.MEMORY_USAGE_GB)} GB h
                </td>
              </tr>
            ))}
          </tbody>
        </table>
      </div>
    </section>
  );
}

function Charts({ data, window }: { data: WorkspaceUsageQuery; window: Window }) {
  const charts = useMemo(() => {
    const of = (measurement: MetricMeasurement): Sample[] => data.metrics.find((one) => one.measurement === measurement)?.values ?? [];
    const cpu = of("CPU_USAGE");
    if (cpu.length === 0) return [];
    const moments = momentsOf(window, cpu);
    const line = (label: string, colour: string, measurement: MetricMeasurement, factor: number): Line => ({
      label,
      colour,
      values: onto(moments, of(measurement), null).map((value) => (value === null ? null : value * factor)),
    });
    const one = (title: string, drawn: Line, format: (value: number) => string, least: number, binary: boolean) => ({ title, now: format(lastOf(drawn.values) ?? 0), moments, lines: [drawn], format, least, binary });
    const network = [line("In", "--accent", "NETWORK_RX_GB", GB / window.step), line("Out", "--busy", "NETWORK_TX_GB", GB / window.step)];
    const perSecond = (value: number) => `${bytes(value)}/s`;
    return [
      one("Processor", line("Used", "--accent", "CPU_USAGE", 1), (value) => `${short(value)} vCPU`, 0.1, false),
      one("Memory", line("Used", "--accent", "MEMORY_USAGE_GB", GB), bytes, 16 * MB, true),
      one("Volumes", line("Used", "--accent", "DISK_USAGE_GB", GB), bytes, 16 * MB, true),
      { title: "Network", now: `${perSecond(lastOf(network[0].values) ?? 0)} in, ${perSecond(lastOf(network[1].values) ?? 0)} out`, moments, lines: network, format: perSecond, least: 1024, binary: true },
    ];
  }, [data, window]);
  return charts.map((chart) => <Chart key={chart.title} {...chart} window={window} />);
}

/** The keys that were used last; those of a workspace are shown to who manages it. */
function Keys({ workspace }: { workspace: string }) {
  const own = useViewer().workspaces.find((one) => one.id === workspace);
  const { data } = useQuery(ApiKeysDocument, { skip: !own?.viewerCanAdminister, fetchPolicy: "cache-and-network" });
  const keys = useMemo(() => {
    const all = data?.apiKeys.edges.map((edge) => edge.node) ?? [];
    const its = all.filter((key) => key.workspaceId === workspace && key.lastUsedAt);
    return its.sort((a, b) => (b.lastUsedAt ?? "").localeCompare(a.lastUsedAt ?? "")).slice(0, 8);
  }, [data, workspace]);
  if (keys.length === 0) return null;
  return (
    <section className="stack">
      <h2>Requests per day and key</h2>
      {keys.map((key) => (
        <KeyUsage key={key.id} of={key} title={key.label || key.displayKey} />
      ))}
    </section>
  );
}
