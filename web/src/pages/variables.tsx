import { useQuery } from "@apollo/client/react";
import { useParams } from "@tanstack/react-router";
import { Eye, EyeOff, Lock, Trash2 } from "lucide-react";
import { useRef, useState } from "react";
import { change } from "../api/client";
import { useNews } from "../api/news";
import { CommitPatchDocument, StageChangesDocument, VariableDeleteDocument, VariablesDocument, VariableUpsertDocument } from "../gql";
import { Act, Asking, Button, Command, CopyButton, Empty, ErrorBox, Field } from "../ui/basic";
import { ReferenceInput } from "../ui/reference-input";
import { tell } from "../ui/toast";
import { useProject } from "./environment";
import { useInstance } from "./service";

const NAME = /^[A-Za-z_][A-Za-z0-9_]*$/;

type Document = Record<string, { isSealed?: boolean }>;

/** The names whose values nobody reads: no list of values has them, the environment's document says that they are there. */
function sealedOf(config: unknown, service: string | null): string[] {
  const { services, sharedVariables } = config as { services?: Record<string, { variables?: Document }>; sharedVariables?: Document };
  const all = (service ? services?.[service]?.variables : sharedVariables) ?? {};
  return Object.keys(all).filter((name) => all[name].isSealed);
}

export function Variables() {
  const { project, env, service } = useParams({ from: "/p/$project/$env/canvas/s/$service/$tab" });
  return (
    <div className="panel-body">
      <VariableList project={project} env={env} service={service} name={useInstance().serviceName} />
    </div>
  );
}

