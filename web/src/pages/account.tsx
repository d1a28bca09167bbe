import { Link, useNavigate } from "@tanstack/react-router";
import { useState } from "react";
import { change } from "../api/client";
import { AccountUpdateDocument, WorkspaceCreateDocument } from "../gql";
import { Act, Field } from "../ui/basic";
import { useViewer } from "../viewer";
import { AccountFrame } from "./account-frame";
import { GalaxyKey } from "./galaxy-key";
import { Security } from "./security";

export function Account() {
  const viewer = useViewer();
  return (
    <AccountFrame title="Account">
      <Profile key={`${viewer.name} ${viewer.email}`} />
      <Security />
      <GalaxyKey />
      <Told />
      <NewWorkspace />
    </AccountFrame>
  );
}

/** What others see. An operator chooses the address that they sign in with; others ask one. */
function Profile() {
  const viewer = useViewer();
  const [name, setName] = useState(viewer.name ?? "");
  const [email, setEmail] = useState(viewer.email);
  const [password, setPassword] = useState("");
  const moves = email.trim() !== viewer.email;
  return (
    <form className="stack tight" aria-label="Profile" onSubmit={(event) => event.preventDefault()}>
      <h2>Profile</h2>
      <span className="small quiet">
        <code>{viewer.id}</code>
      </span>
      <div className="row wrap" style={{ alignItems: "flex-end" }}>
        <div style={{ flex: "1 1 180px" }}>
          <Field label="Your name">
            <input className="input" autoComplete="name" value={name} onChange={(event) => setName(event.target.value)} maxLength={64} />
          </Field>
        </div>
        <div style={{ flex: "1 1 180px" }}>
          <Field label="Your address" hint={viewer.isAdmin ? undefined : "An operator of this server changes it."}>
            <input className="input" type="email" autoComplete="email" value={email} readOnly={!viewer.isAdmin} onChange={(event) => setEmail(event.target.value)} />
          </Field>
        </div>
        {moves && (
          <div style={{ flex: "1 1 180px" }}>
            <Field label="Your password, if you have one">
              <input className="input" type="password" autoComplete="current-password" value={password} onChange={(event) => setPassword(event.target.value)} />
            </Field>
          </div>
        )}
        <Act
          type="submit"
          disabled={!name.trim() || !email.trim() || (name === viewer.name && !moves)}
          act={() => change(AccountUpdateDocument, { input: { name: name.trim(), email: moves ? email.trim() : null, password: password || null } })}
          done="Saved"
        >
          Save
        </Act>
      </div>
    </form>
  );
}

/** What is told of is said for each workspace. */
function Told() {
  return (
    <section className="stack tight">
      <h2>Notifications</h2>
      <p className="second small">
        By mail and by webhook, for each of your workspaces:{" "}
        {useViewer().workspaces.map((one, at) => (
          <span key={one.id}>
            {at > 0 && ", "}
            <Link to="/w/$workspace/notifications" params={{ workspace: one.id }}>
              {one.name}
            </Link>
          </span>
        ))}
      </p>
    </section>
  );
}

function NewWorkspace() {
  const [name, setName] = useState("");
  const navigate = useNavigate();
  return (
    <section className="stack tight">
      <h2>New workspace</h2>
      <p className="second small">Projects that you share with others live in a workspace of yours, whose members you choose.</p>
      <div className="row wrap" style={{ alignItems: "flex-end" }}>
        <div style={{ flex: "1 1 200px", maxWidth: 320 }}>
          <Field label="Name of the workspace">
            <input className="input" value={name} onChange={(event) => setName(event.target.value)} maxLength={64} placeholder="Observatory" />
          </Field>
        </div>
        <Act
          disabled={!name.trim()}
          act={async () => {
            const made = (await change(WorkspaceCreateDocument, { name: name.trim() })).workspaceCreate;
            setName("");
            await navigate({ to: "/w/$workspace/members", params: { workspace: made.id } });
          }}
        >
          Make the workspace
        </Act>
      </div>
    </section>
  );
}
