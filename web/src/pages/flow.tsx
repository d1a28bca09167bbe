import { Link } from "@tanstack/react-router";
import { KeyRound } from "lucide-react";
import { Empty } from "../ui/basic";
import { Bar } from "../ui/frame";

export function Flow() {
  return (
    <>
      <Bar />
      <main className="main">
        <div className="head">
          <h1>Flow</h1>
          <Link to="/flow/keys" className="button">
            <KeyRound size={14} /> API Keys
          </Link>
        </div>
        <div className="sheet">
          <Empty title="No workflows yet">
            <p>Workflows are made through the API at {location.origin}/api/v1.</p>
          </Empty>
        </div>
      </main>
    </>
  );
}
