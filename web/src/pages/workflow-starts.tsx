import { useParams } from "@tanstack/react-router";
import { MoreHorizontal } from "lucide-react";
import { useState } from "react";
import { events, flow, type FlowStart, type NewStart } from "../api/flow";
import { Act, Confirm, Empty, ErrorBox, Field, Shown } from "../ui/basic";
import { useFlowNews } from "../ui/flow-news";
import { Item, Menu } from "../ui/menu";
import { State } from "../ui/state";
import { Ago, Moment } from "../ui/time";
import { tell } from "../ui/toast";
import { useAsked } from "../ui/use-asked";
import { WorkflowFrame } from "./workflow-frame";

const kinds = { schedule: "Schedule", hook: "Webhook", event: "Event" } as const;

function said(start: FlowStart): string {
  if (start.kind === "schedule") return `${start.cron} ${start.timezone ?? "UTC"}`;
  return start.kind === "event" ? (start.event ?? "") : "when its address is called";
}

/** The same once more. A webhook would have another address. */
function sameAs({ kind, cron, timezone, values, event }: FlowStart): NewStart | null {
  if (kind === "hook") return null;
  if (kind === "event") return { kind, event: event ?? "" };
  return { kind, cron: cron ?? "", ...(timezone && { timezone }), ...(values && { values }) };
}

/** What starts the workflow by itself. */
export function WorkflowStarts() {
  const { workflow: id } = useParams({ from: "/flow/$workflow/starts" });
  const workflow = useAsked(() => flow.workflow(id), id);
  const { data, error, again } = useAsked(() => flow.starts(id), `starts ${id}`);
  useFlowNews(again);
  const [url, setUrl] = useState<string | null>(null);
  const [removing, setRemoving] = useState<FlowStart | null>(null);
  const add = async (start: NewStart) => {
    const made = await flow.startCreate(id, start);
    setUrl(made.url ?? null);
    await again();
  };
  const remove = async (start: FlowStart) => {
    await flow.startRemove(id, start.id);
    await again();
    const same = sameAs(start);
    if (!same) return tell("The webhook is removed");
    const back = async () => {
      const made = await flow.startCreate(id, same);
      if (!start.enabled) await flow.startSwitch(id, made.id, false);
      await again();
    };
    tell(`${said(start)} is removed`, () => void back().catch(tell.problem));
  };
  return (
    <WorkflowFrame id={id} workflow={workflow.data}>
      <main className="main narrow">
        <div className="head">
          <h1>What starts it</h1>
        </div>
        <div className="stack loose">
          {error !== undefined && !data && <ErrorBox error={error} retry={() => void again()} />}
          {url && <Shown secret={url} what="address" />}
          {data && <New add={add} />}
          {data?.length === 0 && (
            <div className="sheet">
              <Empty title="Nothing yet">
                <p>It runs when somebody starts it here or by the API. Add a schedule, a webhook or an event of the platform above, and it starts by itself from then on.</p>
              </Empty>
            </div>
          )}
          {data && data.length > 0 && (
            <ul className="sheet list" aria-label="Starts">
              {data.map((start) => (
                <li key={start.id}>
                  <span className="badge">{kinds[start.kind]}</span>
                  <span className="grow stack" style={{ gap: 0, minWidth: 0 }}>
                    <code className="cut">{said(start)}</code>
                    <small className="quiet">
                      {start.nextAt && start.enabled && (
                        <>
                          next <Moment at={start.nextAt} />{" "}
                        </>
                      )}
                      {start.lastAt ? (
                        <>
                          last <Ago at={start.lastAt} />
                        </>
                      ) : (
                        "has not started anything yet"
                      )}
                    </small>
                  </span>
                  <State tone={start.enabled ? "healthy" : "off"}>{start.enabled ? "Active" : "Paused"}</State>
                  <Menu
                    align="end"
                    trigger={
                      <button type="button" className="icon-button" aria-label={`What can be done with ${said(start)}`}>
                        <MoreHorizontal size={16} />
                      </button>
                    }
                  >
                    <Item onSelect={() => void flow.startSwitch(id, start.id, !start.enabled).then(again, tell.problem)}>{start.enabled ? "Pause" : "Go on"}</Item>
                    {start.kind === "hook" && (
                      <Item
                        onSelect={() =>
                          void flow.startRotate(id, start.id).then((made) => {
                            setUrl(made.url ?? null);
                            return again();
                          }, tell.problem)
                        }
                      >
                        Give it another address
                      </Item>
                    )}
                    <Item tone="danger" onSelect={() => (sameAs(start) ? void remove(start).catch(tell.problem) : setRemoving(start))}>
                      {sameAs(start) ? "Remove" : "Remove…"}
                    </Item>
                  </Menu>
                </li>
              ))}
            </ul>
          )}
        </div>
      </main>
      <Confirm
        title="Remove this webhook?"
        what="Whoever calls its address starts nothing any more. The address does not come back; another webhook has another one."
        verb="Remove the webhook"
        act={() => remove(removing!)}
        open={removing !== null}
        onClose={() => setRemoving(null)}
      />
    </WorkflowFrame>
  );
}

