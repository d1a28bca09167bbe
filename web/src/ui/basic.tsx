import { Check, Copy, X } from "lucide-react";
import { useCallback, useEffect, useId, useState, type ButtonHTMLAttributes, type ReactNode } from "react";
import { problemOf } from "../api/client";
import { Elapsed } from "./time";
import { tell } from "./toast";

type ButtonProps = ButtonHTMLAttributes<HTMLButtonElement> & { kind?: "primary" | "danger" | "plain"; size?: "small"; busy?: boolean };

export function Button({ kind, size, busy, disabled, children, type = "button", ...rest }: ButtonProps) {
  return (
    <button {...rest} type={type} className="button" data-kind={kind} data-size={size} disabled={disabled || busy} aria-busy={busy}>
      {children}
    </button>
  );
}

/** What takes longer says for how long it has been going on. */
const LONG = 2000;

/** A button that does something on the server, and says when that did not work. */
export function Act({ act, done, children, ...rest }: ButtonProps & { act: () => Promise<unknown>; done?: string }) {
  const [busy, setBusy] = useState(false);
  const [since, setSince] = useState<string | null>(null);
  return (
    <Button
      {...rest}
      busy={busy}
      onClick={async () => {
        setBusy(true);
        const begun = new Date().toISOString();
        const timer = setTimeout(() => setSince(begun), LONG);
        try {
          await act();
          if (done) tell(done);
        } catch (error) {
          tell.problem(error);
        } finally {
          clearTimeout(timer);
          setSince(null);
          setBusy(false);
        }
      }}
    >
      {children}
      {since && (
        <span aria-hidden>
          <Elapsed since={since} />
        </span>
      )}
    </Button>
  );
}

export function CopyButton({ text, label = "Copy" }: { text: string; label?: string }) {
  const [copied, set] = useState(false);
  useEffect(() => {
    if (!copied) return;
    const id = setTimeout(() => set(false), 1600);
    return () => clearTimeout(id);
  }, [copied]);
  return (
    <button
      type="button"
      className="icon-button"
      aria-label={copied ? "Copied" : label}
      title={copied ? "Copied" : label}
      onClick={async (event) => {
        event.preventDefault();
        event.stopPropagation();
        await copyText(text);
        set(true);
      }}
    >
      {copied ? <Check size={14} /> : <Copy size={14} />}
    </button>
  );
}

export async function copyText(text: string): Promise<void> {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    // Plain HTTP on another machine has no clipboard: select it for the person instead.
    const field = document.createElement("textarea");
    field.value = text;
    document.body.append(field);
    field.select();
    document.execCommand("copy");
    field.remove();
  }
}

export function Command({ children }: { children: string }) {
  return (
    <span className="command">
      <code tabIndex={0}>{children}</code>
      <CopyButton text={children} label="Copy the command" />
    </span>
  );
}

export function Field({ label, hint, children }: { label: string; hint?: ReactNode; children: ReactNode }) {
  return (
    <label className="field">
      <span>{label}</span>
      {children}
      {hint && <small>{hint}</small>}
    </label>
  );
}

export function Empty({ title, children }: { title: string; children?: ReactNode }) {
  return (
    <div className="empty">
      <h2>{title}</h2>
      {children}
    </div>
  );
}

export function ErrorBox({ error, retry }: { error: unknown; retry?: () => void }) {
  const problem = problemOf(error);
  return (
    <div className="notice" data-tone="failed" role="alert">
      <div className="grow stack tight">
        <span>{problem.message}</span>
        {problem.requestId && (
          <small className="quiet">
            Request <code>{problem.requestId}</code>
          </small>
        )}
      </div>
      {retry && (
        <Button size="small" onClick={retry}>
          Try again
        </Button>
      )}
    </div>
  );
}

export function Dialog({ title, open, onClose, children, className, stays }: { title: string; open: boolean; onClose: () => void; children: ReactNode; className?: string; stays?: boolean }) {
  const id = useId();
  // Closed before it is taken away: only then does the browser give the focus back to what opened it.
  const show = useCallback((dialog: HTMLDialogElement | null) => {
    dialog?.showModal();
    // The browser begins at the first button, which closes; a dialog that begins with a field is there to be typed into.
    const first = dialog?.querySelectorAll<HTMLElement>("input, select, textarea, button, a[href]")[1];
    if (first?.matches("input:not([type=file], [type=checkbox]), textarea")) first.focus();
    return () => dialog?.close();
  }, []);
  if (!open) return null;
  return (
    // What closes in a dialog is told to that dialog too, and leaves it open.
    // biome-ignore lint: Escape closes a dialog, the click is an addition to it
    <dialog ref={show} className={className} aria-labelledby={id} onClose={(event) => event.target === event.currentTarget && onClose()} onMouseDown={(event) => !stays && event.target === event.currentTarget && onClose()}>
      <div className="row between" style={{ padding: "16px 12px 0 20px" }}>
        <h2 id={id}>{title}</h2>
        <button type="button" className="icon-button" aria-label="Close" onClick={onClose}>
          <X size={16} />
        </button>
      </div>
      {children}
    </dialog>
  );
}

interface Question {
  title: string;
  what: ReactNode;
  verb: string;
  keep?: string;
  done?: string;
  /** Of what cannot be had again: the person types it. */
  name?: string;
  act: () => Promise<unknown>;
}

/** Asks before something ends. */
export function Confirm({ title, what, verb, keep = "Keep it", done, name, act, open, onClose }: Question & { open: boolean; onClose: () => void }) {
  const [typed, setTyped] = useState("");
  const close = () => {
    setTyped("");
    onClose();
  };
  return (
    <Dialog title={title} open={open} onClose={close}>
      <div className="section">
        <div className="second">{what}</div>
        {name !== undefined && (
          <Field label={`Type ${name} to confirm`}>
            <input className="input" autoFocus value={typed} onChange={(event) => setTyped(event.target.value)} autoComplete="off" spellCheck={false} />
          </Field>
        )}
      </div>
      <footer>
        <Button onClick={close}>{keep}</Button>
        <Act
          kind="danger"
          disabled={name !== undefined && typed !== name}
          act={async () => {
            await act();
            close();
          }}
          done={done}
        >
          {verb}
        </Act>
      </footer>
    </Dialog>
  );
}

/** A question together with what brings it up. */
export function Asking({ trigger, ...question }: Question & { trigger: (ask: () => void) => ReactNode }) {
  const [open, setOpen] = useState(false);
  return (
    <>
      {trigger(() => setOpen(true))}
      <Confirm {...question} open={open} onClose={() => setOpen(false)} />
    </>
  );
}

/** For what cannot be undone: the person types the name of the thing. */
export function ConfirmByName(question: Question & { name: string }) {
  return (
    <Asking
      {...question}
      trigger={(ask) => (
        <Button kind="danger" onClick={ask}>
          {question.verb}…
        </Button>
      )}
    />
  );
}

/** A secret that is shown this once. */
export function Shown({ secret, what }: { secret: string; what: string }) {
  return (
    <div className="notice" data-tone="healthy" role="status">
      <div className="grow stack tight">
        <strong>Copy your {what} now. It is shown only this once.</strong>
        <span className="command" data-testid="secret">
          <code tabIndex={0}>{secret}</code>
          <CopyButton text={secret} label={`Copy the ${what}`} />
        </span>
      </div>
    </div>
  );
}
