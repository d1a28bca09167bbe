import { useQuery } from "@apollo/client/react";
import { useState } from "react";
import { change } from "../api/client";
import { ApiTokenCreateDocument, ApiTokenDeleteDocument, TokensDocument } from "../gql";
import { Act, Asking, Button, Command, Empty, ErrorBox, Field, Shown } from "../ui/basic";
import { Until } from "../ui/time";
import { useViewer } from "../viewer";
import { AccountFrame } from "./account-frame";

export function Tokens() {
  const viewer = useViewer();
  const { data, error, refetch } = useQuery(TokensDocument, { fetchPolicy: "cache-and-network" });
  const [name, setName] = useState("");
  const [workspace, setWorkspace] = useState("");
  const [secret, setSecret] = useState<string | null>(null);
  const tokens = data?.apiTokens.edges.map((edge) => edge.node) ?? [];
  return (
    <AccountFrame title="Tokens">
      <section className="stack">
        <p className="second">
          A token opens <code>{location.origin}/graphql/v2</code> and the command line, as <code>Authorization: Bearer …</code>. Without a workspace it can do everything that you can.
        </p>
        {secret && <Shown secret={secret} what="token" />}
        <div className="row wrap" style={{ alignItems: "flex-end" }}>
          <div style={{ flex: "2 1 180px" }}>
            <Field label="Name">
              <input className="input" value={name} onChange={(event) => setName(event.target.value)} placeholder="laptop" />
            </Field>
          </div>
          <div style={{ flex: "1 1 160px" }}>
            <Field label="Workspace">
              <select className="select" value={workspace} onChange={(event) => setWorkspace(event.target.value)}>
                <option value="">No workspace</option>
                {viewer.workspaces
                  .filter((one) => one.viewerCanAdminister)
                  .map((one) => (
                    <option key={one.id} value={one.id}>
                      {one.name}
                    </option>
                  ))}
              </select>
            </Field>
          </div>
          <Act
            kind="primary"
            disabled={!name.trim()}
            act={async () => {
              const made = await change(ApiTokenCreateDocument, { input: { name: name.trim(), workspaceId: workspace || null } });
              setSecret(made.apiTokenCreate);
              setName("");
            }}
          >
            Create token
          </Act>
        </div>
      </section>
      {error && !data && <ErrorBox error={error} retry={() => void refetch()} />}
      {data && tokens.length === 0 && (
        <div className="sheet">
          <Empty title="No tokens">
            <p>Create one above, for a script or for the command line on another machine. There it is used like this:</p>
            <Command>{`ORRERY_TOKEN=orr_… orrery railway --server ${location.origin} -- list`}</Command>
          </Empty>
        </div>
      )}
      {tokens.length > 0 && (
        <ul className="sheet list" aria-label="Tokens">
          {tokens.map((token) => (
            <li key={token.id}>
              <span className="grow cut">{token.name}</span>
              <code className="quiet">{token.displayToken}</code>
              <span className="badge phone-hide">{viewer.workspaces.find((one) => one.id === token.workspaceId)?.name ?? "Personal"}</span>
              {token.expiresAt && (new Date(token.expiresAt) < new Date() ? <span className="badge" data-tone="failed">Expired</span> : <span className="small quiet">until <Until at={token.expiresAt} /></span>)}
              <Asking
                title={`Revoke ${token.name}?`}
                what="Whatever still uses this token is refused from its next request on. A revoked token does not come back."
                verb="Revoke the token"
                done={`${token.name} is revoked`}
                act={() => change(ApiTokenDeleteDocument, { id: token.id })}
                trigger={(ask) => (
                  <Button size="small" kind="danger" aria-label={`Revoke ${token.name}`} onClick={ask}>
                    Revoke
                  </Button>
                )}
              />
            </li>
          ))}
        </ul>
      )}
    </AccountFrame>
  );
}
