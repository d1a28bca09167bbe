import { useNavigate } from "@tanstack/react-router";
import { useState } from "react";
import { change } from "../api/client";
import { WorkspaceCreateDocument } from "../gql";
import { Act, Field } from "../ui/basic";
import { useViewer } from "../viewer";
import { AccountFrame } from "./account-frame";
import { GalaxyKey } from "./galaxy-key";
import { Security } from "./security";

export function Account() {
  const viewer = useViewer();
  return (
    <AccountFrame title="Account">
      <section className="sheet">
        <div className="section stack tight">
          <strong>{viewer.name}</strong>
          <span className="second">{viewer.email}</span>
          <span className="small quiet">
            <code>{viewer.id}</code>
          </span>
        </div>
      </section>
      <Security />
      <GalaxyKey />
      <NewWorkspace />
    </AccountFrame>
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
