import type { Connection, Created, Done, FieldShape, FileShape, ModelPorts, ModelSchema, NodeAnswer, RunPage, RunShape, Started, WorkflowPage, WorkflowShape } from "../rest";
import { Problem, signInFirst } from "./client";

/** Asks the REST API with the browser's session. */
async function send<T>(method: string, path: string, body?: unknown): Promise<T> {
  let answer: Response;
  try {
    answer = await fetch(`/api/v1${path}`, { method, headers: body === undefined ? {} : { "content-type": "application/json" }, body: body === undefined ? undefined : JSON.stringify(body) });
  } catch {
    throw new Problem("The server cannot be reached. What you see may be out of date.", "OFFLINE");
  }
  const json = (await answer.json().catch(() => null)) as { error?: string; code?: string; traceId?: string } | null;
  if (answer.ok) return json as T;
  if (answer.status === 401) signInFirst();
  throw new Problem(json?.error ?? `The server answered ${answer.status}`, json?.code ?? String(answer.status), json?.traceId);
}

/** What a caller may give. */
export interface RequestField {
  id: string;
  name: string;
  type: string;
  value?: unknown;
}

export interface GraphNode {
  id: string;
  type: string;
  position: { x: number; y: number };
  data: { label?: string; inputs?: Record<string, unknown>; mode?: string; dynamicFields?: RequestField[]; policy?: { retries?: number; backoffMs?: number; timeoutMs?: number | null; continueOnError?: boolean; onError?: string; concurrency?: number } };
}

/** What happens when a step fails, in the form in which it is sent. It is replaced as a whole. */
export function policyOf({ data: { policy = {} } }: GraphNode) {
  const { retries = 0, onError, continueOnError, backoffMs, timeoutMs, concurrency } = policy;
  return { retries, continueOnError: onError === "continue" || continueOnError === true, backoffMs, timeoutMs: timeoutMs ?? undefined, concurrency };
}

export interface GraphEdge {
  id: string;
  source: string;
  sourceHandle: string;
  target: string;
  targetHandle: string;
}

export type Workflow = Omit<WorkflowShape, "nodes" | "edges"> & { nodes: GraphNode[]; edges: GraphEdge[] };

export interface InputField {
  name: string;
  type: string;
  dataType: string;
  required: boolean;
  description: string;
  default?: unknown;
  options?: string[];
  min?: number;
  max?: number;
  maxLength?: number;
}

export const events = ["deployment.failed", "deployment.succeeded", "deployment.crashed", "trigger.fired", "container.unhealthy"] as const;

/** What starts a workflow by itself. */
export interface FlowStart {
  id: string;
  kind: "schedule" | "hook" | "event";
  cron?: string | null;
  timezone?: string | null;
  values?: Record<string, unknown> | null;
  event?: (typeof events)[number] | null;
  enabled: boolean;
  nextAt?: string | null;
  lastAt?: string | null;
  /** Of a hook that was just made or got another address. */
  url?: string;
}

export type NewStart = { kind: "schedule"; cron: string; timezone?: string; values?: Record<string, unknown> } | { kind: "hook" } | { kind: "event"; event: string };

const one = encodeURIComponent;
const starts = (id: string) => `/workflows/${one(id)}/triggers`;

/** Runs that the API gives at once. */
export const MOST_RUNS = 100;

export const flow = {
  /** The newest ones, or those that have the text in their names. */
  workflows: (search = "") => send<WorkflowPage>("GET", `/workflows?limit=50${search && `&search=${one(search)}`}`),
  workflow: (id: string) => send<Workflow>("GET", `/workflows/${one(id)}`),
  create: (name: string, requestFields: FieldShape[]) => send<Created>("POST", "/workflows", { name, requestFields }),
  rename: (id: string, name: string) => send<Done>("PATCH", `/workflows/${one(id)}`, { name }),
  remove: (id: string) => send<Done>("DELETE", `/workflows/${one(id)}`),
  models: () => send<ModelPorts[]>("GET", "/models"),
  fields: async (type: string) => (await send<ModelSchema>("GET", `/models/${one(type)}/schema`)).fields as unknown as InputField[],
  addNode: (id: string, nodeType: string, position: { x: number; y: number }, inputs?: Record<string, unknown>, mode?: string) => send<NodeAnswer>("POST", `/workflows/${one(id)}/nodes`, { nodeType, position, ...(inputs && { inputs }), ...(mode && { mode }) }),
  updateNode: (id: string, node: string, change: Record<string, unknown>) => send<unknown>("PATCH", `/workflows/${one(id)}/nodes/${one(node)}`, change),
  removeNode: (id: string, node: string) => send<Done>("DELETE", `/workflows/${one(id)}/nodes/${one(node)}`),
  connect: (id: string, edge: Omit<GraphEdge, "id">) => send<Connection>("POST", `/workflows/${one(id)}/edges`, { sourceNodeId: edge.source, sourceHandle: edge.sourceHandle, targetNodeId: edge.target, targetHandle: edge.targetHandle }),
  disconnect: (id: string, edge: string) => send<Done>("DELETE", `/workflows/${one(id)}/edges/${one(edge)}`),
  start: (workflowId: string, values: Record<string, Record<string, unknown>>) => send<Started>("POST", "/runs", { workflowId, values, source: "ui" }),
  /** Keeps a file, and gives its address. */
  upload: async (file: File) => {
    const uri = await new Promise<string>((resolve, reject) => {
      const reader = new FileReader();
      reader.onload = () => resolve(reader.result as string);
      reader.onerror = () => reject(new Problem(`${file.name} cannot be read.`, "UNREADABLE"));
      reader.readAsDataURL(file);
    });
    return send<FileShape>("POST", "/uploads", { filename: file.name, data_uri: uri });
  },
  /** The newest ones. More than the API gives at once are asked for page by page. */
  runs: async (workflowId?: string, limit = 20): Promise<RunPage> => {
    const page = (many: number, cursor?: string | null) => send<RunPage>("GET", `/runs?limit=${many}${workflowId ? `&workflowId=${one(workflowId)}` : ""}${cursor ? `&cursor=${one(cursor)}` : ""}`);
    let { items, nextCursor } = await page(Math.min(limit, MOST_RUNS));
    for (let rest = limit - MOST_RUNS; rest > 0 && nextCursor; rest -= MOST_RUNS) {
      const older = await page(Math.min(rest, MOST_RUNS), nextCursor);
      items = items.concat(older.items);
      nextCursor = older.nextCursor;
    }
    return { items, nextCursor };
  },
  run: (id: string) => send<RunShape>("GET", `/runs/${one(id)}?inDetails=true`),
  starts: async (id: string) => (await send<{ items: FlowStart[] }>("GET", starts(id))).items,
  startCreate: (id: string, start: NewStart) => send<FlowStart>("POST", starts(id), start),
  startSwitch: (id: string, start: string, enabled: boolean) => send<FlowStart>("PATCH", `${starts(id)}/${one(start)}`, { enabled }),
  startRotate: (id: string, start: string) => send<FlowStart>("POST", `${starts(id)}/${one(start)}/rotate`),
  startRemove: (id: string, start: string) => send<Done>("DELETE", `${starts(id)}/${one(start)}`),
  cancel: (id: string) => send<unknown>("POST", `/runs/${one(id)}/cancel`),
};
