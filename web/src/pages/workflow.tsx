import { Link, useParams } from "@tanstack/react-router";
import { Controls, ReactFlow, ReactFlowProvider, useEdgesState, useNodesState, useReactFlow, type Connection, type Edge } from "@xyflow/react";
import { Undo2 } from "lucide-react";
import { useCallback, useEffect, useMemo, useState } from "react";
import { flow, policyOf, type GraphEdge, type Workflow } from "../api/flow";
import type { ChangedField } from "../rest";
import { Button, ErrorBox } from "../ui/basic";
import { Dots } from "../ui/dots";
import { ANY_NAME, drawn, fits, portsOf, stepTypes, type Models, type StepNode } from "../ui/flow-graph";
import { useFlowNews } from "../ui/flow-news";
import { isOver, RunState } from "../ui/run-state";
import { tell } from "../ui/toast";
import { useAsked } from "../ui/use-asked";
import { StopRun } from "./stop-run";
import { Inspector, WorkflowSettings } from "./workflow-inspector";
import { NodePalette } from "./workflow-palette";
import { RunButton } from "./workflow-run-button";
import { useUndo } from "./workflow-undo";
import { WorkflowFrame } from "./workflow-frame";

export function useModels() {
  const asked = useAsked(() => flow.models(), "models");
  const models = useMemo<Models | undefined>(() => asked.data && new Map(asked.data.map((model) => [model.nodeType, model])), [asked.data]);
  return { models, error: asked.error, again: asked.again };
}

export function WorkflowEditor() {
  const { workflow: id } = useParams({ from: "/flow/$workflow" });
  const { data, error, again } = useAsked(() => flow.workflow(id), id);
  const { models, error: modelError, again: modelsAgain } = useModels();
  const problem = data ? modelError : error;
  return (
    <ReactFlowProvider>
      {data && models ? (
        <Editor key={id} workflow={data} models={models} again={again} />
      ) : (
        <WorkflowFrame id={id} workflow={data}>
          <main className="main narrow">{problem !== undefined && <ErrorBox error={problem} retry={() => (void again(), void modelsAgain())} />}</main>
        </WorkflowFrame>
      )}
    </ReactFlowProvider>
  );
}

/** A name for an input, made of where its edge begins. */
function freeName(workflow: Workflow, target: string, source: string): string {
  const taken = new Set(workflow.edges.filter((edge) => edge.target === target).map((edge) => edge.targetHandle));
  const base = source.toLowerCase().replace(/[^a-z0-9_]+/g, "_").replace(/^(?=\d)|^$/, "value") || "value";
  for (let n = 1; ; n++) {
    const name = `in:${n === 1 ? base : `${base}_${n}`}`;
    if (!taken.has(name)) return name;
  }
}

