import { useQuery } from "@apollo/client/react";
import { useMemo, useState } from "react";
import { change } from "../api/client";
import { CommitStagedDocument, StageChangesDocument, StagedChangesDocument } from "../gql";
import { Act, Button, Dialog, ErrorBox, Field } from "../ui/basic";
import { differences, type Difference } from "../ui/difference";
import { tell } from "../ui/toast";
import { useProject } from "./environment";

interface Props {
  project: string;
  env: string;
  count: number;
  names: Record<string, string>;
}

/** What waits to be deployed together. */
export function StagedBar({ project, env, count, names }: Props) {
  const { viewerCanWrite } = useProject();
  const [open, setOpen] = useState(false);
  if (count === 0) return null;
  return (
    <>
      <section className="staged" aria-label="Staged changes">
        <span>
          <strong className="numbers">{count}</strong> {count === 1 ? "change waits" : "changes wait"} to be deployed
        </span>
        <Button kind="primary" size="small" onClick={() => setOpen(true)}>
          {viewerCanWrite ? "Review and deploy" : "Review"}
        </Button>
      </section>
      {open && <Review project={project} env={env} names={names} onClose={() => setOpen(false)} />}
    </>
  );
}

/** Settings with what they were and what they are. */
export function Differences({ of, label }: { of: Difference[]; label: string }) {
  return (
    <ul className="sheet difference" aria-label={label}>
      {of.map((one) => (
        <li key={one.path}>
          <code className="path">{one.path}</code>
          {one.before !== null && <del>{one.before}</del>}
          {one.after === null ? <em className="quiet">removed</em> : <ins>{one.after}</ins>}
        </li>
      ))}
    </ul>
  );
}

function Review({ project, env, names, onClose }: Omit<Props, "count"> & { onClose: () => void }) {
  const { viewerCanWrite } = useProject();
  const { data, error, refetch } = useQuery(StagedChangesDocument, { variables: { environmentId: env, projectId: project }, fetchPolicy: "no-cache" });
  const [message, setMessage] = useState("");
  const groups = useMemo(() => {
    const grouped = new Map<string, Difference[]>();
    for (const one of data ? differences(data.environmentStagedChanges.patch, data.environment.config) : []) {
      const title = one.service ? (names[one.service] ?? "A new service") : "This environment";
      grouped.set(title, [...(grouped.get(title) ?? []), one]);
    }
    return [...grouped];
  }, [data, names]);
  return (
    <Dialog title="Staged changes" open onClose={onClose} className="wide">
      <div className="section">
        {error && <ErrorBox error={error} retry={() => void refetch()} />}
        {groups.map(([title, changes]) => (
          <section key={title} className="stack tight">
            <h3>{title}</h3>
            <Differences of={changes} label={`Changes of ${title}`} />
          </section>
        ))}
        {data && groups.length === 0 && <p className="second">Nothing is staged any more.</p>}
        {viewerCanWrite && groups.length > 0 && (
          <Field label="Message" hint="Stands in the activity of the project">
            <input className="input" value={message} onChange={(event) => setMessage(event.target.value)} placeholder="Why, if you like" />
          </Field>
        )}
      </div>
      {viewerCanWrite && groups.length > 0 && (
        <footer>
          <Act
            kind="danger"
            act={async () => {
              const kept = data!.environmentStagedChanges.patch as unknown;
              await change(StageChangesDocument, { environmentId: env, input: {}, merge: false });
              onClose();
              tell("The staged changes are discarded", () => void change(StageChangesDocument, { environmentId: env, input: kept, merge: false }).catch(tell.problem));
            }}
          >
            Discard
          </Act>
          <Act
            kind="primary"
            act={async () => {
              await change(CommitStagedDocument, { environmentId: env, message: message.trim() || null });
              onClose();
            }}
            done="Deploying the changes"
          >
            Deploy
          </Act>
        </footer>
      )}
    </Dialog>
  );
}
