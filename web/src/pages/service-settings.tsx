import { useQuery } from "@apollo/client/react";
import { useNavigate, useParams } from "@tanstack/react-router";
import { Minus, Plus } from "lucide-react";
import { useState } from "react";
import { change } from "../api/client";
import { CommitPatchDocument, LimitsDocument, LimitsUpdateDocument, RegionEndpointsDocument, RegionsDocument, ServiceDeleteDocument, ServiceInstanceUpdateDocument, ServiceUpdateDocument, type ServiceInstanceUpdateInput } from "../gql";
import { Act, Button, ConfirmByName, Field } from "../ui/basic";
import { useSaving } from "../ui/saving";
import { useProject } from "./environment";
import { useInstance } from "./service";

export function ServiceSettings() {
  const params = useParams({ from: "/p/$project/$env/canvas/s/$service/$tab" });
  const { viewerCanWrite, viewerCanAdminister } = useProject();
  const instance = useInstance();
  const navigate = useNavigate();
  const put = (input: ServiceInstanceUpdateInput) => change(ServiceInstanceUpdateDocument, { environmentId: params.env, serviceId: params.service, input });
  return (
    <div className="panel-body">
      <fieldset disabled={!viewerCanWrite} style={{ border: 0, margin: 0, padding: 0, minWidth: 0 }} className="stack loose">
        <Scale put={put} />
        <Region put={put} />
        <Limits />
        <Group title="Build" note="Used by the next deployment." put={put} fields={["buildCommand", "rootDirectory", "watchPatterns"]} />
        <Group title="Start" note="Used by the next deployment." put={put} fields={["startCommand", "preDeployCommand", "cronSchedule"]} />
        <Group title="Health" note="A new deployment gets requests once this path answers with 200; until then the old one keeps them." put={put} fields={["healthcheckPath", "healthcheckTimeout", "drainingSeconds", "overlapSeconds"]} />
        <Restart put={put} />
        <Visitors put={put} />
        <Sleep put={put} />
        <Rename />
      </fieldset>
      {viewerCanAdminister && (
        <section className="stack tight">
          <h2>Danger</h2>
          <p className="second">Deletes the service in this environment, with its deployments, variables and domains.</p>
          <span>
            <ConfirmByName
              title={`Delete ${instance.serviceName}?`}
              name={instance.serviceName}
              verb="Delete the service"
              what="Its deployments, variables and addresses in this environment go with it. Other environments keep theirs."
              act={async () => {
                await change(ServiceDeleteDocument, { id: params.service, environmentId: params.env });
                await navigate({ to: "/p/$project/$env", params: { project: params.project, env: params.env } });
              }}
            />
          </span>
        </section>
      )}
    </div>
  );
}

type Put = (input: ServiceInstanceUpdateInput) => Promise<unknown>;

/** What was typed while what is saved now was on its way. */
function since<T extends Record<string, string | undefined>>(now: T, saved: T): T {
  return Object.fromEntries(Object.entries(now).filter(([key, text]) => text !== saved[key])) as T;
}

/** Takes settings of the section `deploy` back to what holds without them. An update leaves alone what is null in it; a patch removes that. */
const takeBack = (env: string, service: string, deploy: Record<string, unknown>) => change(CommitPatchDocument, { environmentId: env, patch: { services: { [service]: { deploy } } } });

function Scale({ put }: { put: Put }) {
  const instance = useInstance();
  const now = instance.numReplicas ?? 1;
  const [wanted, setWanted] = useState<number | null>(null);
  const value = wanted ?? now;
  const running = instance.activeDeployments[0]?.instances.filter((one) => one.status === "RUNNING").length ?? 0;
  return (
    <section className="stack tight">
      <h2>Replicas</h2>
      <p className="second">
        {running} of {now} running. Requests are spread over all of them.
      </p>
      <div className="row">
        <Button aria-label="One replica less" disabled={value <= 1} onClick={() => setWanted(value - 1)}>
          <Minus size={14} />
        </Button>
        <input className="input numbers" style={{ width: 64, textAlign: "center" }} aria-label="Replicas" inputMode="numeric" value={value} onChange={(event) => setWanted(Math.max(1, Math.min(50, Number(event.target.value.replace(/\D/g, "")) || 1)))} />
        <Button aria-label="One replica more" onClick={() => setWanted(value + 1)}>
          <Plus size={14} />
        </Button>
        <Act
          kind="primary"
          disabled={value === now}
          act={async () => {
            await put({ numReplicas: value });
            setWanted((then) => (then === value ? null : then));
          }}
          done={`Scaling to ${value}`}
        >
          Scale
        </Act>
      </div>
    </section>
  );
}

