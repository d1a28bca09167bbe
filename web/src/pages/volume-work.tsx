import { useCallback, useEffect, useState } from "react";
import { ask, Problem, problemOf, refresh } from "../api/client";
import { WorkflowDocument } from "../gql";
import { Shape } from "../ui/state";
import { Elapsed, megabytes } from "../ui/time";
import { tell } from "../ui/toast";

export interface Work {
  kind: "backup" | "restore";
  workflow: string;
  since: string;
}

/** Between two questions about work that is under way, and after one that could not be asked. */
const PACE = 500;
const LATER = 3000;

function kept(key: string): Work | null {
  try {
    return JSON.parse(sessionStorage.getItem(key) ?? "null") as Work | null;
  } catch {
    return null;
  }
}

async function outcome(workflow: string): Promise<"running" | "unknown" | "lost" | "done" | Problem> {
  try {
    const { status, error } = (await ask(WorkflowDocument, { id: workflow })).workflowStatus;
    if (status === "Error") return new Problem(error ?? "The server could not finish this", "");
    return status === "Running" ? "running" : status === "Complete" ? "done" : "unknown";
  } catch (error) {
    const problem = problemOf(error);
    // A server that is not there for a moment goes on with it afterwards.
    return problem.code === "OFFLINE" || /^5\d\d$/.test(problem.code) ? "lost" : problem;
  }
}

/** What was asked for a volume and is under way. It is followed to its end, also after another page was looked at meanwhile. */
export function useWork(volume: string): [Work | null, (kind: Work["kind"], workflow: string | null | undefined) => void] {
  const key = `volume-work ${volume}`;
  const [work, setWork] = useState(() => kept(key));
  const begin = useCallback(
    (kind: Work["kind"], workflow: string | null | undefined) => {
      if (!workflow) return;
      const begun = { kind, workflow, since: new Date().toISOString() };
      sessionStorage.setItem(key, JSON.stringify(begun));
      setWork(begun);
    },
    [key],
  );
  useEffect(() => {
    if (!work) return;
    let timer: ReturnType<typeof setTimeout> | undefined;
    let left = false;
    const look = async () => {
      const now = await outcome(work.workflow);
      if (left) return;
      if (now === "running" || now === "lost") {
        timer = setTimeout(() => void look(), now === "lost" ? LATER : PACE);
        return;
      }
      await refresh();
      sessionStorage.removeItem(key);
      setWork(null);
      if (now instanceof Problem) tell.problem(now);
      else if (now === "done") tell(work.kind === "backup" ? "The backup is made" : "The backup is restored");
    };
    void look();
    return () => {
      left = true;
      clearTimeout(timer);
    };
  }, [work, key]);
  return [work, begin];
}

/** How far it is: a volume is copied while nothing uses it. */
export function WorkProgress({ kind, since, running, size }: { kind: Work["kind"]; since?: string; running: number; size: number }) {
  const steps = kind === "backup" ? ["The service stops", `Its files are copied, ${megabytes(size)}`] : ["The service stops", "The backup takes the place of its files"];
  const [stood, setStood] = useState(running === 0);
  if (running === 0 && !stood) setStood(true);
  const at = !stood ? 0 : running === 0 ? 1 : 2;
  return (
    <section className="stack tight" aria-label={kind === "backup" ? "Backup under way" : "Restore under way"}>
      <div className="row between small">
        <strong>{kind === "backup" ? "Backing up" : "Restoring"}</strong>
        {since && (
          <span className="quiet">
            for <Elapsed since={since} />
          </span>
        )}
      </div>
      <ol className="steps">
        {[...steps, "The service starts again"].map((step, index) => (
          <li key={step}>
            <span className="status" data-tone={index < at ? "healthy" : index === at ? "busy" : "waiting"}>
              <Shape tone={index < at ? "healthy" : index === at ? "busy" : "waiting"} />
            </span>
            <span>{step}</span>
          </li>
        ))}
      </ol>
    </section>
  );
}