function Editor({ workflow, models, again }: { workflow: Workflow; models: Models; again: () => Promise<void> }) {
  const { id } = workflow;
  const view = useReactFlow();
  const [nodes, setNodes, onNodesChange] = useNodesState<StepNode>([]);
  const [edges, setEdges, onEdgesChange] = useEdgesState<Edge>([]);
  const [chosen, choose] = useState<string | null>(null);
  const [adding, setAdding] = useState(false);
  const undo = useUndo(again);
  const ports = useMemo(() => new Map(workflow.nodes.map((node) => [node.id, portsOf(node, models, workflow.edges)])), [workflow, models]);

  useEffect(() => {
    const next = drawn(workflow, models);
    // What was measured stays: a node without it has no handles for a moment, and an edge that is being drawn would be lost.
    setNodes((before) =>
      next.nodes.map((node) => {
        const known = before.find((one) => one.id === node.id);
        return known ? { ...node, selected: known.selected, measured: known.measured, ...(known.dragging ? { dragging: true, position: known.position } : {}) } : node;
      }),
    );
    setEdges((before) => next.edges.map((edge) => ({ ...edge, selected: before.find((one) => one.id === edge.id)?.selected })));
  }, [workflow, models, setNodes, setEdges]);

  const run = useCallback((work: () => Promise<unknown>) => void work().then(again, async (error: unknown) => (tell.problem(error), await again())), [again]);

  const connect = (edge: Omit<GraphEdge, "id">) =>
    run(async () => {
      const made = await flow.connect(id, edge);
      undo.push(() => flow.disconnect(id, undo.real(made.edgeId)));
    });

  const restore = (edge: GraphEdge) => async () => {
    const made = await flow.connect(id, { ...edge, source: undo.real(edge.source), target: undo.real(edge.target) });
    undo.alias(edge.id, made.edgeId);
  };

  const add = (type: string) => {
    setAdding(false);
    const { x, y, zoom } = view.getViewport();
    const box = document.querySelector(".flow-canvas")?.getBoundingClientRect();
    const taken = new Set(workflow.nodes.map((node) => `${Math.round(node.position.x)} ${Math.round(node.position.y)}`));
    const at = { x: Math.round(((box?.width ?? 800) / 2 - x) / zoom - 110), y: Math.round(((box?.height ?? 600) / 2 - y) / zoom - 60) };
    while (taken.has(`${at.x} ${at.y}`)) at.y += 40;
    run(async () => {
      const made = await flow.addNode(id, type, at);
      undo.push(() => flow.removeNode(id, undo.real(made.nodeId)));
      choose(made.nodeId);
    });
  };

  const remove = (nodeId: string) => {
    const node = workflow.nodes.find((one) => one.id === nodeId);
    if (!node) return;
    const gone = workflow.edges.filter((edge) => edge.source === nodeId || edge.target === nodeId);
    run(async () => {
      await flow.removeNode(id, nodeId);
      if (chosen === nodeId) choose(null);
      undo.push(async () => {
        const made = await flow.addNode(id, node.type, node.position, node.data.inputs, node.data.mode);
        undo.alias(nodeId, made.nodeId);
        await flow.updateNode(id, made.nodeId, { ...(node.data.label && { label: node.data.label }), policy: policyOf(node) });
        for (const edge of gone) await restore(edge)();
      });
    });
  };

  const change = (nodeId: string, next: Record<string, unknown>, before: Record<string, unknown>) =>
    run(async () => {
      await flow.updateNode(id, nodeId, next);
      undo.push(() => flow.updateNode(id, undo.real(nodeId), before));
    });

  /** The edges of a field that goes, go with it, and come back with it. */
  const changeFields = (nodeId: string, next: ChangedField[], before: ChangedField[]) => {
    const gone = workflow.edges.filter((edge) => edge.source === nodeId && !next.some((field) => field.id === edge.sourceHandle));
    run(async () => {
      await flow.updateNode(id, nodeId, { requestFields: next });
      undo.push(async () => {
        await flow.updateNode(id, nodeId, { requestFields: before });
        for (const edge of gone) await restore(edge)();
      });
    });
  };

  const mayConnect = ({ source, sourceHandle, target, targetHandle }: Connection | Edge) => {
    const from = ports.get(source)?.outputs.find((port) => port.handle === sourceHandle);
    const to = ports.get(target)?.inputs.find((port) => port.handle === targetHandle);
    return source !== target && fits(from, to, workflow.edges.some((edge) => edge.target === target && edge.targetHandle === targetHandle));
  };

  const onConnect = ({ source, sourceHandle, target, targetHandle }: Connection) => {
    if (!sourceHandle || !targetHandle) return;
    const label = ports.get(source)?.outputs.find((port) => port.handle === sourceHandle)?.label ?? "value";
    connect({ source, sourceHandle, target, targetHandle: targetHandle === ANY_NAME ? freeName(workflow, target, label) : targetHandle });
  };

  const selected = workflow.nodes.find((node) => node.id === chosen);
  return (
    <WorkflowFrame
      id={id}
      workflow={workflow}
      tools={
        <span className="row wrap">
          <UnderWay id={id} />
          <Button size="small" disabled={undo.depth === 0} onClick={() => run(undo.pop)} title="Ctrl Z">
            <Undo2 size={14} /> Undo
          </Button>
          <RunButton workflow={workflow} />
        </span>
      }
    >
      <main className="stage">
        <h1 className="hidden">{workflow.name}</h1>
        <NodePalette models={models} open={adding} onOpen={setAdding} onChoose={add} />
        <div className="flow-canvas">
          <ReactFlow
            nodes={nodes}
            edges={edges}
            nodeTypes={stepTypes}
            onNodesChange={onNodesChange}
            onEdgesChange={onEdgesChange}
            onNodeClick={(_, node) => choose(node.id)}
            onPaneClick={() => choose(null)}
            onConnect={onConnect}
            isValidConnection={mayConnect}
            onNodeDragStop={(_, node) => {
              const before = workflow.nodes.find((one) => one.id === node.id)?.position;
              if (before && (before.x !== node.position.x || before.y !== node.position.y)) change(node.id, { position: node.position }, { position: before });
            }}
            onBeforeDelete={async ({ nodes: gone, edges: cut }) => {
              // The server takes a node's edges along.
              const with_ = new Set(gone.map((node) => node.id));
              for (const node of gone) remove(node.id);
              for (const edge of cut) {
                const known = workflow.edges.find((one) => one.id === edge.id);
                if (known && !with_.has(edge.source) && !with_.has(edge.target)) run(async () => (await flow.disconnect(id, edge.id), undo.push(restore(known))));
              }
              return false;
            }}
            deleteKeyCode={["Backspace", "Delete"]}
            fitView
            fitViewOptions={{ padding: 0.2, maxZoom: 1 }}
            minZoom={0.2}
            maxZoom={1.5}
            onlyRenderVisibleElements={nodes.length > 100}
            proOptions={{ hideAttribution: true }}
          >
            <Dots />
            <Controls showInteractive={false} position="bottom-left" />
          </ReactFlow>
        </div>
        {selected ? (
          <Inspector key={selected.id} workflow={workflow} node={selected} models={models} onChange={change} onFields={changeFields} onRemove={() => remove(selected.id)} onClose={() => choose(null)} onDisconnect={(edge) => run(async () => (await flow.disconnect(id, edge.id), undo.push(restore(edge))))} onConnect={connect} />
        ) : (
          <WorkflowSettings key={`${id} ${workflow.name}`} workflow={workflow} again={again} />
        )}
      </main>
    </WorkflowFrame>
  );
}

/** What the workflow is at while it is drawn. */
function UnderWay({ id }: { id: string }) {
  const { data, again } = useAsked(() => flow.runs(id), `runs ${id}`);
  useFlowNews(again);
  const [run, ...others] = data?.items.filter((one) => !isOver(one.status)) ?? [];
  if (!run) return null;
  if (others.length > 0) {
    return (
      <Link to="/flow/$workflow/runs" params={{ workflow: id }} className="small">
        {others.length + 1} runs under way
      </Link>
    );
  }
  return (
    <>
      <Link to="/flow/$workflow/runs/$run" params={{ workflow: id, run: run.id }} className="small" title="The run that is under way">
        <RunState status={run.status} />
      </Link>
      <StopRun act={() => flow.cancel(run.id).then(again)} />
    </>
  );
}
