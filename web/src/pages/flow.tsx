import { Link, useNavigate } from "@tanstack/react-router";
import { KeyRound, Plus, Trash2 } from "lucide-react";
import { useEffect, useState } from "react";
import { flow } from "../api/flow";
import type { FieldType } from "../rest";
import { Act, Button, Command, Dialog, Empty, ErrorBox, Field } from "../ui/basic";
import { useFlowNews } from "../ui/flow-news";
import { Bar } from "../ui/frame";
import { RunState } from "../ui/run-state";
import { Ago } from "../ui/time";
import { useAsked } from "../ui/use-asked";

/** The workflows of the account, each with how its last run went. */
export function Flow() {
  const [search, setSearch] = useState("");
  const { data, error, again } = useAsked(async () => {
    const found = await flow.workflows(search.trim());
    return { workflows: found.items, more: Boolean(found.nextCursor), search };
  }, "flow");
  useFlowNews(again);
  const answered = data?.search;
  useEffect(() => {
    if (answered === undefined || answered === search) return;
    const timer = setTimeout(() => void again(), 250);
    return () => clearTimeout(timer);
  }, [search, answered, again]);
  // Where all are in sight there is nothing to search.
  const [many, setMany] = useState(false);
  if (data?.more && !many) setMany(true);
  const [making, setMaking] = useState(false);
  return (
    <>
      <Bar />
      <main className="main">
        <div className="head">
          <h1>Flow</h1>
          <span className="row wrap">
            <a href="/docs/api" className="button" data-kind="plain">
              API reference
            </a>
            <Link to="/flow/keys" className="button">
              <KeyRound size={14} /> API Keys
            </Link>
            {data && (data.workflows.length > 0 || data.search) && (
              <Button kind="primary" onClick={() => setMaking(true)}>
                <Plus size={14} /> New workflow
              </Button>
            )}
          </span>
        </div>
        {error !== undefined && !data && <ErrorBox error={error} retry={() => void again()} />}
        {many && <input className="input" style={{ maxWidth: 320, marginBottom: 16 }} type="search" aria-label="Find a workflow" placeholder="Find a workflow by its name" value={search} onChange={(event) => setSearch(event.target.value)} />}
        {data?.workflows.length === 0 && data.search && <p className="second">No workflow is called that.</p>}
        {data?.workflows.length === 0 && !data.search && (
          <div className="sheet">
            <Empty title="No workflows yet">
              <p>A workflow is a graph of steps: what a caller gives comes in at one end, what they get goes out at the other.</p>
              <Button kind="primary" onClick={() => setMaking(true)}>
                <Plus size={14} /> New workflow
              </Button>
              <p className="quiet">or from a program:</p>
              <Command>{`curl -X POST -H "Authorization: Bearer gx_…" -H "Content-Type: application/json" -d '{"name": "first"}' ${location.origin}/api/v1/workflows`}</Command>
            </Empty>
          </div>
        )}
        {data && data.workflows.length > 0 && (
          <ul className="sheet list" aria-label="Workflows">
            {data.workflows.map((workflow) => {
              const run = workflow.lastRun;
              return (
                <li key={workflow.id} style={{ padding: 0 }}>
                  <Link to="/flow/$workflow" params={{ workflow: workflow.id }} className="item row grow" style={{ padding: "10px 16px", gap: 16, color: "inherit" }}>
                    <span className="grow stack" style={{ gap: 0, minWidth: 0 }}>
                      <strong className="cut">{workflow.name}</strong>
                      <small className="quiet cut">
                        {workflow.description || <>changed <Ago at={workflow.updatedAt} /></>}
                      </small>
                    </span>
                    {run ? (
                      <span className="row small">
                        <RunState status={run.status} />
                        <span className="quiet phone-hide">
                          <Ago at={run.createdAt} />
                        </span>
                      </span>
                    ) : (
                      <span className="small quiet">Not run yet</span>
                    )}
                  </Link>
                </li>
              );
            })}
          </ul>
        )}
        {making && <NewWorkflow onClose={() => setMaking(false)} />}
      </main>
    </>
  );
}

const types: FieldType[] = ["text", "number", "boolean", "image", "audio", "video", "file", "any"];

function NewWorkflow({ onClose }: { onClose: () => void }) {
  const [name, setName] = useState("");
  const [fields, setFields] = useState<{ name: string; type: FieldType }[]>([{ name: "input", type: "text" }]);
  const navigate = useNavigate();
  const put = (at: number, part: Partial<{ name: string; type: FieldType }>) => setFields(fields.map((field, index) => (index === at ? { ...field, ...part } : field)));
  return (
    <Dialog title="New workflow" open onClose={onClose}>
      <div className="section">
        <Field label="Name">
          <input className="input" value={name} onChange={(event) => setName(event.target.value)} placeholder="Greet a visitor" maxLength={120} autoFocus />
        </Field>
        <fieldset style={{ border: 0, margin: 0, padding: 0 }} className="stack tight">
          <legend className="small second">What a caller gives</legend>
          {fields.map((field, at) => (
            <div key={at} className="row">
              <input className="input" aria-label={`Name of field ${at + 1}`} value={field.name} onChange={(event) => put(at, { name: event.target.value })} />
              <select className="select" style={{ width: 120 }} aria-label={`Type of field ${at + 1}`} value={field.type} onChange={(event) => put(at, { type: event.target.value as FieldType })}>
                {types.map((type) => (
                  <option key={type}>{type}</option>
                ))}
              </select>
              <button type="button" className="icon-button" aria-label={`Leave field ${at + 1} out`} onClick={() => setFields(fields.filter((_, index) => index !== at))}>
                <Trash2 size={14} />
              </button>
            </div>
          ))}
          <span>
            <Button size="small" onClick={() => setFields([...fields, { name: "", type: "text" }])}>
              <Plus size={14} /> Another field
            </Button>
          </span>
        </fieldset>
      </div>
      <footer>
        <Act
          kind="primary"
          disabled={!name.trim()}
          act={async () => {
            const wanted = fields.filter((field) => field.name.trim()).map((field) => ({ name: field.name.trim(), type: field.type }));
            const made = await flow.create(name.trim(), wanted);
            await navigate({ to: "/flow/$workflow", params: { workflow: made.id } });
          }}
        >
          Make it
        </Act>
      </footer>
    </Dialog>
  );
}
