import "@xyflow/react/dist/style.css";
import { Handle, Position, type Edge, type Node, type NodeProps } from "@xyflow/react";
import type { GraphEdge, GraphNode, Workflow } from "../api/flow";
import type { ModelPorts, Status } from "../rest";
import { RunState } from "./run-state";

/** An edge that ends here brings an input under a name that it gets from where it begins. */
export const ANY_NAME = "in:+";

export interface Port {
  handle: string;
  label: string;
  type: string;
  /** Types of outputs that may be connected; of inputs only. */
  accepts?: string[];
  many?: boolean;
  required?: boolean;
}

export interface Ports {
  inputs: Port[];
  outputs: Port[];
}

export type Models = Map<string, ModelPorts>;

const bare = (handle: string) => handle.replace(/^(in|out):/, "");

/** Where edges of a node may end and begin: as its type says, and for the two ends of a graph as they themselves say. */
export function portsOf(node: GraphNode, models: Models, edges: GraphEdge[]): Ports {
  if (node.type === "request") return { inputs: [], outputs: (node.data.dynamicFields ?? []).map((field) => ({ handle: field.id, label: field.name, type: field.type })) };
  if (node.type === "response") return { inputs: [{ handle: "result", label: "result", type: "any", many: true }], outputs: [] };
  const model = models.get(node.type);
  if (!model) return { inputs: [], outputs: [] };
  const inputs: Port[] = model.inputs.map((port) => ({ handle: port.handle, label: bare(port.handle), type: port.dataType, accepts: port.accepts, many: port.many, required: port.required }));
  if (model.open) {
    const known = new Set(inputs.map((port) => port.handle));
    for (const edge of edges) {
      if (edge.target === node.id && !known.has(edge.targetHandle)) {
        known.add(edge.targetHandle);
        inputs.push({ handle: edge.targetHandle, label: bare(edge.targetHandle), type: "any" });
      }
    }
    inputs.push({ handle: ANY_NAME, label: "another", type: "any", many: true });
  }
  return { inputs, outputs: model.outputs.map((port) => ({ handle: port.handle, label: bare(port.handle), type: port.dataType })) };
}

/** Whether the types at both ends match, and the input has room. The server has the last word. */
export function fits(source: Port | undefined, target: Port | undefined, taken: boolean): boolean {
  return Boolean(source && target && (!target.accepts || target.accepts.includes(source.type)) && (target.many || !taken));
}

export function titleOf(node: GraphNode, models: Models): string {
  if (node.data.label) return node.data.label;
  return node.type === "request" ? "Request" : node.type === "response" ? "Response" : (models.get(node.type)?.name ?? node.type);
}

export interface StepData extends Record<string, unknown> {
  title: string;
  kind: string;
  ports: Ports;
  status?: Status;
}

export type StepNode = Node<StepData, "step">;

/** A graph as the canvas draws it. */
export function drawn(workflow: Workflow, models: Models, states: Map<string, Status> = new Map()): { nodes: StepNode[]; edges: Edge[] } {
  const nodes = workflow.nodes.map((node): StepNode => {
    const kind = node.type === "request" || node.type === "response" ? "" : (models.get(node.type)?.name ?? node.type);
    const title = titleOf(node, models);
    return { id: node.id, type: "step", position: node.position, ariaLabel: `Step ${title}`, data: { title, kind: kind === title ? "" : kind, ports: portsOf(node, models, workflow.edges), status: states.get(node.id) } };
  });
  const edges = workflow.edges.map((edge): Edge => ({ ...edge, animated: states.get(edge.target) === "RUNNING", style: { strokeWidth: 1.5 } }));
  return { nodes, edges };
}

function Step({ data, selected }: NodeProps<StepNode>) {
  const rows = Math.max(data.ports.inputs.length, data.ports.outputs.length);
  return (
    <div className="step" data-selected={selected} data-status={data.status}>
      <div className="step-head">
        <span className="grow stack" style={{ gap: 0, minWidth: 0 }}>
          <strong className="cut">{data.title}</strong>
          {data.kind && <small className="quiet cut">{data.kind}</small>}
        </span>
        {data.status && <RunState status={data.status} />}
      </div>
      {rows > 0 && (
        <div className="step-ports">
          <div>
            {data.ports.inputs.map((port) => (
              <div key={port.handle} className="step-port" title={`${port.label}: ${port.type}`}>
                <Handle type="target" position={Position.Left} id={port.handle} data-type={port.type} />
                <span className="cut">
                  {port.label}
                  {port.required && "*"}
                </span>
              </div>
            ))}
          </div>
          <div style={{ textAlign: "right" }}>
            {data.ports.outputs.map((port) => (
              <div key={port.handle} className="step-port" title={`${port.label}: ${port.type}`}>
                <span className="cut">{port.label}</span>
                <Handle type="source" position={Position.Right} id={port.handle} data-type={port.type} />
              </div>
            ))}
          </div>
        </div>
      )}
    </div>
  );
}

export const stepTypes = { step: Step };
