import { useNavigate } from "@tanstack/react-router";
import { useState, type ReactNode } from "react";
import { ask, change, refresh } from "../api/client";
import { archive, fromDrop, fromInput, upload, type Picked } from "../api/upload";
import { DeploymentDocument, ProjectCreateDocument, ServiceCreateDocument } from "../gql";
import { Dialog } from "./basic";
import { bytes } from "./series";
import { tell } from "./toast";

/** Where a folder goes: into a service, into an environment as a new service, or into a new project. */
export type Place = { workspace: string; name?: string } | { project: string; env: string; service?: { id: string; name: string } };

interface Step {
  text: string;
  part?: number;
}

/** Takes a folder all the way to a deployment under way, and shows how far it is. */
export function useFolderDeploy(place: Place): { begin: (picked: Picked) => void; dialog: ReactNode } {
  const [step, setStep] = useState<Step | null>(null);
  const navigate = useNavigate();
  const begin = async (picked: Picked): Promise<void> => {
    if (picked.files.length === 0) {
      tell.problem(new Error("There are no files in what you dropped."));
      return;
    }
    try {
      setStep({ text: `Packing ${picked.files.length.toLocaleString()} files` });
      const packed = await archive(picked);
      let project: string;
      let env: string;
      let service: string | null = null;
      if ("project" in place) {
        ({ project, env } = place);
        service = place.service?.id ?? (await change(ServiceCreateDocument, { input: { projectId: project, environmentId: env, name: nameFor(picked.name) } })).serviceCreate.id;
      } else {
        setStep({ text: "Making the project" });
        const made = (await change(ProjectCreateDocument, { input: { workspaceId: place.workspace, name: place.name || nameFor(picked.name) } })).projectCreate;
        project = made.id;
        env = made.environments.edges[0].node.id;
      }
      setStep({ text: `Uploading ${bytes(packed.size)}`, part: 0 });
      const sent = await upload(project, env, service, packed, `Folder ${picked.name}`, (part) => setStep({ text: `Uploading ${bytes(packed.size)}`, part }));
      const { deployment } = await ask(DeploymentDocument, { id: sent.deploymentId });
      await refresh();
      if (picked.left.length > 0) tell(`Left out, as builds make them anew: ${picked.left.join(", ")}`);
      await navigate({ to: "/p/$project/$env/s/$service/deployments/$deployment", params: { project, env, service: deployment.serviceId ?? "", deployment: sent.deploymentId } });
    } catch (error) {
      tell.problem(error);
    } finally {
      setStep(null);
    }
  };
  const dialog = step && (
    <Dialog title="Deploying the folder" open onClose={() => undefined}>
      <div className="section" role="status">
        <span>{step.text}</span>
        <div className="progress">
          <div style={{ width: `${Math.round((step.part ?? 0.02) * 100)}%` }} />
        </div>
      </div>
    </Dialog>
  );
  return { begin: (picked) => void begin(picked), dialog };
}

export function nameFor(folder: string): string {
  return folder.toLowerCase().replace(/[^a-z0-9-]+/g, "-").replace(/^-+|-+$/g, "").slice(0, 32) || "app";
}

/** A part of the page that takes a dropped folder. */
export function DropArea({ place, enabled, hint, children, className, style }: { place: Place; enabled: boolean; hint: string; children: ReactNode; className?: string; style?: React.CSSProperties }) {
  const [over, setOver] = useState(false);
  const { begin, dialog } = useFolderDeploy(place);
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
      {dialog}
    </div>
  );
}

/** A button that opens the browser's choice of a folder. */
export function FolderButton({ place, children, kind, size }: { place: Place; children: ReactNode; kind?: "primary"; size?: "small" }) {
  const { begin, dialog } = useFolderDeploy(place);
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
      {dialog}
    </>
  );
}
