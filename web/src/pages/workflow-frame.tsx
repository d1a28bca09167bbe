import { Link } from "@tanstack/react-router";
import type { Workflow } from "../api/flow";
import { Bar } from "../ui/frame";

export function WorkflowFrame({ id, workflow, tools, children }: { id: string; workflow?: Workflow; tools?: React.ReactNode; children: React.ReactNode }) {
  const params = { workflow: id };
  return (
    <>
      <Bar>
        <span className="crumb">
          <Link to="/flow">Flow</Link>
        </span>
        <span className="crumb">
          <Link to="/flow/$workflow" params={params} className="cut">
            <span className="cut">{workflow?.name ?? "…"}</span>
          </Link>
        </span>
        <nav className="tabs" aria-label="Workflow" style={{ marginLeft: 8 }}>
          <Link to="/flow/$workflow" params={params} className="tab" activeOptions={{ exact: true }}>
            Editor
          </Link>
          <Link to="/flow/$workflow/runs" params={params} className="tab">
            Runs
          </Link>
          <Link to="/flow/$workflow/starts" params={params} className="tab">
            Starts
          </Link>
        </nav>
        {tools}
      </Bar>
      {children}
    </>
  );
}
