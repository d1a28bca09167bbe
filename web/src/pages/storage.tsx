import { useQuery } from "@apollo/client/react";
import { useParams } from "@tanstack/react-router";
import { MoreHorizontal, Trash2 } from "lucide-react";
import { useState } from "react";
import { change } from "../api/client";
import { useNews } from "../api/news";
import { BackupCreateDocument, BackupDeleteDocument, BackupLockDocument, BackupRestoreDocument, BackupScheduleDocument, BackupsDocument, StorageDocument, TcpProxyCreateDocument, TcpProxyDeleteDocument, VolumeCreateDocument, VolumeInstanceUpdateDocument, VolumeUpdateDocument, type StorageQuery, type VolumeInstanceBackupScheduleKind } from "../gql";
import { Act, Asking, Button, Command, Confirm, Empty, ErrorBox, Field } from "../ui/basic";
import { Item, Menu } from "../ui/menu";
import { Ago, megabytes, Until } from "../ui/time";
import { tell } from "../ui/toast";
import { useProject } from "./environment";
import { DeleteVolume } from "./idle-volume";
import { useInstance } from "./service";
import { useWork, WorkProgress } from "./volume-work";

type Instance = StorageQuery["environment"]["volumeInstances"]["edges"][number]["node"];

export function Storage() {
  const { project, env, service } = useParams({ from: "/p/$project/$env/canvas/s/$service/$tab" });
  const { viewerCanWrite, workspaceId } = useProject();
  const { serviceName } = useInstance();
  const { data, error, refetch } = useQuery(StorageDocument, { variables: { projectId: project, environmentId: env, serviceId: service }, fetchPolicy: "cache-and-network" });
  useNews(workspaceId, refetch);
  if (!data) return <div className="panel-body">{error && <ErrorBox error={error} retry={() => void refetch()} />}</div>;
  const all = data.environment.volumeInstances.edges.map((edge) => edge.node).filter((one) => !one.isPendingDeletion);
  const volumes = all.filter((one) => one.serviceId === service);
  const idle = all.filter((one) => one.serviceId === null);
  return (
    <div className="panel-body">
      {volumes.map((volume) => (
        <Volume key={volume.id} of={volume} env={env} />
      ))}
      {volumes.length === 0 && (
        <Empty title="No volume">
          <p>Files that the app writes are gone with its next deployment. A volume keeps those below one folder, through deployments and restarts.</p>
          {viewerCanWrite && <NewVolume project={project} env={env} service={service} />}
          {viewerCanWrite && <Command>{`orrery railway -- volume --service ${serviceName} add --mount-path /data`}</Command>}
        </Empty>
      )}
      {idle.length > 0 && <Idle volumes={idle} env={env} service={service} isFree={volumes.length === 0} />}
      <Ports env={env} service={service} ports={data.tcpProxies} />
    </div>
  );
}

/** Volumes of the environment that no service has. */
function Idle({ volumes, env, service, isFree }: { volumes: Instance[]; env: string; service: string; isFree: boolean }) {
  const { viewerCanWrite } = useProject();
  return (
    <section className="stack tight" aria-label="Volumes without a service">
      <h2>Volumes without a service</h2>
      <ul className="sheet list">
        {volumes.map((one) => (
          <li key={one.id} style={{ flexWrap: "wrap" }}>
            <span className="grow stack" style={{ gap: 0 }}>
              <span className="cut">{one.volume.name}</span>
              <small className="quiet">
                <code>{one.mountPath}</code>, {megabytes(one.currentSizeMB)} of {megabytes(one.sizeMB)}
              </small>
            </span>
            {viewerCanWrite && (
              <>
                <Act size="small" disabled={!isFree} title={isFree ? undefined : "A service has one volume"} aria-label={`Attach here: ${one.volume.name}`} act={() => change(VolumeInstanceUpdateDocument, { id: one.volume.id, environmentId: env, input: { serviceId: service } })} done={`${one.volume.name} is attached`}>
                  Attach here
                </Act>
                <DeleteVolume of={one} />
              </>
            )}
          </li>
        ))}
      </ul>
    </section>
  );
}

