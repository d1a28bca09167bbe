import { print } from "graphql";
import { useEffect, useRef, useSyncExternalStore } from "react";
import { WorkspaceChangesDocument, type WorkspaceChangeKind } from "../gql";
import { lookAtSession, socket } from "./client";

/** Between two questions to the server, however much happens there, and as a multiple of what the last one took. */
const PACE = 700;
/** A run is looked at step by step. */
const FLOW_PACE = 300;
const SHARE = 4;
/** Without news, and while none can come. */
const SILENCE = 30_000;
const CUT_OFF = 5000;
/** A server that is started anew is back before. */
const AWAY = 4000;

interface Wire {
  readers: Set<() => void>;
  /** Kept although nobody reads it. */
  held: boolean;
  live: boolean;
  /** Nothing comes any more: who listens next begins anew. */
  over: boolean;
  end: () => void;
}

const wires = new Map<string, Wire>();

const nameOf = (workspace: string, kind: WorkspaceChangeKind) => `${kind} ${workspace}`;

/** One subscription for all that shows something of a kind in a workspace. */
function listen(workspace: string, kind: WorkspaceChangeKind): Wire {
  const known = wires.get(nameOf(workspace, kind));
  if (known && !known.over) return known;
  const wire: Wire = { readers: new Set(), held: false, live: false, over: false, end: () => undefined };
  wires.set(nameOf(workspace, kind), wire);
  const query = print(WorkspaceChangesDocument);
  const lost = socket.on("closed", () => (wire.live = false));
  const stop = () => Object.assign(wire, { live: false, over: true });
  const end = socket.subscribe(
    { query, variables: { workspaceId: workspace, kind } },
    {
      // The first one says that the connection is there, or there again: what was missed is asked for.
      next: (message) => {
        if (message.errors?.length) return void lookAtSession();
        wire.live = true;
        for (const one of wire.readers) one();
      },
      error: () => {
        stop();
        // Nobody tries again: pages go on by the clock.
        notAway();
        void lookAtSession();
      },
      complete: stop,
    },
  );
  wire.end = () => {
    lost();
    end();
  };
  return wire;
}

function leave(workspace: string, kind: WorkspaceChangeKind, wire: Wire): void {
  if (wire.readers.size > 0 || wire.held) return;
  if (wires.get(nameOf(workspace, kind)) === wire) wires.delete(nameOf(workspace, kind));
  wire.end();
}

/** Listens for as long as it is shown, so that [`useAway`] knows on every page, and a page that comes next is heard at once. */
export function useListening(workspace: string | undefined): void {
  useEffect(() => {
    if (!workspace) return;
    const wire = listen(workspace, "STATE");
    wire.held = true;
    return () => {
      wire.held = false;
      leave(workspace, "STATE", wire);
    };
  }, [workspace]);
}

const away: { since?: ReturnType<typeof setTimeout>; is: boolean; readers: Set<() => void> } = { is: false, readers: new Set() };

function setAway(is: boolean): void {
  away.is = is;
  for (const reader of away.readers) reader();
}

function notAway(): void {
  clearTimeout(away.since);
  away.since = undefined;
  if (away.is) setAway(false);
}

// A socket that nobody needs any more is closed, too, and says so.
socket.on("closed", (event) => {
  const { code } = event as CloseEvent;
  // Whoever listens may do so no longer, or not as before.
  if (code === 4401 || code === 4403) void lookAtSession();
  if (code !== 1000) away.since ??= setTimeout(() => setAway(true), AWAY);
});
socket.on("connected", notAway);

/** Whether the server has not been reached for some seconds, as long as anybody listens to it. */
export function useAway(): boolean {
  return useSyncExternalStore(
    (reader) => {
      away.readers.add(reader);
      return () => away.readers.delete(reader);
    },
    () => away.is,
  );
}

/** Asks again whenever something of a kind in the workspace has changed; by the clock where news cannot come. A page that nobody sees waits until it is seen. */
export function useNews(workspace: string | null | undefined, ask: () => Promise<unknown> | undefined, kind: WorkspaceChangeKind = "STATE"): void {
  useNewsOf(workspace ? [workspace] : [], ask, kind);
}

/** The same for several workspaces. */
export function useNewsOf(workspaces: string[], ask: () => Promise<unknown> | undefined, kind: WorkspaceChangeKind): void {
  const latest = useRef(ask);
  latest.current = ask;
  const all = workspaces.join(" ");
  useEffect(() => {
    if (!all) return;
    const pace = kind === "FLOW" ? FLOW_PACE : PACE;
    let [asked, took, wanted, asking] = [performance.now(), 0, false, false];
    let timer: ReturnType<typeof setTimeout> | undefined;
    const go = () => {
      timer = undefined;
      if (document.hidden || asking || !wanted) return;
      [asked, wanted, asking] = [performance.now(), false, true];
      // What cannot be asked for now is asked for again by the clock.
      void Promise.resolve(latest.current())
        .catch(() => undefined)
        .finally(() => {
          asking = false;
          took = performance.now() - asked;
          if (wanted) plan();
        });
    };
    const plan = () => {
      wanted = true;
      timer ??= setTimeout(go, Math.max(0, asked + Math.max(pace, SHARE * took) - performance.now()));
    };
    const heard = all.split(" ").map((workspace) => ({ workspace, wire: listen(workspace, kind) }));
    for (const { wire } of heard) {
      // What came before the first one reads it was heard by nobody.
      if (wire.live && wire.readers.size === 0) plan();
      wire.readers.add(plan);
    }
    const clock = setInterval(() => performance.now() - asked >= (heard.every(({ wire }) => wire.live) ? SILENCE : CUT_OFF) && plan(), 1000);
    const seen = () => !document.hidden && wanted && plan();
    document.addEventListener("visibilitychange", seen);
    return () => {
      for (const { workspace, wire } of heard) {
        wire.readers.delete(plan);
        leave(workspace, kind, wire);
      }
      clearInterval(clock);
      clearTimeout(timer);
      document.removeEventListener("visibilitychange", seen);
    };
  }, [all, kind]);
}