/** Where the replicas run. Other servers keep apps of their own: one goes there, nothing is moved there. */
function Region({ put }: { put: Put }) {
  const { project } = useParams({ from: "/p/$project/$env/canvas/s/$service/$tab" });
  const instance = useInstance();
  const { data } = useQuery(RegionsDocument, { variables: { projectId: project } });
  const others = useQuery(RegionEndpointsDocument).data?.regionEndpoints.filter((one) => !one.current) ?? [];
  const here = data?.regions.map((one) => one.name) ?? [];
  const now = instance.region ?? here[0] ?? "";
  const [isSaving, save] = useSaving();
  return (
    <section className="stack tight">
      <h2>Where it runs</h2>
      <div className="two-columns">
        <Field label="Region" hint={data && !here.includes(now) ? `${now} is none of this server's: the replicas run in ${here.join(", ")}` : undefined}>
          <select className="select" value={now} disabled={isSaving} aria-busy={isSaving} onChange={(event) => save(event.target, put({ region: event.target.value, numReplicas: instance.numReplicas ?? 1 }))}>
            {[...new Set([now, ...here])].map((name) => (
              <option key={name}>{name}</option>
            ))}
          </select>
        </Field>
      </div>
      {others.length > 0 && (
        <p className="second small">
          Other regions are servers with accounts and projects of their own:{" "}
          {others.map((one, at) => (
            <span key={one.name}>
              {at > 0 && ", "}
              <a href={one.url}>{one.name}</a>
            </span>
          ))}
        </p>
      )}
    </section>
  );
}

/** What each replica may use; `containers` is the wire's word for it. */
function Limits() {
  const { env, service } = useParams({ from: "/p/$project/$env/canvas/s/$service/$tab" });
  const { data } = useQuery(LimitsDocument, { variables: { environmentId: env, serviceId: service }, fetchPolicy: "cache-and-network" });
  const [edited, setEdited] = useState<{ cpu?: string; memory?: string }>({});
  const of = (value: unknown) => (value as { containers?: { cpu?: number | null; memoryBytes?: number | null } } | null)?.containers;
  const [own, all] = [of(data?.serviceInstanceLimitOverride), of(data?.serviceInstanceLimits)];
  const now = { cpu: own?.cpu ? String(own.cpu) : "", memory: own?.memoryBytes ? String(own.memoryBytes / 1e9) : "" };
  const { cpu = now.cpu, memory = now.memory } = edited;
  const bad = [cpu, memory].some((text) => text !== "" && !(Number(text) > 0));
  const changed = cpu !== now.cpu || memory !== now.memory;
  const taken = { ...(cpu === "" && now.cpu !== "" && { cpu: null }), ...(memory === "" && now.memory !== "" && { memoryBytes: null }) };
  return (
    <section className="stack tight">
      <h2>Limits of a replica</h2>
      <p className="second small">With the next deployment. A replica that needs more memory is ended and started again. An empty field takes a limit back, and deploys.</p>
      <div className="two-columns">
        <Field label="vCPU">
          <input className="input numbers" inputMode="decimal" value={cpu} placeholder={all?.cpu ? String(all.cpu) : "no limit"} onChange={(event) => setEdited({ ...edited, cpu: event.target.value.trim() })} />
        </Field>
        <Field label="Memory, GB">
          <input className="input numbers" inputMode="decimal" value={memory} placeholder={all?.memoryBytes ? String(all.memoryBytes / 1e9) : "no limit"} onChange={(event) => setEdited({ ...edited, memory: event.target.value.trim() })} />
        </Field>
      </div>
      {changed && (
        <span>
          <Act
            kind="primary"
            disabled={bad}
            act={async () => {
              if (cpu !== "" || memory !== "") await change(LimitsUpdateDocument, { input: { environmentId: env, serviceId: service, vCPUs: cpu ? Number(cpu) : null, memoryGB: memory ? Number(memory) : null } });
              if (Object.keys(taken).length > 0) await takeBack(env, service, { limitOverride: { containers: taken } });
              setEdited((then) => since(then, edited));
            }}
            done="Saved"
          >
            Save
          </Act>
        </span>
      )}
    </section>
  );
}