/** What a volume is called and where the app sees it, and taking it from the app. */
function Place({ of, env }: { of: Instance; env: string }) {
  const [name, setName] = useState<string | null>(null);
  const [path, setPath] = useState<string | null>(null);
  const wanted = { name: (name ?? of.volume.name).trim(), path: (path ?? of.mountPath).trim() };
  const [renames, moves] = [wanted.name !== of.volume.name, wanted.path !== of.mountPath];
  return (
    <>
      <div className="two-columns">
        <Field label="Name of the volume">
          <input className="input" value={name ?? of.volume.name} onChange={(event) => setName(event.target.value)} />
        </Field>
        <Field label="Folder in the app" hint="Another folder deploys the service again">
          <input className="input mono" value={path ?? of.mountPath} onChange={(event) => setPath(event.target.value)} spellCheck={false} />
        </Field>
      </div>
      <div className="row wrap">
        {(renames || moves) && (
          <Act
            kind="primary"
            disabled={!wanted.name || !wanted.path.startsWith("/")}
            act={async () => {
              if (renames) await change(VolumeUpdateDocument, { id: of.volume.id, input: { name: wanted.name } });
              if (moves) await change(VolumeInstanceUpdateDocument, { id: of.volume.id, environmentId: env, input: { mountPath: wanted.path } });
              setName((then) => (then === name ? null : then));
              setPath((then) => (then === path ? null : then));
            }}
            done="Saved"
          >
            Save
          </Act>
        )}
        <Asking
          title={`Detach ${of.volume.name}?`}
          what="The service is deployed again without its files. They stay as they are, and can be attached again, here or to another service of this environment."
          verb="Detach it"
          done={`${of.volume.name} is detached`}
          act={() => change(VolumeInstanceUpdateDocument, { id: of.volume.id, environmentId: env, input: { serviceId: null } })}
          trigger={(ask) => <Button onClick={ask}>Detach…</Button>}
        />
        <DeleteVolume of={of} />
      </div>
    </>
  );
}

function NewVolume({ project, env, service }: { project: string; env: string; service: string }) {
  const [path, setPath] = useState("/data");
  return (
    <div className="row" style={{ alignItems: "flex-end" }}>
      <Field label="Folder in the app">
        <input className="input mono" value={path} onChange={(event) => setPath(event.target.value)} spellCheck={false} />
      </Field>
      <Act kind="primary" disabled={!path.startsWith("/")} act={() => change(VolumeCreateDocument, { input: { projectId: project, environmentId: env, serviceId: service, mountPath: path } })} done="The next deployment has the volume">
        Add a volume
      </Act>
    </div>
  );
}

const kinds = { DAILY: "Daily", WEEKLY: "Weekly", MONTHLY: "Monthly" } as const satisfies Record<VolumeInstanceBackupScheduleKind, string>;

