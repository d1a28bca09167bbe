import { useCallback, useEffect, useRef, useState } from "react";

export interface Asked<T> {
  data: T | undefined;
  error: unknown;
  /** Asks again at once. */
  again: () => Promise<void>;
}

/** What a question that is not GraphQL was answered. */
export function useAsked<T>(ask: () => Promise<T>, key: string): Asked<T> {
  const [state, set] = useState<{ key: string; data?: T; error?: unknown }>({ key });
  const latest = useRef(ask);
  latest.current = ask;
  const current = useRef(key);
  current.current = key;
  const turn = useRef({ asked: 0, answered: 0 });
  const again = useCallback(async () => {
    const number = ++turn.current.asked;
    // An answer that was overtaken by a later one is out of date.
    const counts = () => {
      if (current.current !== key || number < turn.current.answered) return false;
      turn.current.answered = number;
      return true;
    };
    try {
      const data = await latest.current();
      if (counts()) set({ key, data });
    } catch (error) {
      if (counts()) set((before) => ({ key, data: before.key === key ? before.data : undefined, error }));
    }
  }, [key]);
  const known = state.key === key ? state.data : undefined;
  useEffect(() => {
    void again();
  }, [again]);
  return { data: known, error: state.key === key ? state.error : undefined, again };
}
