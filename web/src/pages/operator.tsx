import { useQuery } from "@apollo/client/react";
import { ask, change } from "../api/client";
import {
  OperatorBackupCreateDocument,
  OperatorBackupDeleteDocument,
  OperatorDocument,
  OperatorHealthDocument,
  OperatorStorageDocument,
  type OperatorHealthQuery,
  type OperatorQuery,
} from "../gql";
import { Act, Asking, Button, Command, Empty, ErrorBox } from "../ui/basic";
import { Bar } from "../ui/frame";
import { Meter } from "../ui/meter";
import { bytes } from "../ui/series";
import { State, type Tone } from "../ui/state";
import { Ago } from "../ui/time";
import { useAsked } from "../ui/use-asked";
import { useViewer } from "../viewer";
import { PlanSwitch } from "./plan-switch";

type User = OperatorQuery["operator"]["users"][number];
type Check = OperatorHealthQuery["operator"]["health"][number];

/** The server as a whole, for whoever runs it. */
export function Operator() {
  const viewer = useViewer();
  return (
    <>
      <Bar />
      <main className="main narrow">
        {viewer.isAdmin ? (
          <Server />
        ) : (
          <Empty title="This page is for the operator of the server">
            <p>You see your own workspaces and all that is in them.</p>
          </Empty>
        )}
      </main>
    </>
  );
}

function Server() {
  const { data, error, refetch } = useQuery(OperatorDocument, { fetchPolicy: "cache-and-network" });
  if (!data) return error ? <ErrorBox error={error} retry={() => void refetch()} /> : null;
  const { version, users, backups } = data.operator;
  return (
    <>
      <div className="head">
        <h1>This server</h1>
        <span className="badge">Orrery {version}</span>
      </div>
      <div className="stack loose">
        <Health />
        <Storage />
        <Users users={users} />
        <Backups backups={backups} />
        <Commands />
      </div>
    </>
  );
}

const tones: Record<Check["state"], [Tone, string]> = { OK: ["healthy", "Fine"], WARN: ["waiting", "Could be better"], FAIL: ["failed", "Does not work"] };

function Health() {
  // Not asked again with every change on the page: looking takes seconds.
  const { data, error, again } = useAsked(() => ask(OperatorHealthDocument, {}), "health");
  const checks = data?.operator.health ?? [];
  const odd = checks.filter((one) => one.state !== "OK");
  const fine = checks.filter((one) => one.state === "OK");
  return (
    <section className="stack tight" aria-label="Health">
      <div className="row wrap between">
        <h2>Health</h2>
        <Act size="small" act={again}>
          Look again
        </Act>
      </div>
      {Boolean(error) && !data && <ErrorBox error={error} retry={() => void again()} />}
      {!data && !error && <p className="second small">The machine is looked at: its kernel, its programs, its ports, its disk. That takes a few seconds.</p>}
      {data && (
        <ul className="sheet list" aria-label="Findings">
          {odd.map((one) => (
            <Finding key={`${one.name} ${one.found}`} of={one} />
          ))}
          <li>
            <State tone={odd.length === 0 ? "healthy" : "off"}>{odd.length === 0 ? `All ${fine.length} checks are fine` : `${fine.length} more checks are fine`}</State>
          </li>
        </ul>
      )}
      {fine.length > 0 && (
        <details>
          <summary className="small">What is fine</summary>
          <ul className="sheet list" style={{ marginTop: 8 }}>
            {fine.map((one) => (
              <Finding key={`${one.name} ${one.found}`} of={one} />
            ))}
          </ul>
        </details>
      )}
    </section>
  );
}

function Finding({ of }: { of: Check }) {
  const [tone, word] = tones[of.state];
  return (
    <li style={{ alignItems: "flex-start", flexWrap: "wrap" }}>
      <span style={{ flex: "0 0 140px" }}>
        <State tone={tone}>{word}</State>
      </span>
      <span className="stack" style={{ gap: 2, flex: "1 1 220px", minWidth: 0, overflowWrap: "anywhere" }}>
        <strong>{of.name}</strong>
        <span className="second small">{of.found}</span>
        {of.meaning && <span className="small">{of.meaning}</span>}
        {of.remedy && <span className="small quiet">{of.remedy}</span>}
      </span>
    </li>
  );
}

