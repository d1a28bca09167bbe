import { print } from "graphql";
import { useEffect, useRef, useSyncExternalStore } from "react";
import { WorkspaceChangesDocument } from "../gql";
import { lookAtSession, socket } from "./client";

/** Between two questions to the server, however much happens there, and as a multiple of what the last one took. */
const PACE = 700;
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

/** One subscription for all that shows something of a workspace. */
function listen(workspace: string): Wire {
  const known = wires.get(workspace);
  if (known && !known.over) return known;
  const wire: Wire = { readers: new Set(), held: false, live: false, over: false, end: () => undefined };
  wires.set(workspace, wire);
  const query = print(WorkspaceChangesDocument);
  const lost = socket.on("closed", () => (wire.live = false));
  const stop = () => Object.assign(wire, { live: false, over: true });
  const end = socket.subscribe(
    { query, variables: { workspaceId: workspace } },
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

function leave(workspace: string, wire: Wire): void {
  if (wire.readers.size > 0 || wire.held) return;
  if (wires.get(workspace) === wire) wires.delete(workspace);
  wire.end();
}

/** Listens for as long as it is shown, so that [`useAway`] knows on every page, and a page that comes next is heard at once. */
export function useListening(workspace: string | undefined): void {
  useEffect(() => {
    if (!workspace) return;
    const wire = listen(workspace);
    wire.held = true;
    return () => {
      wire.held = false;
      leave(workspace, wire);
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

/** Asks again whenever something in the workspace has changed; by the clock where news cannot come. A page that nobody sees waits until it is seen. */
export function useNews(workspace: string | null | undefined, ask: () => Promise<unknown> | undefined): void {
  const latest = useRef(ask);
  latest.current = ask;
  useEffect(() => {
    if (!workspace) return;
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
      timer ??= setTimeout(go, Math.max(0, asked + Math.max(PACE, SHARE * took) - performance.now()));
    };
    const wire = listen(workspace);
    // What came before the first one reads it was heard by nobody.
    if (wire.live && wire.readers.size === 0) plan();
    wire.readers.add(plan);
    const clock = setInterval(() => performance.now() - asked >= (wire.live ? SILENCE : CUT_OFF) && plan(), 1000);
    const seen = () => !document.hidden && wanted && plan();
    document.addEventListener("visibilitychange", seen);
    return () => {
      wire.readers.delete(plan);
      leave(workspace, wire);
      clearInterval(clock);
      clearTimeout(timer);
      document.removeEventListener("visibilitychange", seen);
    };
  }, [workspace]);
}
