import { useQuery } from "@apollo/client/react";
import { useEffect, useState } from "react";
import { ViewerDocument } from "../gql";
import { Command } from "../ui/basic";
import { Bar } from "../ui/frame";
import { State } from "../ui/state";

export function Operator() {
  const { data } = useQuery(ViewerDocument);
  const [healthy, set] = useState<boolean | null>(null);
  useEffect(() => {
    const look = () => void fetch("/healthz").then((answer) => set(answer.ok), () => set(false));
    look();
    const id = setInterval(look, 10_000);
    return () => clearInterval(id);
  }, []);
  if (!data?.me.isAdmin) return null;
  return (
    <>
      <Bar />
      <main className="main narrow">
        <div className="head">
          <h1>This server</h1>
          {healthy !== null && <State tone={healthy ? "healthy" : "failed"}>{healthy ? "API and store answer" : "Not answering"}</State>}
        </div>
        <ul className="sheet list">
          {[
            ["What this machine lacks, and what follows from it", "orrery doctor"],
            ["Every setting and where its value comes from", "orrery config --show"],
            ["A new account, with a login link", "orrery user create someone@example.com"],
            ["A login link for somebody who cannot sign in", "orrery login-link --user someone@example.com"],
            ["A workspace's plan", "orrery plan set WORKSPACE PROFESSIONAL"],
          ].map(([what, command]) => (
            <li key={command} className="wrap" style={{ flexWrap: "wrap" }}>
              <span className="grow" style={{ minWidth: 220 }}>
                {what}
              </span>
              <Command>{command}</Command>
            </li>
          ))}
        </ul>
      </main>
    </>
  );
}
