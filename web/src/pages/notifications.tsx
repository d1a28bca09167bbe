import { useQuery } from "@apollo/client/react";
import { useParams } from "@tanstack/react-router";
import { useState } from "react";
import { change } from "../api/client";
import { NotificationSettingsSetDocument, NotificationsDocument, type NotificationsQuery } from "../gql";
import { Act, ErrorBox, Field } from "../ui/basic";
import { WorkspaceFrame } from "./workspace-frame";

export function Notifications() {
  const { workspace } = useParams({ from: "/w/$workspace/notifications" });
  const { data, error, refetch } = useQuery(NotificationsDocument, { variables: { workspaceId: workspace }, fetchPolicy: "cache-and-network" });
  return (
    <WorkspaceFrame workspace={workspace} title="Notifications">
      {error && !data && <ErrorBox error={error} retry={() => void refetch()} />}
      {data && <Editor key={workspace} workspace={workspace} of={data} />}
    </WorkspaceFrame>
  );
}

function Editor({ workspace, of }: { workspace: string; of: NotificationsQuery }) {
  const { mail, slack } = of.notificationSettings;
  const all = of.notificationKinds.map((kind) => kind.type);
  const [slackOn, setSlackOn] = useState(slack?.enabled ?? false);
  const [url, setUrl] = useState(slack?.url ?? "");
  const [slackKinds, setSlackKinds] = useState(new Set(slack?.kinds ?? all));
  const [mailOn, setMailOn] = useState(mail?.enabled ?? false);
  const [to, setTo] = useState(mail?.to.join(", ") ?? "");
  const [mailKinds, setMailKinds] = useState(new Set(mail?.kinds ?? all));
  const addresses = to.split(/[\s,;]+/).filter(Boolean);
  return (
    <>
      <section className="stack" aria-label="Webhook">
        <label className="row">
          <input type="checkbox" checked={slackOn} onChange={(event) => setSlackOn(event.target.checked)} />
          <h2>Slack, or any webhook that understands its messages</h2>
        </label>
        <Field label="Address of the incoming webhook">
          <input className="input mono" value={url} onChange={(event) => setUrl(event.target.value.trim())} placeholder="https://hooks.slack.com/services/…" spellCheck={false} />
        </Field>
      </section>
      <section className="stack" aria-label="Mail">
        <label className="row">
          <input type="checkbox" checked={mailOn} onChange={(event) => setMailOn(event.target.checked)} />
          <h2>E-mail</h2>
        </label>
        <Field label="To" hint="Empty: every member of the workspace">
          <input className="input" value={to} onChange={(event) => setTo(event.target.value)} placeholder="ops@example.com, ada@example.com" />
        </Field>
      </section>
      <section className="stack">
        <h2>What is told</h2>
        <div className="table-wrap sheet">
          <table>
            <thead>
              <tr>
                <th>Event</th>
                <th>Webhook</th>
                <th>E-mail</th>
              </tr>
            </thead>
            <tbody>
              {of.notificationKinds.map((kind) => (
                <tr key={kind.type}>
                  <th scope="row">{kind.label}</th>
                  <td>
                    <Tick label={`${kind.label} to the webhook`} kind={kind.type} set={slackKinds} put={setSlackKinds} />
                  </td>
                  <td>
                    <Tick label={`${kind.label} by e-mail`} kind={kind.type} set={mailKinds} put={setMailKinds} />
                  </td>
                </tr>
              ))}
            </tbody>
          </table>
        </div>
      </section>
      <span>
        <Act
          kind="primary"
          act={() =>
            change(NotificationSettingsSetDocument, {
              input: { workspaceId: workspace, slack: url || slackOn ? { enabled: slackOn, url, kinds: [...slackKinds] } : null, mail: { enabled: mailOn, to: addresses, kinds: [...mailKinds] } },
            })
          }
          done="Saved"
        >
          Save
        </Act>
      </span>
    </>
  );
}

function Tick({ label, kind, set, put }: { label: string; kind: string; set: Set<string>; put: (next: Set<string>) => void }) {
  return (
    <input
      type="checkbox"
      aria-label={label}
      checked={set.has(kind)}
      onChange={(event) => {
        const next = new Set(set);
        if (event.target.checked) next.add(kind);
        else next.delete(kind);
        put(next);
      }}
    />
  );
}