function Storage() {
  const { data, error, again } = useAsked(() => ask(OperatorStorageDocument, {}), "storage");
  if (!data) return error ? <ErrorBox error={error} retry={() => void again()} /> : null;
  const { free, total, parts } = data.operator.storage;
  const used = Math.max(0, total - free);
  return (
    <section className="stack tight" aria-label="Storage">
      <div className="row wrap between">
        <h2>Storage</h2>
        <span className="numbers">
          {bytes(free)} free of {bytes(total)}
        </span>
      </div>
      <Meter label="Disk used" used={used} of={total} text={`${bytes(used)} of ${bytes(total)}`} />
      <div className="sheet table-wrap" tabIndex={0} role="group" aria-label="What takes room">
        <table>
          <tbody>
            {[...parts]
              .sort((a, b) => b.bytes - a.bytes)
              .map((one) => (
                <tr key={one.name}>
                  <th scope="row">{one.name[0].toUpperCase() + one.name.slice(1)}</th>
                  <td className="numbers" style={{ textAlign: "right" }}>
                    {bytes(one.bytes)}
                  </td>
                </tr>
              ))}
          </tbody>
        </table>
      </div>
    </section>
  );
}

function Users({ users }: { users: User[] }) {
  return (
    <section className="stack tight">
      <h2>People and plans</h2>
      <ul className="sheet list" aria-label="People">
        {users.map((user) => (
          <li key={user.id} style={{ flexWrap: "wrap" }}>
            <span className="stack" style={{ gap: 0, flex: "1 1 200px", minWidth: 0 }}>
              <span className="row wrap" style={{ gap: 6 }}>
                <span className="cut">{user.email}</span>
                {user.isAdmin && (
                  <span className="badge" data-tone="accent">
                    Operator
                  </span>
                )}
                {user.twoFactor && <span className="badge">Two-factor</span>}
              </span>
              <small className="quiet">
                {user.name}, since <Ago at={user.createdAt} />
              </small>
            </span>
            <span className="stack tight" style={{ flex: "1 1 260px", minWidth: 0 }}>
              {user.workspaces
                .filter((one) => one.role === "OWNER")
                .map((one) => (
                  <span key={one.id} className="row between">
                    <span className="cut second small" title={one.username}>
                      {one.name}
                    </span>
                    <PlanSwitch workspace={one} />
                  </span>
                ))}
            </span>
          </li>
        ))}
      </ul>
    </section>
  );
}

function Backups({ backups }: { backups: OperatorQuery["operator"]["backups"] }) {
  return (
    <section className="stack tight">
      <div className="row wrap between">
        <h2>Copies of the database</h2>
        <Act size="small" act={() => change(OperatorBackupCreateDocument, {})} done="The database is copied">
          Make a copy now
        </Act>
      </div>
      <p className="second small">
        Users, projects, settings and history, in the folder <code>store-backups</code> of the data directory. Secrets in them open with the file <code>master.key</code> alone: keep it elsewhere. The newest fourteen stay.
      </p>
      {backups.length > 0 && (
        <ul className="sheet list" aria-label="Copies">
          {backups.map((one) => (
            <li key={one.name}>
              <span className="grow stack" style={{ gap: 0, minWidth: 0 }}>
                <code className="cut">{one.name}</code>
                <small className="quiet">
                  <Ago at={one.createdAt} />, {bytes(one.bytes)}
                </small>
              </span>
              <Asking
                title="Delete this copy?"
                name={one.name}
                what="What it holds of the server's state cannot be had again."
                verb="Delete the copy"
                done="The copy is deleted"
                act={() => change(OperatorBackupDeleteDocument, { name: one.name })}
                trigger={(ask) => (
                  <Button size="small" kind="danger" aria-label={`Delete ${one.name}`} onClick={ask}>
                    Delete
                  </Button>
                )}
              />
            </li>
          ))}
        </ul>
      )}
    </section>
  );
}

function Commands() {
  return (
    <section className="stack tight">
      <h2>On the server itself</h2>
      <ul className="sheet list">
        {[
          ["Every setting and where its value comes from", "orrery config --show"],
          ["A new account, with a login link", "orrery user create someone@example.com"],
          ["A login link for somebody who cannot sign in", "orrery login-link --user someone@example.com"],
          ["For somebody who has lost their authenticator app", "orrery user reset-two-factor someone@example.com"],
          ["A copy of the database, for a nightly job", "orrery backup"],
        ].map(([what, command]) => (
          <li key={command} style={{ flexWrap: "wrap" }}>
            <span className="grow" style={{ minWidth: 220 }}>
              {what}
            </span>
            <Command>{command}</Command>
          </li>
        ))}
      </ul>
    </section>
  );
}
