import { useNavigate } from "@tanstack/react-router";
import { X } from "lucide-react";
import { useState } from "react";
import { flow, policyOf, type GraphEdge, type GraphNode, type InputField, type RequestField, type Workflow } from "../api/flow";
import type { ChangedField } from "../rest";
import { Act, Button, Command, ConfirmByName, ErrorBox, Field } from "../ui/basic";
import { ANY_NAME, fits, portsOf, titleOf, type Models } from "../ui/flow-graph";
import { useAsked } from "../ui/use-asked";
import { RequestFields } from "./workflow-fields";
import { isPlace, PlaceValue } from "./workflow-place";
import { read, useTyped, written } from "./workflow-typed";

const NONE: RequestField[] = [];

interface Props {
  workflow: Workflow;
  node: GraphNode;
  models: Models;
  onChange: (node: string, next: Record<string, unknown>, before: Record<string, unknown>) => void;
  onFields: (node: string, next: ChangedField[], before: ChangedField[]) => void;
  onRemove: () => void;
  onClose: () => void;
  onConnect: (edge: Omit<GraphEdge, "id">) => void;
  onDisconnect: (edge: GraphEdge) => void;
}

/** What one step is told. */
export function Inspector({ workflow, node, models, onChange, onFields, onRemove, onClose, onConnect, onDisconnect }: Props) {
  const ends = node.type === "request" || node.type === "response";
  const { data: fields, error, again } = useAsked(async () => (ends ? [] : flow.fields(node.type)), node.type);
  const title = titleOf(node, models);
  const label = useTyped(title);
  const inputs = node.data.inputs ?? {};
  const ports = portsOf(node, models, workflow.edges);
  const saveLabel = () => {
    const text = label.text.trim();
    if (!text || text === title) return;
    label.settle();
    onChange(node.id, { label: text }, { label: title });
  };
  return (
    <aside className="panel inspector" aria-label={`Step ${title}`}>
      <div className="panel-head" style={{ paddingBottom: 12 }}>
        <div className="row">
          <input className="input grow" aria-label="Name of the step" value={label.text} onChange={(event) => label.setText(event.target.value)} onBlur={saveLabel} />
          <button type="button" className="icon-button" aria-label="Close the panel" onClick={onClose}>
            <X size={16} />
          </button>
        </div>
        <p className="small quiet" style={{ marginTop: 8 }}>
          {node.type === "request" ? "What a caller gives." : node.type === "response" ? "What a caller gets: whatever is connected here." : models.get(node.type)?.description}
        </p>
      </div>
      <div className="panel-body">
        {error !== undefined && <ErrorBox error={error} retry={() => void again()} />}
        {node.type === "request" && <RequestFields fields={node.data.dynamicFields ?? NONE} onFields={(next, before) => onFields(node.id, next, before)} />}
        {fields?.map((field) => {
          const edge = workflow.edges.find((one) => one.target === node.id && one.targetHandle === `in:${field.name}`);
          const source = edge && workflow.nodes.find((one) => one.id === edge.source);
          const given = { field, value: inputs[field.name], onValue: (value: unknown) => onChange(node.id, { inputs: { [field.name]: value } }, { inputs: { [field.name]: inputs[field.name] ?? null } }) };
          return (
            <div key={field.name}>
              {edge && source ? (
                <Field label={field.name}>
                  <span className="row between">
                    <span className="small second">from {titleOf(source, models)}</span>
                    <Button size="small" onClick={() => onDisconnect(edge)}>
                      Disconnect
                    </Button>
                  </span>
                </Field>
              ) : isPlace(field) ? (
                <PlaceValue {...given} environment={inputs.environment_id} typed={<Value {...given} />} />
              ) : (
                <Value {...given} />
              )}
            </div>
          );
        })}
        {ports.inputs.length > 0 && <Connect workflow={workflow} node={node} models={models} onConnect={onConnect} />}
        {!ends && (
          <>
            <Policy node={node} onChange={onChange} />
            <span>
              <Button kind="danger" onClick={onRemove}>
                Delete the step
              </Button>
            </span>
          </>
        )}
      </div>
    </aside>
  );
}

