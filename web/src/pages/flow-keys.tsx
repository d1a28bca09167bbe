import { useState } from "react";
import { Link } from "@tanstack/react-router";
import { change } from "../api/client";
import { ApiKeyCreateDocument } from "../gql";
import { Act, Command, Empty, ErrorBox, Field, Shown } from "../ui/basic";
import { Bar } from "../ui/frame";
import { KeyTable, useKeys } from "./keys";

const ends = { "": "Never", "7": "In 7 days", "30": "In 30 days", "90": "In 90 days", "365": "In a year", date: "On a day…" } as const;

/** The end of the day that was chosen, or so many days from now. */
function endOf(end: keyof typeof ends, date: string): string | null {
  if (end === "") return null;
  return end === "date" ? new Date(`${date}T23:59:59`).toISOString() : new Date(Date.now() + Number(end) * 86_400_000).toISOString();
}

export function FlowKeys() {
  const { keys, error, refetch } = useKeys("FLOW");
  const [label, setLabel] = useState("");
  const [end, setEnd] = useState<keyof typeof ends>("");
  const [date, setDate] = useState("");
  const [secret, setSecret] = useState<string | null>(null);
  return (
    <>
      <Bar>
        <span className="crumb">
          <Link to="/flow">Flow</Link>
        </span>
      </Bar>
      <main className="main">
        <div className="head">
          <h1>API keys</h1>
        </div>
        <div className="stack loose">
          <section className="stack">
            <p className="second">
              A key lets a program run the workflows of this account, as <code>Authorization: Bearer gx_…</code>. A workspace has at most ten.
            </p>
            {secret && <Shown secret={secret} what="API key" />}
            <div className="row wrap" style={{ alignItems: "flex-end" }}>
              <div style={{ flex: "2 1 180px" }}>
                <Field label="Label">
                  <input className="input" value={label} onChange={(event) => setLabel(event.target.value)} placeholder="nightly import" />
                </Field>
              </div>
              <div style={{ flex: "1 1 140px" }}>
                <Field label="Expires">
                  <select className="select" value={end} onChange={(event) => setEnd(event.target.value as keyof typeof ends)}>
                    {Object.entries(ends).map(([value, word]) => (
                      <option key={value} value={value}>
                        {word}
                      </option>
                    ))}
                  </select>
                </Field>
              </div>
              {end === "date" && (
                <div style={{ flex: "1 1 140px" }}>
                  <Field label="Last day">
                    <input className="input" type="date" value={date} min={new Date().toLocaleDateString("sv")} onChange={(event) => setDate(event.target.value)} />
                  </Field>
                </div>
              )}
              <Act
                kind="primary"
                disabled={!label.trim() || (end === "date" && !date)}
                act={async () => {
                  const made = await change(ApiKeyCreateDocument, { input: { kind: "FLOW", label: label.trim(), expiresAt: endOf(end, date) } });
                  setSecret(made.apiKeyCreate.key);
                  setLabel("");
                }}
              >
                Create key
              </Act>
            </div>
          </section>
          {error && !keys && <ErrorBox error={error} retry={() => void refetch()} />}
          {keys?.length === 0 && (
            <div className="sheet">
              <Empty title="No API keys">
                <p>Create one above, then try it:</p>
                <Command>{`curl -H "Authorization: Bearer gx_…" ${location.origin}/api/v1/workflows`}</Command>
              </Empty>
            </div>
          )}
          {keys && keys.length > 0 && <KeyTable keys={keys} name="API keys" limited />}
        </div>
      </main>
    </>
  );
}
