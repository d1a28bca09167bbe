import { useParams } from "@tanstack/react-router";
import { Controls, ReactFlow, ReactFlowProvider } from "@xyflow/react";
import { useMemo, useState } from "react";
import { flow, type Workflow } from "../api/flow";
import type { NodeRunShape, RunShape } from "../rest";
import { CopyButton, ErrorBox } from "../ui/basic";
import { Dots } from "../ui/dots";
import { useFlowNews } from "../ui/flow-news";
import { drawn, stepTypes, titleOf, type Models } from "../ui/flow-graph";
import { isOver, RunState } from "../ui/run-state";
import { Ago, duration, Elapsed } from "../ui/time";
import { useAsked } from "../ui/use-asked";
import { StopRun } from "./stop-run";
import { useModels } from "./workflow";
import { WorkflowFrame } from "./workflow-frame";

/** One run as it goes through the graph. */
export function WorkflowRun() {
  const { workflow: id, run: runId } = useParams({ from: "/flow/$workflow/runs/$run" });
  const workflow = useAsked(() => flow.workflow(id), id);
  const { data: run, error, again } = useAsked(() => flow.run(runId), runId);
  useFlowNews(again, !run || !isOver(run.status));
  const { models } = useModels();
  return (
    <WorkflowFrame id={id} workflow={workflow.data} tools={run && !isOver(run.status) && <StopRun act={() => flow.cancel(runId).then(again)} />}>
      {run && models && workflow.data ? (
        <main className="stage">
          <h1 className="hidden">A run of {workflow.data.name}</h1>
          <ReactFlowProvider>
            <Shown run={run} workflow={workflow.data} models={models} />
          </ReactFlowProvider>
        </main>
      ) : (
        <main className="main narrow">{(error ?? workflow.error) !== undefined && <ErrorBox error={error ?? workflow.error} retry={() => void again()} />}</main>
      )}
    </WorkflowFrame>
  );
}

function Shown({ run, workflow, models }: { run: RunShape; workflow: Workflow; models: Models }) {
  const [chosen, choose] = useState<string | null>(null);
  const { nodes, edges } = useMemo(() => drawn(workflow, models, new Map((run.nodeRuns ?? []).map((one) => [one.nodeId, one.status]))), [workflow, models, run]);
  return (
    <>
      <div className="flow-canvas">
        <ReactFlow nodes={nodes.map((node) => ({ ...node, selected: node.id === chosen }))} edges={edges} nodeTypes={stepTypes} onNodeClick={(_, node) => choose(node.id)} nodesDraggable={false} nodesConnectable={false} deleteKeyCode={null} fitView fitViewOptions={{ padding: 0.2, maxZoom: 1 }} minZoom={0.2} maxZoom={1.5} proOptions={{ hideAttribution: true }}>
          <Dots />
          <Controls showInteractive={false} position="bottom-left" />
        </ReactFlow>
      </div>
      <aside className="panel inspector" aria-label="Run">
        <div className="panel-head" style={{ paddingBottom: 12 }}>
          <div className="row between">
            <RunState status={run.status} />
            <span className="small quiet">
              {run.startedAt && run.finishedAt ? duration(Date.parse(run.finishedAt) - Date.parse(run.startedAt)) : run.startedAt ? <Elapsed since={run.startedAt} /> : null}, <Ago at={run.createdAt} />
            </span>
          </div>
        </div>
        <div className="panel-body">
          {run.error && (
            <div className="notice" data-tone="failed" role="alert">
              {run.error}
            </div>
          )}
          <ul className="stack" aria-label="Steps of the run">
            {(run.nodeRuns ?? []).map((one) => {
              const node = workflow.nodes.find((known) => known.id === one.nodeId);
              return <NodeRun key={one.id} of={one} title={node ? titleOf(node, models) : (models.get(one.nodeType)?.name ?? one.nodeType)} open={chosen === one.nodeId} onOpen={() => choose(chosen === one.nodeId ? null : one.nodeId)} />;
            })}
          </ul>
        </div>
      </aside>
    </>
  );
}

function NodeRun({ of, title, open, onOpen }: { of: NodeRunShape; title: string; open: boolean; onOpen: () => void }) {
  return (
    <li className="sheet" style={{ padding: "8px 12px" }}>
      <button type="button" className="row" style={{ border: 0, background: "none", width: "100%", padding: 0, cursor: "pointer", color: "inherit", textAlign: "left" }} aria-expanded={open} onClick={onOpen}>
        <strong className="grow cut">{title}</strong>
        {of.startedAt && of.finishedAt && <span className="small quiet numbers">{duration(Date.parse(of.finishedAt) - Date.parse(of.startedAt))}</span>}
        <RunState status={of.status} />
      </button>
      {open && (
        <div className="stack tight" style={{ marginTop: 8 }}>
          {of.error && <p style={{ color: "var(--failed)" }}>{of.error}</p>}
          <Json title="Output" value={of.output} />
          <Json title="Input" value={of.input} />
          {of.logs.length > 0 && <Json title="Log" value={of.logs.join("\n")} />}
        </div>
      )}
    </li>
  );
}

function Json({ title, value }: { title: string; value: unknown }) {
  if (value === null || value === undefined) return null;
  const text = typeof value === "string" ? value : JSON.stringify(value, null, 2);
  return (
    <section aria-label={title}>
      <div className="row between">
        <h3>{title}</h3>
        <CopyButton text={text} label={`Copy the ${title.toLowerCase()}`} />
      </div>
      <pre className="output" tabIndex={0}>
        {text}
      </pre>
    </section>
  );
}
