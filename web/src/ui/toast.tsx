import { X } from "lucide-react";
import { useSyncExternalStore } from "react";
import { problemOf } from "../api/client";

interface Toast {
  id: number;
  text: string;
  tone: "failed" | "healthy";
  requestId?: string;
  undo?: () => void;
}

let toasts: Toast[] = [];
let next = 1;
const listeners = new Set<() => void>();

function set(list: Toast[]) {
  toasts = list;
  listeners.forEach((one) => one());
}

function add(toast: Omit<Toast, "id">) {
  const id = next++;
  set([...toasts.slice(-3), { ...toast, id }]);
  // What went wrong stays until it is read.
  if (toast.tone !== "failed") setTimeout(() => set(toasts.filter((one) => one.id !== id)), toast.undo ? 8000 : 4000);
}

export function tell(text: string, undo?: () => void) {
  add({ text, tone: "healthy", undo });
}

tell.problem = (error: unknown) => {
  const problem = problemOf(error);
  add({ text: problem.message, tone: "failed", requestId: problem.requestId });
};

/** Takes back what was told of last, if that can be taken back. */
export function undoNewest(): boolean {
  const newest = toasts.findLast((one) => one.undo);
  newest?.undo?.();
  set(toasts.filter((one) => one !== newest));
  return newest !== undefined;
}

export function Toasts() {
  const list = useSyncExternalStore(
    (listener) => {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
    () => toasts,
  );
  return (
    <div className="toasts" role="status" aria-live="polite">
      {list.map((toast) => (
        <div key={toast.id} className="toast" data-tone={toast.tone}>
          <div className="grow">
            {toast.text}
            {toast.requestId && (
              <div className="quiet small">
                Request <code>{toast.requestId}</code>
              </div>
            )}
          </div>
          {toast.undo && (
            <button
              type="button"
              className="button"
              data-size="small"
              onClick={() => {
                toast.undo?.();
                set(toasts.filter((one) => one.id !== toast.id));
              }}
            >
              Undo
            </button>
          )}
          <button type="button" className="icon-button" aria-label="Dismiss" onClick={() => set(toasts.filter((one) => one.id !== toast.id))}>
            <X size={14} />
          </button>
        </div>
      ))}
    </div>
  );
}