function New({ add }: { add: (start: NewStart) => Promise<void> }) {
  const [kind, setKind] = useState<FlowStart["kind"]>("schedule");
  const [cron, setCron] = useState("0 3 * * *");
  const [timezone, setTimezone] = useState(Intl.DateTimeFormat().resolvedOptions().timeZone);
  const [event, setEvent] = useState<string>(events[0]);
  const [values, setValues] = useState("");
  const act = () => {
    if (kind === "hook") return add({ kind });
    if (kind === "event") return add({ kind, event });
    let given: Record<string, unknown> | undefined;
    try {
      given = values.trim() ? (JSON.parse(values) as Record<string, unknown>) : undefined;
    } catch {
      throw new Error('The values are not a JSON object, like {"name": "Ada"}');
    }
    return add({ kind, cron: cron.trim(), ...(timezone.trim() && { timezone: timezone.trim() }), ...(given && { values: given }) });
  };
  return (
    <section className="row wrap" style={{ alignItems: "flex-end" }} aria-label="New start">
      <div style={{ width: 120 }}>
        <Field label="What">
          <select className="select" value={kind} onChange={(change) => setKind(change.target.value as FlowStart["kind"])}>
            {Object.entries(kinds).map(([value, word]) => (
              <option key={value} value={value}>
                {word}
              </option>
            ))}
          </select>
        </Field>
      </div>
      {kind === "schedule" && (
        <>
          <div style={{ flex: "1 1 120px" }}>
            <Field label="Cron">
              <input className="input mono" value={cron} onChange={(change) => setCron(change.target.value)} spellCheck={false} />
            </Field>
          </div>
          <div style={{ flex: "1 1 130px" }}>
            <Field label="Time zone">
              <input className="input" value={timezone} onChange={(change) => setTimezone(change.target.value)} placeholder="UTC" />
            </Field>
          </div>
          <div style={{ flex: "2 1 160px" }}>
            <Field label="Values">
              <input className="input mono" value={values} onChange={(change) => setValues(change.target.value)} placeholder='{"name": "Ada"}' spellCheck={false} />
            </Field>
          </div>
        </>
      )}
      {kind === "event" && (
        <div style={{ flex: "1 1 200px" }}>
          <Field label="When">
            <select className="select" value={event} onChange={(change) => setEvent(change.target.value)}>
              {events.map((one) => (
                <option key={one}>{one}</option>
              ))}
            </select>
          </Field>
        </div>
      )}
      <Act kind="primary" act={async () => act()} done={kind === "hook" ? undefined : "It starts by itself from now on"}>
        Add
      </Act>
    </section>
  );
}
