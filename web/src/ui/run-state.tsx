import type { Status } from "../rest";
import { State, type Tone } from "./state";

const words: Record<Status, [Tone, string]> = {
  QUEUED: ["waiting", "Waiting"],
  RUNNING: ["busy", "Running"],
  COMPLETED: ["healthy", "Completed"],
  FAILED: ["failed", "Failed"],
  CANCELED: ["off", "Stopped"],
};

/** Where a run, or a node of one, stands. */
export function RunState({ status }: { status: Status }) {
  const [tone, word] = words[status];
  return <State tone={tone}>{word}</State>;
}

export const isOver = (status: Status) => status !== "QUEUED" && status !== "RUNNING";