function Volume({ of, env }: { of: Instance; env: string }) {
  const { viewerCanWrite, workspaceId } = useProject();
  const asked = useQuery(BackupsDocument, { variables: { volumeInstanceId: of.id }, fetchPolicy: "cache-and-network" });
  useNews(workspaceId, asked.refetch);
  const backups = asked.data?.volumeInstanceBackupList ?? [];
  const [wanted, setWanted] = useState<VolumeInstanceBackupScheduleKind[] | null>(null);
  const scheduled = wanted ?? asked.data?.volumeInstanceBackupScheduleList.map((one) => one.kind) ?? [];
  const instance = useInstance();
  const [work, begin] = useWork(of.id);
  const running = instance.activeDeployments.flatMap((one) => one.instances).filter((one) => one.status === "RUNNING").length;
  const [restoring, setRestoring] = useState<string | null>(null);
  const [deleting, setDeleting] = useState<(typeof backups)[number] | null>(null);
  return (
    <section className="stack" aria-label={`Volume ${of.volume.name}`}>
      <div className="row between wrap">
        <div className="stack" style={{ gap: 2 }}>
          <h2>{of.volume.name}</h2>
          <code className="quiet">{of.mountPath}</code>
        </div>
        <span className="numbers">
          {megabytes(of.currentSizeMB)} of {megabytes(of.sizeMB)}
        </span>
      </div>
      <div className="progress" role="meter" aria-label="Space used" aria-valuemin={0} aria-valuemax={of.sizeMB} aria-valuenow={Math.round(of.currentSizeMB)}>
        <div style={{ width: `${Math.min(100, (of.currentSizeMB / of.sizeMB) * 100)}%` }} />
      </div>
      <div className="row between wrap">
        <h3>Backups</h3>
        {viewerCanWrite && (
          <span className="row wrap">
            {(Object.keys(kinds) as VolumeInstanceBackupScheduleKind[]).map((kind) => (
              <label key={kind} className="row small" style={{ gap: 4 }}>
                <input
                  type="checkbox"
                  checked={scheduled.includes(kind)}
                  onChange={(event) => {
                    const kinds = event.target.checked ? [...scheduled, kind] : scheduled.filter((one) => one !== kind);
                    setWanted(kinds);
                    void change(BackupScheduleDocument, { instance: of.id, kinds })
                      .then(() => asked.refetch(), tell.problem)
                      .finally(() => setWanted(null));
                  }}
                />
                {kinds[kind]}
              </label>
            ))}
            <Act size="small" disabled={work !== null} act={async () => begin("backup", (await change(BackupCreateDocument, { instance: of.id })).volumeInstanceBackupCreate.workflowId)}>
              Back up now
            </Act>
          </span>
        )}
      </div>
      {work ? <WorkProgress {...work} running={running} size={of.currentSizeMB} /> : of.state === "RESTORING" && <WorkProgress kind="restore" running={running} size={of.currentSizeMB} />}
      {asked.error && !asked.data && <ErrorBox error={asked.error} retry={() => void asked.refetch()} />}
      {asked.data && backups.length === 0 && !work && <p className="second small">No backup yet. One takes the files as they are at one moment; the service stands still while they are copied.{viewerCanWrite && " “Back up now” makes the first; the boxes beside it make one on a schedule."}</p>}
      {backups.length > 0 && (
        <ul className="sheet list" aria-label="Backups">
          {backups.map((backup) => (
            <li key={backup.id}>
              <span className="grow stack" style={{ gap: 0 }}>
                <span className="cut">{backup.name ?? "Backup"}</span>
                <small className="quiet">
                  <Ago at={backup.createdAt} />
                  {backup.expiresAt && (
                    <>
                      , kept until <Until at={backup.expiresAt} />
                    </>
                  )}
                </small>
              </span>
              {backup.usedMB != null && <span className="small quiet numbers">{megabytes(backup.usedMB)}</span>}
              {viewerCanWrite && (
                <Menu
                  align="end"
                  trigger={
                    <button type="button" className="icon-button" aria-label="What can be done with this backup">
                      <MoreHorizontal size={16} />
                    </button>
                  }
                >
                  <Item onSelect={() => setRestoring(backup.id)}>Restore…</Item>
                  {backup.expiresAt && (
                    <Item onSelect={() => void change(BackupLockDocument, { instance: of.id, backup: backup.id }).then(() => tell("The backup is kept for good"), tell.problem)}>Keep for good</Item>
                  )}
                  <Item tone="danger" onSelect={() => setDeleting(backup)}>
                    Delete…
                  </Item>
                </Menu>
              )}
            </li>
          ))}
        </ul>
      )}
      <Confirm
        title="Restore this backup?"
        what={`The files of ${of.volume.name} become what they were then, and what was written since is lost. The service restarts with them.`}
        verb="Restore"
        keep="Keep the files"
        name={of.volume.name}
        act={async () => begin("restore", (await change(BackupRestoreDocument, { instance: of.id, backup: restoring! })).volumeInstanceBackupRestore.workflowId)}
        open={restoring !== null}
        onClose={() => setRestoring(null)}
      />
      <Confirm
        title="Delete this backup?"
        what={`What ${of.volume.name} held then cannot be had again.`}
        verb="Delete the backup"
        name={deleting?.name ?? of.volume.name}
        act={async () => {
          await change(BackupDeleteDocument, { instance: of.id, backup: deleting!.id });
          await asked.refetch();
        }}
        done="The backup is deleted"
        open={deleting !== null}
        onClose={() => setDeleting(null)}
      />
      {viewerCanWrite && <Place of={of} env={env} />}
    </section>
  );
}

function Ports({ env, service, ports }: { env: string; service: string; ports: StorageQuery["tcpProxies"] }) {
  const { viewerCanWrite } = useProject();
  const [port, setPort] = useState("");
  return (
    <section className="stack" aria-label="TCP">
      <h2>TCP from outside</h2>
      {ports.map((one) => (
        <div key={one.id} className="row">
          <Command>{`${one.domain}:${one.proxyPort}`}</Command>
          <span className="small quiet grow">to port {one.applicationPort} of the app</span>
          {viewerCanWrite && (
            <Asking
              title={`Close port ${one.proxyPort}?`}
              what="Whoever is connected through it is cut off. Opened again, the app may get another port."
              verb="Close the port"
              keep="Leave it open"
              done={`Port ${one.proxyPort} is closed`}
              act={() => change(TcpProxyDeleteDocument, { id: one.id })}
              trigger={(ask) => (
                <button type="button" className="icon-button" aria-label={`Close port ${one.proxyPort}`} onClick={ask}>
                  <Trash2 size={14} />
                </button>
              )}
            />
          )}
        </div>
      ))}
      {ports.length === 0 && <p className="second small">Nothing but HTTP reaches this service from outside. An open port passes TCP on as it is.</p>}
      {viewerCanWrite && (
        <div className="row" style={{ alignItems: "flex-end" }}>
          <div style={{ width: 160 }}>
            <Field label="Port of the app">
              <input className="input numbers" inputMode="numeric" value={port} onChange={(event) => setPort(event.target.value.trim())} placeholder="5432" />
            </Field>
          </div>
          <Act
            disabled={!/^[1-9]\d{0,4}$/.test(port)}
            act={async () => {
              await change(TcpProxyCreateDocument, { input: { environmentId: env, serviceId: service, applicationPort: Number(port) } });
              setPort("");
            }}
          >
            Open
          </Act>
        </div>
      )}
    </section>
  );
}
