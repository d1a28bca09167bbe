import { useSearch } from "@tanstack/react-router";
import { useState } from "react";
import { change } from "../api/client";
import { ApiKeyCreateDocument, type ApiKeyRowFragment } from "../gql";
import { Act, Button, Dialog, ErrorBox, Shown } from "../ui/basic";
import { useViewer } from "../viewer";
import { KeyTable, useKeys } from "./keys";

/** Galaxy's key: one for each account, and only with the plan that has it. */
export function GalaxyKey() {
  const viewer = useViewer();
  const { keys, error, refetch } = useKeys("GALAXY");
  const accounts = viewer.workspaces.filter((one) => one.viewerCanAdminister);
  // Where `/{username}/settings` leads.
  const { account: asked } = useSearch({ strict: false }) as { account?: string };
  const [chosen, choose] = useState((accounts.find((one) => one.username === asked) ?? accounts[0])?.id ?? "");
  const [secret, setSecret] = useState<string | null>(null);
  const [asking, setAsking] = useState(false);
  const account = accounts.find((one) => one.id === chosen);
  if (!account) return null;
  const present = keys?.find((key) => key.workspaceId === account.id);
  const generate = async () => {
    const made = await change(ApiKeyCreateDocument, { input: { kind: "GALAXY", workspaceId: account.id } });
    setSecret(made.apiKeyCreate.key);
    setAsking(false);
  };
  return (
    <section className="stack">
      <div className="row wrap between">
        <h2>Galaxy API</h2>
        <span className="row">
          {accounts.length > 1 && (
            <select className="select" aria-label="Account" value={chosen} onChange={(event) => (choose(event.target.value), setSecret(null))}>
              {accounts.map((one) => (
                <option key={one.id} value={one.id}>
                  {one.name}
                </option>
              ))}
            </select>
          )}
          {account.plan === "PRO" && keys && (present ? <Button onClick={() => setAsking(true)}>Generate Key…</Button> : <Act kind="primary" act={generate}>Generate Key</Act>)}
        </span>
      </div>
      <p className="second">
        The key opens <code>{location.origin}/graphql</code>, as the header <code>galaxy-api-key</code>. An account has one; try it in the <a href="/explorer">Explorer</a>.
      </p>
      {account.plan !== "PRO" && (
        <div className="notice" data-tone="waiting">
          <span>
            API access is only available for accounts on the Professional plan. The operator of this server changes the plan with <code>orrery plan set</code>.
          </span>
        </div>
      )}
      {secret && <Shown secret={secret} what="API key" />}
      {error && !keys && <ErrorBox error={error} retry={() => void refetch()} />}
      {present && <KeyTable keys={[present as ApiKeyRowFragment]} name="Galaxy API key" />}
      <Dialog title="Generate a new key?" open={asking} onClose={() => setAsking(false)}>
        <div className="section">
          <p className="second">
            The key <code>{present?.displayKey}</code> of {account.name} stops working at once, and whatever uses it is refused until it has the new one.
          </p>
        </div>
        <footer>
          <Button onClick={() => setAsking(false)}>Keep the old one</Button>
          <Act kind="primary" act={generate}>
            Generate Key
          </Act>
        </footer>
      </Dialog>
    </section>
  );
}
