import { useQuery } from "@apollo/client/react";
import { useParams } from "@tanstack/react-router";
import { MoreHorizontal, Plus, X } from "lucide-react";
import { useState } from "react";
import { change } from "../api/client";
import { useNews } from "../api/news";
import { TriggerRemoveDocument, TriggerRunsDocument, TriggersDocument, TriggerSaveDocument, type TriggerAction, type TriggerInput, type TriggerRowFragment, type TriggerRuleInput } from "../gql";
import { Act, Button, Dialog, Empty, ErrorBox, Field } from "../ui/basic";
import { Item, Menu } from "../ui/menu";
import { State } from "../ui/state";
import { Ago } from "../ui/time";
import { tell } from "../ui/toast";
import { useProject } from "./environment";

const actions: Record<TriggerAction, string> = { ADD: "Add containers", REMOVE: "Remove containers", KILL: "Kill containers" };
const metrics = { CPU: "CPU, %", MEMORY: "Memory, %", CONNECTIONS: "Connections" } as const;
const days = ["Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"];
const series = { "5s": "5 seconds", "3m": "3 minutes", "1h": "1 hour" } as const;

function said(trigger: TriggerRowFragment): string {
  const rules = trigger.rules.map((rule) => `${metrics[rule.metric].replace(", %", "")} ${rule.comparator.toLowerCase()} ${rule.value}${rule.metric === "CONNECTIONS" ? "" : "%"}`);
  const how = trigger.action === "KILL" ? "" : `by ${trigger.step}, ${trigger.min} to ${trigger.max}, `;
  return `${how}when ${rules.join(trigger.operator === "AND" ? " and " : " or ") || "nothing is said"} for ${trigger.sampleQuantity} × ${series[trigger.seriesName as "5s"] ?? trigger.seriesName}`;
}

/** Rules that change the number of containers by themselves, and what they did. */
export function Triggers() {
  const { env, service } = useParams({ from: "/p/$project/$env/canvas/s/$service/$tab" });
  const { viewerCanWrite, workspaceId } = useProject();
  const { data, error, refetch } = useQuery(TriggersDocument, { variables: { environmentId: env, serviceId: service }, fetchPolicy: "cache-and-network" });
  useNews(workspaceId, refetch, "TRIGGERS");
  const [editing, setEditing] = useState<TriggerRowFragment | "new" | null>(null);
  const [open, setOpen] = useState<string | null>(null);
  if (!data) return <div className="panel-body">{error && <ErrorBox error={error} retry={() => void refetch()} />}</div>;
  const remove = async (trigger: TriggerRowFragment) => {
    await change(TriggerRemoveDocument, { id: trigger.id });
    tell(`${trigger.name} is removed`, () => void change(TriggerSaveDocument, { input: { ...inputOf(trigger, env, service), id: null } }).catch(tell.problem));
  };
  const save = (trigger: TriggerRowFragment, enabled: boolean) => change(TriggerSaveDocument, { input: { ...inputOf(trigger, env, service), enabled } });
  return (
    <div className="panel-body">
      {viewerCanWrite && data.triggers.length > 0 && (
        <div className="row">
          <span className="grow" />
          <Button size="small" onClick={() => setEditing("new")}>
            <Plus size={14} /> New trigger
          </Button>
        </div>
      )}
      {data.triggers.length === 0 ? (
        <Empty title="No triggers">
          <p>A trigger looks at what the containers use, and adds, removes or replaces some of them. Each run is logged with its reason. One that adds a container when the processor is busy, and one that removes it again, are a good beginning.</p>
          {viewerCanWrite && (
            <Button kind="primary" onClick={() => setEditing("new")}>
              <Plus size={14} /> New trigger
            </Button>
          )}
        </Empty>
      ) : (
        <ul className="sheet list" aria-label="Triggers">
          {data.triggers.map((trigger) => (
            <li key={trigger.id} style={{ flexWrap: "wrap" }}>
              <span className="grow stack" style={{ gap: 0, minWidth: 0 }}>
                <span className="row wrap">
                  <strong className="cut">{trigger.name}</strong>
                  <State tone={trigger.enabled ? "healthy" : "off"}>{trigger.enabled ? "Active" : "Paused"}</State>
                </span>
                <small className="quiet">
                  {actions[trigger.action]} {said(trigger)}
                </small>
              </span>
              <Button size="small" aria-expanded={open === trigger.id} onClick={() => setOpen(open === trigger.id ? null : trigger.id)}>
                Log
              </Button>
              {viewerCanWrite && (
                <Menu
                  align="end"
                  trigger={
                    <button type="button" className="icon-button" aria-label={`What can be done with ${trigger.name}`}>
                      <MoreHorizontal size={16} />
                    </button>
                  }
                >
                  <Item onSelect={() => setEditing(trigger)}>Edit…</Item>
                  <Item onSelect={() => void save(trigger, !trigger.enabled).catch(tell.problem)}>{trigger.enabled ? "Pause" : "Go on"}</Item>
                  <Item tone="danger" onSelect={() => void remove(trigger).catch(tell.problem)}>
                    Remove
                  </Item>
                </Menu>
              )}
              {open === trigger.id && <Runs id={trigger.id} />}
            </li>
          ))}
        </ul>
      )}
      {editing && <Editor of={editing === "new" ? null : editing} onClose={() => setEditing(null)} />}
    </div>
  );
}