export function VariableList({ project, env, service, name: of }: { project: string; env: string; service: string | null; name?: string }) {
  const { viewerCanWrite, workspaceId } = useProject();
  const variables = { projectId: project, environmentId: env, serviceId: service };
  const { data, error, refetch } = useQuery(VariablesDocument, { variables, skip: !viewerCanWrite, fetchPolicy: "cache-and-network" });
  // What is being typed is held by the field that it is typed into.
  useNews(viewerCanWrite ? workspaceId : null, refetch);
  const [raw, setRaw] = useState(false);
  const [shown, setShown] = useState<ReadonlySet<string>>(new Set());
  const [editing, setEditing] = useState<string | null>(null);
  if (!viewerCanWrite) {
    return (
      <Empty title="Values are hidden from you">
        <p>Variables hold secrets. Members of the workspace see and change them; your role only looks at the rest.</p>
      </Empty>
    );
  }
  if (!data) return error ? <ErrorBox error={error} retry={() => void refetch()} /> : null;
  const sealed = sealedOf(data.environment.config, service);
  const plain: Record<string, string | null> = { ...data.plain, ...Object.fromEntries(sealed.map((name) => [name, null])) };
  const rendered = data.rendered as Record<string, string | null>;
  const names = Object.keys(plain).sort();
  const own = names.filter((name) => !name.startsWith("RAILWAY_"));
  const provided = Object.keys(rendered).filter((name) => name.startsWith("RAILWAY_"));

  const stage = service ? (next: Patch) => change(StageChangesDocument, { environmentId: env, merge: true, input: { services: { [service]: { variables: next } } } }) : null;
  const commit = (next: Patch) => change(CommitPatchDocument, { environmentId: env, patch: service ? { services: { [service]: { variables: next } } } : { sharedVariables: next } });
  const put = (name: string, value: string, seal?: boolean) => (seal ? commit({ [name]: { value, isSealed: true } }) : change(VariableUpsertDocument, { input: { ...variables, name, value } }));
  const remove = async (name: string) => {
    const old = plain[name];
    await change(VariableDeleteDocument, { input: { ...variables, name } });
    // What nobody reads cannot be put back.
    tell(`${name} is gone`, old === null ? undefined : () => void put(name, old).catch(tell.problem));
  };

  return (
    <>
      <div className="row between">
        <span className="second small">{service ? "A change deploys the service again with the new values." : "Every service of this environment can refer to these as ${{shared.NAME}}."}</span>
        <Button size="small" onClick={() => setRaw(!raw)}>
          {raw ? "Table" : "Raw editor"}
        </Button>
      </div>
      {raw ? (
        <RawEditor plain={Object.fromEntries(own.map((name) => [name, plain[name]]))} save={commit} stage={stage} done={() => setRaw(false)} />
      ) : (
        <>
          <NewVariable put={put} stage={stage} taken={names} />
          {own.length === 0 ? (
            <Empty title="No variables yet">
              <p>
                Add one above, or paste a whole <code>.env</code> file into the raw editor. <code>{"${{Name.VARIABLE}}"}</code> refers to another service's.
              </p>
              {of && <Command>{`orrery railway -- variable set NAME=value --service ${of}`}</Command>}
            </Empty>
          ) : (
            <ul className="sheet list" aria-label="Variables">
              {own.map((name) => {
                const value = plain[name];
                const open = shown.has(name);
                return (
                  <li key={name} style={{ padding: "6px 8px 6px 16px", minHeight: 44 }}>
                    <code className="cut" style={{ width: "38%", flex: "none" }} title={name}>
                      {name}
                    </code>
                    {editing === name ? (
                      <EditValue
                        initial={value ?? ""}
                        cancel={() => setEditing(null)}
                        save={async (next) => {
                          await put(name, next);
                          setEditing(null);
                          tell(`${name} is set; deploying with it`);
                        }}
                        stage={
                          stage &&
                          (async (next) => {
                            // What is sealed stays so.
                            await stage({ [name]: next === null ? null : value === null ? { value: next, isSealed: true } : { value: next } });
                            setEditing(null);
                            tell(next === null ? `${name} goes when the staged changes are deployed` : `${name} waits with the staged changes`);
                          })
                        }
                      />
                    ) : value === null ? (
                      <>
                        <span className="row grow quiet small">
                          <Lock size={12} /> Sealed: only the app sees it
                        </span>
                        <Button size="small" kind="plain" aria-label={`Replace ${name}`} onClick={() => setEditing(name)}>
                          Replace
                        </Button>
                      </>
                    ) : (
                      <>
                        <button type="button" className="grow cut mono" style={{ border: 0, background: "none", textAlign: "left", cursor: "text", padding: 0 }} onClick={() => setEditing(name)} title={open ? `${rendered[name] ?? ""}` : "Edit"}>
                          <span className="hidden">Edit {name}: </span>
                          {open ? value || <span className="quiet">empty</span> : "••••••••••"}
                        </button>
                        <button
                          type="button"
                          className="icon-button"
                          aria-label={open ? `Hide ${name}` : `Show ${name}`}
                          onClick={() => {
                            const next = new Set(shown);
                            if (!next.delete(name)) next.add(name);
                            setShown(next);
                          }}
                        >
                          {open ? <EyeOff size={14} /> : <Eye size={14} />}
                        </button>
                        <CopyButton text={rendered[name] ?? value} label={`Copy the value of ${name}`} />
                        <Asking
                          title={`Seal ${name}?`}
                          what="Nobody reads its value here or by the API from then on; the app still gets it. A sealed variable stays so: it can be replaced and deleted."
                          verb="Seal it"
                          keep="Leave it readable"
                          done={`${name} is sealed`}
                          act={() => commit({ [name]: { isSealed: true } })}
                          trigger={(ask) => (
                            <button type="button" className="icon-button" aria-label={`Seal ${name}`} title="Seal" onClick={ask}>
                              <Lock size={14} />
                            </button>
                          )}
                        />
                      </>
                    )}
                    {editing !== name && value !== null && (
                      <button type="button" className="icon-button" aria-label={`Delete ${name}`} onClick={() => void remove(name).catch(tell.problem)}>
                        <Trash2 size={14} />
                      </button>
                    )}
                    {editing !== name && value === null && (
                      <Asking
                        title={`Delete ${name}?`}
                        name={name}
                        what="Its value is sealed: nobody can read it, so it cannot be put back."
                        verb="Delete the variable"
                        act={() => remove(name)}
                        trigger={(ask) => (
                          <button type="button" className="icon-button" aria-label={`Delete ${name}`} onClick={ask}>
                            <Trash2 size={14} />
                          </button>
                        )}
                      />
                    )}
                  </li>
                );
              })}
            </ul>
          )}
          {provided.length > 0 && (
            <details>
              <summary className="second small" style={{ cursor: "pointer" }}>
                {provided.length} that Orrery provides
              </summary>
              <ul className="stack tight" style={{ marginTop: 8 }}>
                {provided.map((name) => (
                  <li key={name} className="row small">
                    <code style={{ width: "38%", flex: "none" }} className="cut">
                      {name}
                    </code>
                    <code className="grow cut quiet">{rendered[name]}</code>
                  </li>
                ))}
              </ul>
            </details>
          )}
        </>
      )}
    </>
  );
}

