import { useNavigate } from "@tanstack/react-router";
import { useState, type ReactNode } from "react";
import { ask, change, problemOf, refresh } from "../api/client";
import { archive, fromDrop, fromInput, upload, type Picked } from "../api/upload";
import { DeploymentDocument, ProjectCreateDocument, ProjectDeleteDocument, ServiceCreateDocument, ServiceDeleteDocument } from "../gql";
import { Button, Dialog } from "./basic";
import { showOver } from "./over";
import { bytes } from "./series";
import { Elapsed } from "./time";
import { tell } from "./toast";

/** Where a folder goes: into a service, into an environment as a new service, or into a new project. */
export type Place = { workspace: string; name?: string } | { project: string; env: string; service?: { id: string; name: string } };

/** What was made for a folder that then could not be uploaded: the next try goes on with it. */
interface Made {
  project: string;
  env: string;
  service: string | null;
  takeAway: () => Promise<unknown>;
}

const made = new Map<string, Made>();
let isBusy = false;
/** What was cancelled is gone before the next begins. */
let cleared: Promise<unknown> = Promise.resolve();

async function make(place: Place, folder: string): Promise<Made> {
  if (!("project" in place)) {
    const { id, environments } = (await change(ProjectCreateDocument, { input: { workspaceId: place.workspace, name: place.name || nameFor(folder) } })).projectCreate;
    return { project: id, env: environments.edges[0].node.id, service: null, takeAway: () => change(ProjectDeleteDocument, { id }) };
  }
  const { project, env } = place;
  const { id } = (await change(ServiceCreateDocument, { input: { projectId: project, environmentId: env, name: nameFor(folder) } })).serviceCreate;
  return { project, env, service: id, takeAway: () => change(ServiceDeleteDocument, { id }) };
}

type Tell = (text: string, part: number) => void;
type Target = Pick<Made, "project" | "env" | "service">;

/** Packs a folder, makes what it goes into, and uploads it. */
async function send(place: Place, picked: Picked, key: string, tellStep: Tell, signal: AbortSignal): Promise<Target & { deployment: string }> {
  const packing = `Packing ${picked.files.length.toLocaleString()} files`;
  tellStep(packing, 0);
  const packed = await archive(picked, (part) => tellStep(packing, part), signal);
  signal.throwIfAborted();
  let target: Target;
  if ("project" in place && place.service) target = { ...place, service: place.service.id };
  else {
    const into = made.get(key) ?? (await make(place, picked.name));
    made.set(key, into);
    target = into;
  }
  signal.throwIfAborted();
  const uploading = `Uploading ${bytes(packed.size)}`;
  tellStep(uploading, 0);
  const { deploymentId } = await upload(target.project, target.env, target.service, packed, `Folder ${picked.name}`, (part) => tellStep(part < 1 ? uploading : "The server reads it", part), signal);
  made.delete(key);
  return { ...target, deployment: deploymentId };
}

/** Leaves nothing behind that was made for what is cancelled. */
async function clear(key: string): Promise<void> {
  const left = made.get(key);
  made.delete(key);
  await left?.takeAway();
  tell("The upload is cancelled");
}

/** Takes a folder all the way to a deployment under way, and shows how far it is, on whatever page one is meanwhile. */
export function useFolderDeploy(place: Place): (picked: Picked) => void {
  const navigate = useNavigate();
  const begin = async (picked: Picked): Promise<void> => {
    if (picked.files.length === 0) {
      tell.problem(new Error("There are no files in what you dropped."));
      return;
    }
    if (isBusy) return;
    isBusy = true;
    await cleared;
    const stop = new AbortController();
    const { signal } = stop;
    const since = new Date().toISOString();
    const key = JSON.stringify([place, picked.name]);
    const cancel = () => {
      stop.abort();
      showOver(null);
    };
    let [said, isSent] = ["", false];
    const tellStep = (text: string, part: number) => {
      const percent = Math.round(part * 100);
      if (signal.aborted || said === `${text} ${percent}`) return;
      said = `${text} ${percent}`;
      showOver(<Progress text={text} percent={percent} since={since} cancel={cancel} />);
    };
    try {
      const { project, env, deployment: id } = await send(place, picked, key, tellStep, signal);
      isSent = true;
      const { deployment } = await ask(DeploymentDocument, { id });
      await refresh();
      if (picked.left.length > 0) tell(`Left out, as builds make them anew: ${picked.left.join(", ")}`);
      if (signal.aborted) return tell("That came too late: the folder is being deployed");
      await navigate({ to: "/p/$project/$env/s/$service/deployments/$deployment", params: { project, env, service: deployment.serviceId ?? "", deployment: id } });
    } catch (error) {
      if (signal.aborted && !isSent) cleared = clear(key).catch(tell.problem);
      else {
        // What was made may have been deleted since.
        if (problemOf(error).code === "NOT_FOUND") made.delete(key);
        tell.problem(error);
      }
    } finally {
      isBusy = false;
      showOver(null);
    }
  };
  return (picked) => void begin(picked);
}

function Progress({ text, percent, since, cancel }: { text: string; percent: number; since: string; cancel: () => void }) {
  return (
    <Dialog title="Deploying the folder" open onClose={cancel} stays>
      <div className="section">
        <div className="row between">
          <span role="status">{text}</span>
          <span className="small quiet" aria-hidden="true">
            <Elapsed since={since} />
          </span>
        </div>
        <div className="progress" role="progressbar" aria-label={text} aria-valuenow={percent}>
          <div style={{ width: `${Math.max(2, percent)}%` }} />
        </div>
      </div>
      <footer>
        <Button onClick={cancel}>Cancel</Button>
      </footer>
    </Dialog>
  );
}

export function nameFor(folder: string): string {
  return folder.toLowerCase().replace(/[^a-z0-9-]+/g, "-").replace(/^-+|-+$/g, "").slice(0, 32) || "app";
}

/** A part of the page that takes a dropped folder. */
export function DropArea({ place, enabled, hint, children, className, style }: { place: Place; enabled: boolean; hint: string; children: ReactNode; className?: string; style?: React.CSSProperties }) {
  const [over, setOver] = useState(false);
  const begin = useFolderDeploy(place);
  if (!enabled) return <div className={className} style={style}>{children}</div>;
  return (
    <div
      className={className}
      style={style}
      data-drop="true"
      onDragOver={(event) => {
        if (!event.dataTransfer.types.includes("Files")) return;
        event.preventDefault();
        setOver(true);
      }}
      onDragLeave={(event) => !event.currentTarget.contains(event.relatedTarget as Node) && setOver(false)}
      onDrop={(event) => {
        event.preventDefault();
        setOver(false);
        void fromDrop(event.dataTransfer.items).then(begin);
      }}
    >
      {over && <div className="drop-hint">{hint}</div>}
      {children}
    </div>
  );
}

/** A button that opens the browser's choice of a folder. */
export function FolderButton({ place, children, kind, size }: { place: Place; children: ReactNode; kind?: "primary"; size?: "small" }) {
  const begin = useFolderDeploy(place);
  return (
    <>
      <label className="button" data-kind={kind} data-size={size} style={{ position: "relative" }}>
        {children}
        <input
          type="file"
          className="hidden"
          // @ts-expect-error every browser knows it, React's types do not
          webkitdirectory=""
          multiple
          onChange={(event) => {
            const { files } = event.currentTarget;
            if (files && files.length > 0) begin(fromInput(files));
            event.currentTarget.value = "";
          }}
        />
      </label>
    </>
  );
}