type Key = "buildCommand" | "rootDirectory" | "watchPatterns" | "startCommand" | "preDeployCommand" | "cronSchedule" | "healthcheckPath" | "healthcheckTimeout" | "drainingSeconds" | "overlapSeconds";

const labels: Record<Key, [label: string, placeholder: string, hint?: string]> = {
  buildCommand: ["Build command", "found out by itself"],
  rootDirectory: ["Folder of the app", "/"],
  watchPatterns: ["Deploy only when these change", "src/**, package.json"],
  startCommand: ["Start command", "found out by itself"],
  preDeployCommand: ["Before each deployment", "npm run migrate"],
  cronSchedule: ["Run on a schedule, UTC", "0 4 * * *", "Empty: it runs all the time"],
  healthcheckPath: ["Path", "/health"],
  healthcheckTimeout: ["Wait at most, seconds", "300"],
  drainingSeconds: ["To finish before it is ended, seconds", "30"],
  overlapSeconds: ["Old and new side by side, seconds", "0"],
};

const numeric = new Set<Key>(["healthcheckTimeout", "drainingSeconds", "overlapSeconds"]);
const lists = new Set<Key>(["watchPatterns", "preDeployCommand"]);

function number(label: string, text: string): number {
  if (!/^\d{1,9}$/.test(text)) throw new Error(`${label}: ${text} is not a whole number. Nothing was changed.`);
  return Number(text);
}

function asText(value: unknown): string {
  if (value === null || value === undefined) return "";
  return Array.isArray(value) ? value.join(", ") : String(value);
}

function Group({ title, note, fields, put }: { title: string; note: string; fields: Key[]; put: Put }) {
  const { env, service } = useParams({ from: "/p/$project/$env/canvas/s/$service/$tab" });
  const instance = useInstance();
  const [edited, setEdited] = useState<Partial<Record<Key, string>>>({});
  const dirty = fields.some((key) => edited[key] !== undefined && edited[key] !== asText(instance[key]));
  return (
    <section className="stack tight">
      <h2>{title}</h2>
      <p className="second small">{note}</p>
      <div className="two-columns">
        {fields.map((key) => (
          <Field key={key} label={labels[key][0]} hint={labels[key][2]}>
            <input className={numeric.has(key) ? "input" : "input mono"} placeholder={labels[key][1]} inputMode={numeric.has(key) ? "numeric" : undefined} value={edited[key] ?? asText(instance[key])} onChange={(event) => setEdited({ ...edited, [key]: event.target.value })} spellCheck={false} />
          </Field>
        ))}
      </div>
      {dirty && (
        <div className="row">
          <Act
            kind="primary"
            act={async () => {
              const input: Record<string, unknown> = {};
              const taken: Record<string, null> = {};
              for (const [key, text] of Object.entries(edited) as [Key, string][]) {
                const value = text.trim();
                if (numeric.has(key) && value === "") taken[key] = null;
                else if (numeric.has(key)) input[key] = number(labels[key][0], value);
                else if (key === "preDeployCommand") input[key] = value ? [value] : [];
                else if (lists.has(key)) input[key] = value.split(",").map((one) => one.trim()).filter(Boolean);
                else input[key] = value;
              }
              if (Object.keys(input).length > 0) await put(input as ServiceInstanceUpdateInput);
              if (Object.keys(taken).length > 0) await takeBack(env, service, taken);
              setEdited((then) => since(then, edited));
            }}
            done="Saved"
          >
            Save
          </Act>
          <Button kind="plain" onClick={() => setEdited({})}>
            Discard
          </Button>
        </div>
      )}
    </section>
  );
}

