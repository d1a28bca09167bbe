import { HardDrive } from "lucide-react";
import { useState } from "react";
import { change } from "../api/client";
import { VolumeDeleteDocument, VolumeInstanceUpdateDocument, type CanvasQuery } from "../gql";
import { Act, ConfirmByName, Dialog, Field } from "../ui/basic";
import { megabytes } from "../ui/time";
import { useProject } from "./environment";

export type Volume = CanvasQuery["environment"]["volumeInstances"]["edges"][number]["node"];

export function DeleteVolume({ of }: { of: { volume: { id: string; name: string } } }) {
  return (
    <ConfirmByName
      title={`Delete ${of.volume.name}?`}
      name={of.volume.name}
      verb="Delete the volume"
      what="Its files and its backups go in every environment. They stay on the server's disk for 48 hours, out of reach of this page, and are gone then."
      act={() => change(VolumeDeleteDocument, { id: of.volume.id })}
    />
  );
}

/** Its place on the canvas. */
export function VolumeButton({ of, open }: { of: Volume; open: (id: string) => void }) {
  return (
    <button type="button" className="node nopan" onClick={() => open(of.id)}>
      <span className="stack" style={{ gap: 2, minWidth: 0 }}>
        <span className="row">
          <HardDrive size={14} className="quiet" />
          <span className="name cut">{of.volume.name}</span>
        </span>
        <span className="where cut">
          {of.mountPath}, {megabytes(of.currentSizeMB)} of {megabytes(of.sizeMB)}
        </span>
      </span>
      <span className="small quiet">No service has it</span>
    </button>
  );
}

/** A volume that no service has, and the services that can take it. */
export function IdleVolume({ of, env, services, onClose }: { of: Volume | undefined; env: string; services: [id: string, name: string][]; onClose: () => void }) {
  const { viewerCanWrite } = useProject();
  const [wanted, setWanted] = useState("");
  const service = services.some(([id]) => id === wanted) ? wanted : services[0]?.[0];
  return (
    <Dialog title={of?.volume.name ?? ""} open={of !== undefined} onClose={onClose}>
      {of && (
        <>
          <div className="section">
            <p>
              No service has this volume: its files are kept as they are, and no app sees them. <code>{of.mountPath}</code> was their folder; {megabytes(of.currentSizeMB)} of {megabytes(of.sizeMB)} are used.
            </p>
            {viewerCanWrite && services.length > 0 && (
              <Field label="Attach it to" hint="The service is deployed again, with the files">
                <select className="select" value={service} onChange={(event) => setWanted(event.target.value)}>
                  {services.map(([id, name]) => (
                    <option key={id} value={id}>
                      {name}
                    </option>
                  ))}
                </select>
              </Field>
            )}
            {viewerCanWrite && services.length === 0 && <p className="second small">Each service here has a volume already, and one is all it can have.</p>}
          </div>
          {viewerCanWrite && (
            <footer>
              <DeleteVolume of={of} />
              <Act
                kind="primary"
                disabled={!service}
                act={async () => {
                  await change(VolumeInstanceUpdateDocument, { id: of.volume.id, environmentId: env, input: { serviceId: service } });
                  onClose();
                }}
                done={`${of.volume.name} is attached`}
              >
                Attach
              </Act>
            </footer>
          )}
        </>
      )}
    </Dialog>
  );
}
