import { useCallback, useEffect, useMemo, useRef, useState } from "react";
import { tell } from "../ui/toast";

/** What takes the last changes back. What comes back has another id than before: older steps learn it by its alias. */
export function useUndo(again: () => Promise<void>) {
  const stack = useRef<(() => Promise<unknown>)[]>([]);
  const aliases = useRef(new Map<string, string>());
  const [depth, setDepth] = useState(0);
  const pop = useCallback(async () => {
    const step = stack.current.pop();
    setDepth(stack.current.length);
    await step?.();
  }, []);
  useEffect(() => {
    const pressed = (event: KeyboardEvent) => {
      // Whoever has taken something else back with this key has said so.
      if (event.defaultPrevented) return;
      const typing = (event.target as HTMLElement).matches("input, textarea, select");
      if ((event.ctrlKey || event.metaKey) && !event.shiftKey && event.key.toLowerCase() === "z" && !typing) {
        event.preventDefault();
        void pop().then(again, tell.problem);
      }
    };
    addEventListener("keydown", pressed);
    return () => removeEventListener("keydown", pressed);
  }, [pop, again]);
  return useMemo(
    () => ({
      depth,
      pop,
      push: (step: () => Promise<unknown>) => {
        stack.current.push(step);
        setDepth(stack.current.length);
      },
      alias: (before: string, now: string) => aliases.current.set(before, now),
      real: (id: string) => {
        let found = id;
        for (let next = aliases.current.get(found); next; next = aliases.current.get(found)) found = next;
        return found;
      },
    }),
    [depth, pop],
  );
}