function Restart({ put }: { put: Put }) {
  const instance = useInstance();
  const { env, service } = useParams({ from: "/p/$project/$env/canvas/s/$service/$tab" });
  const [isSaving, save] = useSaving();
  const retry = async (times: string) => (times === "" ? takeBack(env, service, { restartPolicyMaxRetries: null }) : put({ restartPolicyMaxRetries: number("At most, times", times) }));
  return (
    <section className="stack tight">
      <h2>When the app ends</h2>
      <div className="two-columns">
        <Field label="Start it again">
          <select className="select" value={instance.restartPolicyType} disabled={isSaving} aria-busy={isSaving} onChange={(event) => save(event.target, put({ restartPolicyType: event.target.value as "ALWAYS" }))}>
            <option value="ALWAYS">Always</option>
            <option value="ON_FAILURE">When it failed</option>
            <option value="NEVER">Never</option>
          </select>
        </Field>
        <Field label="At most, times">
          <input
            className="input"
            inputMode="numeric"
            disabled={isSaving}
            key={instance.restartPolicyMaxRetries}
            defaultValue={instance.restartPolicyMaxRetries}
            onBlur={(event) => {
              const wanted = event.target.value.trim();
              if (wanted !== String(instance.restartPolicyMaxRetries)) save(event.target, retry(wanted));
            }}
          />
        </Field>
      </div>
    </section>
  );
}

function Visitors({ put }: { put: Put }) {
  const instance = useInstance();
  const [isSaving, save] = useSaving();
  return (
    <section className="stack tight">
      <h2>Visitors and replicas</h2>
      <label className="row small">
        <input type="checkbox" checked={instance.unhealthyContainerReplacement} disabled={isSaving} aria-busy={isSaving} onChange={(event) => save(event.target, put({ unhealthyContainerReplacement: event.target.checked }))} />
        Replace replicas that stop answering
      </label>
      <label className="row small">
        <input type="checkbox" checked={instance.stickySessions} disabled={isSaving} aria-busy={isSaving} onChange={(event) => save(event.target, put({ stickySessions: event.target.checked }))} />
        Keep each visitor on one replica
      </label>
      <p className="second small">A visitor is kept by a cookie, for apps that remember a connection in memory, as Meteor's do without websockets. Both hold at once.</p>
    </section>
  );
}

function Sleep({ put }: { put: Put }) {
  const instance = useInstance();
  const [isSaving, save] = useSaving();
  return (
    <section className="stack tight">
      <h2>When nobody asks for it</h2>
      <label className="row small">
        <input type="checkbox" checked={instance.sleepApplication ?? false} disabled={isSaving} aria-busy={isSaving} onChange={(event) => save(event.target, put({ sleepApplication: event.target.checked }))} />
        Let it sleep until the next request
      </label>
      <p className="second small">That request waits while it starts. What has no address, or is reached by a TCP port, stays awake.</p>
    </section>
  );
}

function Rename() {
  const { service } = useParams({ from: "/p/$project/$env/canvas/s/$service/$tab" });
  const instance = useInstance();
  const [name, setName] = useState(instance.serviceName);
  return (
    <section className="stack tight">
      <h2>Name</h2>
      <div className="row">
        <input className="input" style={{ maxWidth: 280 }} aria-label="Name of the service" value={name} onChange={(event) => setName(event.target.value)} />
        <Act disabled={!name.trim() || name === instance.serviceName} act={() => change(ServiceUpdateDocument, { id: service, input: { name: name.trim() } })} done="Renamed">
          Rename
        </Act>
      </div>
    </section>
  );
}