type Put = (name: string, value: string, seal?: boolean) => Promise<unknown>;
type Stage = (next: Patch) => Promise<unknown>;

function NewVariable({ put, stage, taken }: { put: Put; stage: Stage | null; taken: string[] }) {
  const [name, setName] = useState("");
  const [value, setValue] = useState("");
  const [seal, setSeal] = useState(false);
  const [busy, setBusy] = useState(false);
  const latest = useRef("");
  latest.current = `${name}=${value}`;
  // What was typed while it was saved belongs to the next one, which stays sealed if it was to be.
  const empty = () => {
    setName((then) => (then === name ? "" : then));
    setValue((then) => (then === value ? "" : then));
    if (latest.current === `${name}=${value}`) setSeal(false);
  };
  const wrong = name !== "" && !NAME.test(name);
  return (
    <form
      className="row wrap"
      style={{ alignItems: "flex-end" }}
      onSubmit={async (event) => {
        event.preventDefault();
        setBusy(true);
        try {
          await put(name, value, seal);
          tell(`${name} is set; deploying with it`);
          empty();
        } catch (error) {
          tell.problem(error);
        } finally {
          setBusy(false);
        }
      }}
    >
      <div style={{ flex: "1 1 140px" }}>
        <Field label="Name">
          <input className="input mono" value={name} onChange={(event) => setName(event.target.value)} placeholder="NAME" autoComplete="off" spellCheck={false} aria-invalid={wrong} />
        </Field>
      </div>
      <div style={{ flex: "2 1 180px" }}>
        <Field label="Value">
          <ReferenceInput value={value} onValue={setValue} placeholder="value or ${{Service.NAME}}" />
        </Field>
      </div>
      <Button type="submit" kind="primary" busy={busy} disabled={!NAME.test(name)}>
        {taken.includes(name) ? "Replace" : "Add"}
      </Button>
      {stage && (
        <Act
          disabled={!NAME.test(name)}
          title="Deployed together with other changes, when you say so"
          act={async () => {
            await stage({ [name]: seal ? { value, isSealed: true } : { value } });
            empty();
          }}
        >
          Stage
        </Act>
      )}
      <label className="row small" style={{ flexBasis: "100%" }}>
        <input type="checkbox" checked={seal} onChange={(event) => setSeal(event.target.checked)} />
        Seal it: from then on only the app reads it
      </label>
      {wrong && (
        <small style={{ flexBasis: "100%", color: "var(--failed)" }} role="alert">
          Names are letters, digits and underscores, and do not begin with a digit.
        </small>
      )}
    </form>
  );
}