function Runs({ id }: { id: string }) {
  const { data, error, refetch } = useQuery(TriggerRunsDocument, { variables: { id }, fetchPolicy: "cache-and-network" });
  useNews(useProject().workspaceId, refetch, "TRIGGERS");
  if (error && !data) return <ErrorBox error={error} retry={() => void refetch()} />;
  return (
    <ol className="stack tight" style={{ flexBasis: "100%" }} aria-label="Runs">
      {data?.triggerRuns.length === 0 && <li className="quiet small">It has not run yet.</li>}
      {data?.triggerRuns.map((run) => (
        <li key={run.number} className="stack" style={{ gap: 0 }}>
          <span className="row small">
            <State tone={run.outcome === "executed" ? "healthy" : run.outcome === "failed" ? "failed" : "off"}>{run.outcome}</State>
            <span className="quiet numbers">
              run {run.number}, <Ago at={run.createdAt} />
            </span>
          </span>
          <pre className="small second mono" style={{ margin: "0 0 8px", whiteSpace: "pre-wrap" }}>
            {run.log.join("\n")}
          </pre>
        </li>
      ))}
    </ol>
  );
}

function inputOf(trigger: TriggerRowFragment, environmentId: string, serviceId: string): TriggerInput {
  const { id, name, enabled, action, min, max, step, operator, rules, daysOfWeek, utcOffset, startHour, endHour, seriesName, sampleQuantity, runEverySeconds } = trigger;
  const kept = { id, name, enabled, action, min, max, step, operator, daysOfWeek, utcOffset, startHour, endHour, seriesName, sampleQuantity, runEverySeconds };
  return { ...kept, rules: rules.map(({ metric, comparator, value }) => ({ metric, comparator, value })), environmentId, serviceId };
}

const numbers = { min: "At least", max: "At most", step: "At a time", sampleQuantity: "Samples in a row", runEverySeconds: "Seconds between runs", startHour: "From hour", endHour: "To hour", utcOffset: "Hours ahead of UTC" } as const;

