import { useNavigate } from "@tanstack/react-router";
import { FolderUp, Globe } from "lucide-react";
import { useState } from "react";
import { change } from "../api/client";
import { ServiceCreateDocument } from "../gql";
import { Act, Dialog, Field } from "../ui/basic";
import { FolderButton, nameFor } from "../ui/deploy-folder";
import { Templates } from "./templates";

/** Adds a service to an environment: a folder, a template, a database, or an empty one. */
export function AddService({ open, onClose, project, env }: { open: boolean; onClose: () => void; project: string; env: string }) {
  const navigate = useNavigate();
  const [name, setName] = useState("");
  return (
    <Dialog title="Add to this environment" open={open} onClose={onClose} className="wide">
      <div className="section">
        <FolderButton place={{ project, env }}>
          <FolderUp size={14} /> Deploy a folder
        </FolderButton>
        <p className="small quiet">You can also drop a folder on the canvas at any time.</p>
        <hr style={{ width: "100%", border: 0, borderTop: "1px solid var(--line)" }} />
        {open && <Templates into={async () => ({ projectId: project, environmentId: env })} done={onClose} />}
        <hr style={{ width: "100%", border: 0, borderTop: "1px solid var(--line)" }} />
        <Field label="An empty service" hint="Deploy to it later, from a folder or the command line">
          <input className="input" value={name} onChange={(event) => setName(event.target.value)} placeholder="worker" />
        </Field>
      </div>
      <footer>
        <Act
          kind="primary"
          disabled={!name.trim()}
          act={async () => {
            const made = await change(ServiceCreateDocument, { input: { projectId: project, environmentId: env, name: nameFor(name) } });
            onClose();
            setName("");
            await navigate({ to: "/p/$project/$env/s/$service", params: { project, env, service: made.serviceCreate.id } });
          }}
        >
          <Globe size={14} /> Make the service
        </Act>
      </footer>
    </Dialog>
  );
}
