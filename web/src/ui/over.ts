import { useSyncExternalStore, type ReactNode } from "react";

let shown: ReactNode = null;
const readers = new Set<() => void>();

/** Shows something over whatever page there is, until the next is shown: what goes on must not end with the page where it began. */
export function showOver(what: ReactNode): void {
  shown = what;
  for (const reader of readers) reader();
}

function read(reader: () => void): () => void {
  readers.add(reader);
  return () => void readers.delete(reader);
}

export function Over(): ReactNode {
  return useSyncExternalStore(read, () => shown);
}