function Editor({ of, onClose }: { of: TriggerRowFragment | null; onClose: () => void }) {
  const { env, service } = useParams({ from: "/p/$project/$env/canvas/s/$service/$tab" });
  const [input, setInput] = useState<TriggerInput>(() =>
    of ? inputOf(of, env, service) : { environmentId: env, serviceId: service, name: "", action: "ADD", min: 1, max: 5, step: 1, operator: "AND", rules: [{ metric: "CPU", comparator: "ABOVE", value: 80 }], daysOfWeek: [], utcOffset: -Math.round(new Date().getTimezoneOffset() / 60), startHour: 0, endHour: 23, seriesName: "5s", sampleQuantity: 6, runEverySeconds: 60 },
  );
  const put = (part: Partial<TriggerInput>) => setInput((before) => ({ ...before, ...part }));
  const putRule = (at: number, part: Partial<TriggerRuleInput>) => put({ rules: input.rules.map((rule, index) => (index === at ? { ...rule, ...part } : rule)) });
  const number = (field: keyof typeof numbers) => (
    <Field key={field} label={numbers[field]}>
      <input className="input numbers" inputMode="numeric" value={input[field] ?? ""} onChange={(event) => put({ [field]: Number(event.target.value.replace(/[^\d-]/g, "")) || 0 })} />
    </Field>
  );
  return (
    <Dialog title={of ? `Edit ${of.name}` : "New trigger"} open onClose={onClose} className="wide">
      <div className="section">
        <div className="two-columns">
          <Field label="Name">
            <input className="input" value={input.name} onChange={(event) => put({ name: event.target.value })} placeholder="grow under load" autoFocus />
          </Field>
          <Field label="What it does">
            <select className="select" value={input.action} onChange={(event) => put({ action: event.target.value as TriggerAction })}>
              {Object.entries(actions).map(([value, word]) => (
                <option key={value} value={value}>
                  {word}
                </option>
              ))}
            </select>
          </Field>
        </div>
        <fieldset style={{ border: 0, margin: 0, padding: 0 }} className="stack tight">
          <legend className="small second">When</legend>
          {input.rules.map((rule, at) => (
            <div key={at} className="row wrap">
              <select className="select" style={{ width: 130 }} aria-label={`What rule ${at + 1} measures`} value={rule.metric} onChange={(event) => putRule(at, { metric: event.target.value as "CPU" })}>
                {Object.entries(metrics).map(([value, word]) => (
                  <option key={value} value={value}>
                    {word}
                  </option>
                ))}
              </select>
              <select className="select" style={{ width: 90 }} aria-label={`Side of rule ${at + 1}`} value={rule.comparator} onChange={(event) => putRule(at, { comparator: event.target.value as "ABOVE" })}>
                <option value="ABOVE">above</option>
                <option value="BELOW">below</option>
              </select>
              <input className="input numbers" style={{ width: 90 }} type="number" aria-label={`Value of rule ${at + 1}`} value={rule.value} onChange={(event) => putRule(at, { value: Number(event.target.value) })} />
              <button type="button" className="icon-button" aria-label={`Leave rule ${at + 1} out`} disabled={input.rules.length === 1} onClick={() => put({ rules: input.rules.filter((_, index) => index !== at) })}>
                <X size={14} />
              </button>
            </div>
          ))}
          <span className="row wrap">
            <Button size="small" onClick={() => put({ rules: [...input.rules, { metric: "MEMORY", comparator: "ABOVE", value: 80 }] })}>
              <Plus size={14} /> Another rule
            </Button>
            {input.rules.length > 1 && (
              <select className="select" style={{ width: 160 }} aria-label="How the rules are joined" value={input.operator ?? "AND"} onChange={(event) => put({ operator: event.target.value as "AND" })}>
                <option value="AND">All must hold</option>
                <option value="OR">One is enough</option>
              </select>
            )}
          </span>
        </fieldset>
        {input.action !== "KILL" && <div className="two-columns">{(["min", "max", "step"] as const).map(number)}</div>}
        <div className="two-columns">
          <Field label="Samples of">
            <select className="select" value={input.seriesName ?? "5s"} onChange={(event) => put({ seriesName: event.target.value })}>
              {Object.entries(series).map(([value, word]) => (
                <option key={value} value={value}>
                  {word}
                </option>
              ))}
            </select>
          </Field>
          {(["sampleQuantity", "runEverySeconds"] as const).map(number)}
        </div>
        <details>
          <summary className="second small">Days and hours</summary>
          <div className="stack" style={{ marginTop: 8 }}>
            <div className="row wrap" role="group" aria-label="Days; none means every day">
              {days.map((day, at) => (
                <label key={day} className="row small" style={{ gap: 4 }}>
                  <input type="checkbox" checked={input.daysOfWeek?.includes(at) ?? false} onChange={(event) => put({ daysOfWeek: event.target.checked ? [...(input.daysOfWeek ?? []), at].sort() : (input.daysOfWeek ?? []).filter((one) => one !== at) })} />
                  {day}
                </label>
              ))}
            </div>
            <div className="two-columns">{(["startHour", "endHour", "utcOffset"] as const).map(number)}</div>
          </div>
        </details>
      </div>
      <footer>
        <Button onClick={onClose}>Cancel</Button>
        <Act
          kind="primary"
          disabled={!input.name.trim()}
          act={async () => {
            await change(TriggerSaveDocument, { input: { ...input, name: input.name.trim() } });
            onClose();
          }}
          done="It runs within a minute"
        >
          Save
        </Act>
      </footer>
    </Dialog>
  );
}