/** The same as drawing an edge, for who does not use a mouse. */
function Connect({ workflow, node, models, onConnect }: Pick<Props, "workflow" | "node" | "models" | "onConnect">) {
  const inputs = portsOf(node, models, workflow.edges).inputs;
  const [input, setInput] = useState(inputs[0].handle);
  const [name, setName] = useState("");
  const target = inputs.find((port) => port.handle === input) ?? inputs[0];
  const taken = workflow.edges.some((edge) => edge.target === node.id && edge.targetHandle === target.handle);
  const outputs = workflow.nodes
    .filter((one) => one.id !== node.id)
    .flatMap((one) => portsOf(one, models, workflow.edges).outputs.map((port) => ({ node: one, port })))
    .filter(({ port }) => fits(port, target, taken));
  const handle = target.handle === ANY_NAME ? `in:${name}` : target.handle;
  return (
    <fieldset style={{ border: 0, margin: 0, padding: 0, minWidth: 0 }} className="stack tight">
      <legend className="small second">Connect</legend>
      <div className="row wrap">
        <select className="select" style={{ flex: "1 1 100px" }} aria-label="Input" value={target.handle} onChange={(event) => setInput(event.target.value)}>
          {inputs.map((port) => (
            <option key={port.handle} value={port.handle}>
              {port.handle === ANY_NAME ? "another input" : port.label}
            </option>
          ))}
        </select>
        {target.handle === ANY_NAME && <input className="input mono" style={{ flex: "1 1 80px" }} aria-label="Name of the input" placeholder="name" value={name} onChange={(event) => setName(event.target.value.replace(/\W/g, ""))} />}
        <select
          className="select"
          style={{ flex: "2 1 140px" }}
          aria-label="Comes from"
          value=""
          disabled={outputs.length === 0 || handle === "in:"}
          onChange={(event) => {
            const [source, sourceHandle] = JSON.parse(event.target.value) as [string, string];
            setName("");
            onConnect({ source, sourceHandle, target: node.id, targetHandle: handle });
          }}
        >
          <option value="" disabled>
            {outputs.length === 0 ? "nothing that fits" : "comes from…"}
          </option>
          {outputs.map(({ node: one, port }) => (
            <option key={`${one.id} ${port.handle}`} value={JSON.stringify([one.id, port.handle])}>
              {titleOf(one, models)}: {port.label}
            </option>
          ))}
        </select>
      </div>
    </fieldset>
  );
}

