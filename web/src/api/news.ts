import { print } from "graphql";
import { useEffect, useRef } from "react";
import { WorkspaceChangesDocument } from "../gql";
import { socket } from "./client";

/** Between two questions to the server, however much happens there, and as a multiple of what the last one took. */
const PACE = 700;
const SHARE = 4;
/** Without news, and while none can come. */
const SILENCE = 30_000;
const CUT_OFF = 5000;

interface Wire {
  readers: Set<() => void>;
  live: boolean;
  end: () => void;
}

const wires = new Map<string, Wire>();

/** One subscription for all that shows something of a workspace. */
function listen(workspace: string, reader: () => void): Wire {
  const known = wires.get(workspace);
  if (known) {
    known.readers.add(reader);
    return known;
  }
  const wire: Wire = { readers: new Set([reader]), live: false, end: () => undefined };
  wires.set(workspace, wire);
  const query = print(WorkspaceChangesDocument);
  const lost = socket.on("closed", () => (wire.live = false));
  const end = socket.subscribe(
    { query, variables: { workspaceId: workspace } },
    {
      // The first one says that the connection is there, or there again: what was missed is asked for.
      next: (message) => {
        if (message.errors?.length) return;
        wire.live = true;
        for (const one of wire.readers) one();
      },
      error: () => (wire.live = false),
      complete: () => (wire.live = false),
    },
  );
  wire.end = () => {
    lost();
    end();
  };
  return wire;
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
    const wire = listen(workspace, plan);
    const clock = setInterval(() => performance.now() - asked >= (wire.live ? SILENCE : CUT_OFF) && plan(), 1000);
    const seen = () => !document.hidden && wanted && plan();
    document.addEventListener("visibilitychange", seen);
    return () => {
      wire.readers.delete(plan);
      if (wire.readers.size === 0) {
        wires.delete(workspace);
        wire.end();
      }
      clearInterval(clock);
      clearTimeout(timer);
      document.removeEventListener("visibilitychange", seen);
    };
  }, [workspace]);
}