/** What is staged may be `null`: that it goes. */
function EditValue({ initial, save, stage, cancel }: { initial: string; save: (value: string) => Promise<void>; stage: ((value: string | null) => Promise<void>) | null; cancel: () => void }) {
  const [value, setValue] = useState(initial);
  return (
    <form
      className="row grow wrap"
      onSubmit={(event) => {
        event.preventDefault();
        void save(value).catch(tell.problem);
      }}
    >
      <ReferenceInput autoFocus value={value} aria-label="New value" onValue={setValue} onKeyDown={(event) => event.key === "Escape" && (event.stopPropagation(), cancel())} />
      <Button type="submit" size="small" kind="primary">
        Save
      </Button>
      {stage && (
        <>
          <Act size="small" title="Deployed together with other changes, when you say so" act={() => stage(value)}>
            Stage
          </Act>
          <Act size="small" kind="plain" title="Deleted together with other changes, when you say so" act={() => stage(null)}>
            Stage deletion
          </Act>
        </>
      )}
      <Button size="small" kind="plain" onClick={cancel}>
        Keep
      </Button>
    </form>
  );
}

function quote(value: string): string {
  return /[\s"'#\\]/.test(value) || value === "" ? JSON.stringify(value) : value;
}

/** NAME=value lines as in a .env file. */
export function parseEnv(text: string): Record<string, string> {
  const out: Record<string, string> = {};
  for (const [index, line] of text.split("\n").entries()) {
    const trimmed = line.trim();
    if (!trimmed || trimmed.startsWith("#")) continue;
    const match = /^(?:export\s+)?([A-Za-z_][A-Za-z0-9_]*)\s*=\s*(.*)$/.exec(trimmed);
    if (!match) throw new Error(`Line ${index + 1} is not NAME=value. Nothing was changed.`);
    const value = match[2];
    if (/^".*"$/s.test(value)) {
      try {
        out[match[1]] = JSON.parse(value) as string;
        continue;
      } catch {
        // Not JSON's escapes: taken as it stands between the quotes.
      }
    }
    out[match[1]] = /^(["']).*\1$/s.test(value) ? value.slice(1, -1) : value;
  }
  return out;
}

/** Variables as they are to be; null takes one away. */
type Patch = Record<string, { value?: string; isSealed?: true } | null>;

function RawEditor({ plain, save, stage, done }: { plain: Record<string, string | null>; save: (next: Patch) => Promise<unknown>; stage: Stage | null; done: () => void }) {
  // What others set while this is typed is not in the text, and is not deleted with it.
  const [begun] = useState(plain);
  const [text, setText] = useState(() =>
    Object.entries(begun)
      .filter(([, value]) => value !== null)
      .map(([name, value]) => `${name}=${quote(value as string)}`)
      .join("\n"),
  );
  const apply = async (how: Stage, said: string) => {
    const next = parseEnv(text);
    const gone = Object.entries(begun).filter(([name, value]) => value !== null && !(name in next));
    const changed = Object.fromEntries(Object.entries(next).filter(([name, value]) => begun[name] !== value));
    // One commit: everything or nothing, and one deployment of each service that is touched.
    const patch: Patch = Object.fromEntries([...gone.map(([name]) => [name, null] as const), ...Object.entries(changed).map(([name, value]) => [name, { value }] as const)]);
    if (Object.keys(patch).length > 0) await how(patch);
    tell(`${Object.keys(changed).length} set, ${gone.length} deleted${said}`);
    done();
  };
  return (
    <div className="stack">
      <textarea className="textarea" style={{ minHeight: 280 }} value={text} onChange={(event) => setText(event.target.value)} aria-label="Variables as NAME=value lines" spellCheck={false} autoFocus />
      <div className="row">
        <Act kind="primary" act={() => apply(save, "")}>
          Save
        </Act>
        {stage && (
          <Act title="Deployed together with other changes, when you say so" act={() => apply(stage, " when the staged changes are deployed")}>
            Stage
          </Act>
        )}
        <Button kind="plain" onClick={done}>
          Discard
        </Button>
        <span className="quiet small">Lines that you take out are deleted. Sealed variables are not shown here and stay.</span>
      </div>
    </div>
  );
}
