import { useNavigate } from "@tanstack/react-router";
import { Play } from "lucide-react";
import { useState } from "react";
import { flow, type RequestField, type Workflow } from "../api/flow";
import { Act, Button, Dialog, Field } from "../ui/basic";
import { tell } from "../ui/toast";
import { read, written } from "./workflow-typed";

const files = ["image", "audio", "video", "avmedia", "file"];

/** What was typed for a field; undefined where nothing was, so that the field's own value counts. */
function given({ type }: RequestField, text: string): unknown {
  if (type === "text") return text;
  if (text.trim() === "") return undefined;
  if (type === "number") return Number(text);
  if (type === "any") return read(text);
  // Several files are a list.
  return /^\s*\[/.test(text) ? read(text) : text.trim();
}

/** Starts a run, after asking for what the workflow takes. */
export function RunButton({ workflow }: { workflow: Workflow }) {
  const navigate = useNavigate();
  const [asking, setAsking] = useState(false);
  const request = workflow.nodes.find((node) => node.type === "request");
  const fields = request?.data.dynamicFields ?? [];
  // What was changed, by the fields' ids.
  const [typed, setTyped] = useState<Record<string, string | boolean>>({});
  const start = async () => {
    const values: Record<string, unknown> = {};
    for (const field of fields) {
      const now = typed[field.id];
      const value = typeof now === "string" ? given(field, now) : now;
      if (value !== undefined) values[field.id] = value;
    }
    const { runId } = await flow.start(workflow.id, request && Object.keys(values).length > 0 ? { [request.id]: values } : {});
    await navigate({ to: "/flow/$workflow/runs/$run", params: { workflow: workflow.id, run: runId } });
  };
  if (fields.length === 0) {
    return (
      <Act size="small" kind="primary" act={start}>
        <Play size={14} /> Run
      </Act>
    );
  }
  return (
    <>
      <Button size="small" kind="primary" onClick={() => setAsking(true)}>
        <Play size={14} /> Run
      </Button>
      <Dialog title={`Run ${workflow.name}`} open={asking} onClose={() => setAsking(false)}>
        <div className="section">
          {fields.map((field) => {
            const put = (value: string | boolean) => setTyped((before) => ({ ...before, [field.id]: value }));
            const now = typed[field.id] ?? field.value;
            if (field.type === "boolean") {
              return (
                <label key={field.id} className="row">
                  <input type="checkbox" checked={now === true} onChange={(event) => put(event.target.checked)} /> {field.name}
                </label>
              );
            }
            const common = { value: written(now), onChange: (event: { target: { value: string } }) => put(event.target.value) };
            if (field.type === "any") {
              return (
                <Field key={field.id} label={field.name} hint="JSON, or any text">
                  <textarea className="textarea" rows={3} spellCheck={false} {...common} />
                </Field>
              );
            }
            const isFile = files.includes(field.type);
            return (
              <div key={field.id} className="stack tight">
                <Field label={field.name} hint={isFile ? "The address of a file" : undefined}>
                  <input className="input" type={field.type === "number" ? "number" : "text"} step={field.type === "number" ? "any" : undefined} {...common} />
                </Field>
                {isFile && <FileButton field={field} onFile={put} />}
              </div>
            );
          })}
        </div>
        <footer>
          <Act kind="primary" act={start}>
            Start the run
          </Act>
        </footer>
      </Dialog>
    </>
  );
}

/** Keeps a file of the person's machine on the server, and gives its address. */
function FileButton({ field, onFile }: { field: RequestField; onFile: (url: string) => void }) {
  const [busy, setBusy] = useState(false);
  const kind = ["image", "audio", "video"].includes(field.type) ? `${field.type}/*` : field.type === "avmedia" ? "audio/*,video/*" : undefined;
  const keep = async (file: File) => {
    setBusy(true);
    try {
      onFile((await flow.upload(file)).url);
    } catch (error) {
      tell.problem(error);
    } finally {
      setBusy(false);
    }
  };
  return (
    <span>
      <label className="button" data-size="small" style={{ position: "relative" }} aria-busy={busy}>
        {busy ? "Uploading…" : "Choose a file"}
        <input
          type="file"
          className="hidden"
          accept={kind}
          disabled={busy}
          aria-label={`Choose a file for ${field.name}`}
          onChange={(event) => {
            const file = event.currentTarget.files?.[0];
            if (file) void keep(file);
            event.currentTarget.value = "";
          }}
        />
      </label>
    </span>
  );
}