function Value({ field, value, onValue }: { field: InputField; value: unknown; onValue: (value: unknown) => void }) {
  const { text, setText, settle } = useTyped(written(value));
  const [wrong, setWrong] = useState(false);
  const label = field.required ? `${field.name}, required` : field.name;
  if (field.dataType === "boolean") {
    return (
      <label className="row">
        <input type="checkbox" checked={(value ?? field.default) === true} onChange={(event) => onValue(event.target.checked)} />
        <span>{field.name}</span>
        <small className="quiet">{field.description}</small>
      </label>
    );
  }
  if (field.options) {
    return (
      <Field label={label} hint={field.description}>
        <select className="select" value={written(value ?? field.default)} onChange={(event) => onValue(event.target.value || null)}>
          {!field.required && <option value="">–</option>}
          {field.options.map((option) => (
            <option key={option}>{option}</option>
          ))}
        </select>
      </Field>
    );
  }
  const keep = (next: unknown) => {
    setWrong(false);
    settle();
    onValue(next);
  };
  const save = () => {
    if (text === written(value)) return setWrong(false);
    if (text === "") return keep(null);
    if (field.dataType === "string") return keep(text);
    if (field.dataType === "number") return Number.isFinite(Number(text)) ? keep(Number(text)) : setWrong(true);
    const next = read(text);
    if (typeof next !== "string" || next !== text) return keep(next);
    // What is no JSON is meant as a text, unless it looks like a list or an object that was mistyped.
    if (/^\s*[[{]/.test(text)) return setWrong(true);
    keep(field.dataType === "string[]" ? text.split(/[\s,]+/).filter(Boolean) : text);
  };
  const long = field.dataType !== "number" && (field.maxLength ?? 1000) > 200;
  const common = { value: text, "aria-invalid": wrong, spellCheck: false, placeholder: written(field.default), onChange: (event: { target: { value: string } }) => setText(event.target.value), onBlur: save };
  return (
    <Field label={label} hint={wrong ? `This is not ${field.dataType === "number" ? "a number" : "JSON"}.` : field.description}>
      {long ? <textarea className="textarea" rows={4} {...common} /> : <input className="input" inputMode={field.dataType === "number" ? "decimal" : undefined} {...common} />}
    </Field>
  );
}

function Policy({ node, onChange }: Pick<Props, "node" | "onChange">) {
  // A policy is replaced as a whole: what is not asked for here stays as it is.
  const shape = policyOf(node);
  const { concurrency } = shape;
  const limit = (text: string) => (text === "" ? undefined : Math.min(Math.max(Math.round(Number(text)), 1), 100));
  return (
    <details>
      <summary className="second small">When it fails</summary>
      <div className="stack tight" style={{ marginTop: 8 }}>
        <Field label="Try again, times">
          <input key={shape.retries} className="input numbers" type="number" min={0} max={10} defaultValue={shape.retries} onBlur={(event) => Number(event.target.value) !== shape.retries && onChange(node.id, { policy: { ...shape, retries: Number(event.target.value) } }, { policy: shape })} />
        </Field>
        <label className="row">
          <input type="checkbox" checked={shape.continueOnError} onChange={(event) => onChange(node.id, { policy: { ...shape, continueOnError: event.target.checked } }, { policy: shape })} />
          Go on without its output
        </label>
        <Field label="At the same time, at most" hint="Over all runs of the workflow; empty for any number.">
          <input key={concurrency} className="input numbers" type="number" min={1} max={100} defaultValue={concurrency} onBlur={(event) => limit(event.target.value) !== concurrency && onChange(node.id, { policy: { ...shape, concurrency: limit(event.target.value) } }, { policy: shape })} />
        </Field>
      </div>
    </details>
  );
}

/** What belongs to the workflow as a whole. */
export function WorkflowSettings({ workflow, again }: { workflow: Workflow; again: () => Promise<void> }) {
  const [name, setName] = useState(workflow.name);
  const navigate = useNavigate();
  const request = workflow.nodes.find((node) => node.type === "request");
  const values = Object.fromEntries((request?.data.dynamicFields ?? []).map((field) => [field.id, field.type === "number" ? 1 : field.type === "boolean" ? true : "…"]));
  const body = JSON.stringify({ workflowId: workflow.id, ...(request && Object.keys(values).length > 0 && { values: { [request.id]: values } }) });
  return (
    <aside className="panel inspector phone-hide" aria-label="Workflow">
      <div className="panel-body">
        <Field label="Name of the workflow">
          <input className="input" value={name} onChange={(event) => setName(event.target.value)} maxLength={120} />
        </Field>
        {name.trim() && name !== workflow.name && (
          <span>
            <Act kind="primary" act={() => flow.rename(workflow.id, name.trim()).then(again)} done="Renamed">
              Rename
            </Act>
          </span>
        )}
        <p className="second small">Add steps from the list, and draw edges from an output on the right of a step to an input on the left of another. Only what fits can be connected.</p>
        <section className="stack tight">
          <h2>From a program</h2>
          <Command>{`curl -X POST -H "Authorization: Bearer gx_…" -H "Content-Type: application/json" -d '${body}' ${location.origin}/api/v1/runs`}</Command>
        </section>
        <section className="stack tight">
          <h2>Danger</h2>
          <span>
            <ConfirmByName
              title={`Delete ${workflow.name}?`}
              name={workflow.name}
              verb="Delete the workflow"
              what="Its runs and the files that they made go with it."
              act={async () => {
                await flow.remove(workflow.id);
                await navigate({ to: "/flow" });
              }}
            />
          </span>
        </section>
      </div>
    </aside>
  );
}
