import { Link, useParams } from "@tanstack/react-router";
import { useEffect, useState } from "react";
import { flow, MOST_RUNS } from "../api/flow";
import { Button, Command, Empty, ErrorBox } from "../ui/basic";
import { useFlowNews } from "../ui/flow-news";
import { isOver, RunState } from "../ui/run-state";
import { Ago, duration } from "../ui/time";
import { useAsked } from "../ui/use-asked";
import { StopRun } from "./stop-run";
import { WorkflowFrame } from "./workflow-frame";

export function WorkflowRuns() {
  const { workflow: id } = useParams({ from: "/flow/$workflow/runs" });
  const workflow = useAsked(() => flow.workflow(id), id);
  const [limit, setLimit] = useState(20);
  const { data, error, again } = useAsked(() => flow.runs(id, limit), `runs ${id}`);
  useFlowNews(again);
  useEffect(() => {
    if (limit > 20) void again();
  }, [limit, again]);
  return (
    <WorkflowFrame id={id} workflow={workflow.data}>
      <main className="main narrow">
        <div className="head">
          <h1>Runs</h1>
        </div>
        {error !== undefined && !data && <ErrorBox error={error} retry={() => void again()} />}
        {data?.items.length === 0 && (
          <div className="sheet">
            <Empty title="It has not run yet">
              <p>Start it in the editor, or say what starts it: a schedule, a webhook or an event.</p>
              <span className="row">
                <Link to="/flow/$workflow" params={{ workflow: id }} className="button" data-kind="primary">
                  To the editor
                </Link>
                <Link to="/flow/$workflow/starts" params={{ workflow: id }} className="button">
                  What starts it
                </Link>
              </span>
              <p className="quiet">or from a program:</p>
              <Command>{`curl -X POST -H "Authorization: Bearer gx_…" -H "Content-Type: application/json" -d '{"workflowId": "${id}"}' ${location.origin}/api/v1/runs`}</Command>
            </Empty>
          </div>
        )}
        {data && data.items.length > 0 && (
          <ul className="sheet list" aria-label="Runs">
            {data.items.map((run) => (
              <li key={run.id} style={{ padding: 0 }}>
                <Link to="/flow/$workflow/runs/$run" params={{ workflow: id, run: run.id }} className="item row grow" style={{ padding: "10px 16px", gap: 16, color: "inherit" }}>
                  <RunState status={run.status} />
                  <span className="grow cut small second">{run.error ?? `${run.nodeRunCount} ${run.nodeRunCount === 1 ? "step" : "steps"}, by ${run.source === "ui" ? "the editor" : run.source}`}</span>
                  {run.startedAt && run.finishedAt && <span className="small quiet numbers">{duration(Date.parse(run.finishedAt) - Date.parse(run.startedAt))}</span>}
                  <span className="small quiet" style={{ width: 80, textAlign: "right" }}>
                    <Ago at={run.createdAt} />
                  </span>
                </Link>
                {!isOver(run.status) && (
                  <span style={{ paddingRight: 16 }}>
                    <StopRun act={() => flow.cancel(run.id).then(again)} />
                  </span>
                )}
              </li>
            ))}
          </ul>
        )}
        {data?.nextCursor && (
          <span style={{ marginTop: 16 }}>
            <Button onClick={() => setLimit(limit < MOST_RUNS ? MOST_RUNS : limit + MOST_RUNS)}>Older runs</Button>
          </span>
        )}
      </main>
    </WorkflowFrame>
  );
}
