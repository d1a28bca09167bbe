import type { OperationVariables, TypedDocumentNode } from "@apollo/client";
import { replaceEqualDeep } from "@tanstack/react-router";
import { useCallback, useEffect, useMemo, useSyncExternalStore } from "react";
import { alsoRefreshed, client, problemOf, type Problem } from "./client";

interface Answer<T> {
  data?: T;
  error?: Problem;
}

interface Kept<T> {
  answer: Answer<T>;
  readers: Set<() => void>;
  ask: () => Promise<void>;
}

// Answers with thousands of values that come every few seconds. Sorting each of them into the cache takes longer than a person waits
// for a click; compared with the answer before, hardly anything is new.
const kept = new WeakMap<object, Map<string, Kept<unknown>>>();
const shown = new Set<Kept<unknown>>();
const nothing: Answer<never> = {};

alsoRefreshed.add(() => Promise.all([...shown].map((one) => one.ask().catch(() => undefined))));

type Doc<T, V extends OperationVariables> = TypedDocumentNode<T, V>;

function make<T, V extends OperationVariables>(query: Doc<T, V>, variables: V): Kept<T> {
  let asked = 0;
  let answered = 0;
  const take = (number: number, answer: Answer<T>) => {
    // An answer that was overtaken by a later one is out of date.
    if (number < answered) return;
    answered = number;
    if (answer.data === one.answer.data && answer.error === one.answer.error) return;
    one.answer = answer;
    for (const reader of one.readers) reader();
  };
  const one: Kept<T> = {
    answer: {},
    readers: new Set(),
    ask: async () => {
      const number = ++asked;
      try {
        const { data } = await client.query({ query, variables, fetchPolicy: "no-cache", context: { queryDeduplication: false } } as never);
        take(number, { data: replaceEqualDeep(one.answer.data, data as T) });
      } catch (error) {
        const problem = problemOf(error);
        take(number, { data: one.answer.data, error: problem });
        throw problem;
      }
    },
  };
  return one;
}

function keep<T, V extends OperationVariables>(query: Doc<T, V>, variables: V): Kept<T> {
  const all = kept.get(query) ?? new Map<string, Kept<unknown>>();
  kept.set(query, all);
  const key = JSON.stringify(variables);
  const known = all.get(key) ?? (make(query, variables) as Kept<unknown>);
  all.set(key, known);
  return known as Kept<T>;
}

/** Has the answer here before the page that shows it, and throws a [`Problem`]. What is known already is enough when it need not be fresh. */
export async function askWhole<T, V extends OperationVariables>(query: Doc<T, V>, variables: V, fresh = true): Promise<void> {
  const one = keep(query, variables);
  if (fresh || !one.answer.data) await one.ask();
}

/** The last answer as it came; parts that are the same stay the same objects. */
export function useWhole<T, V extends OperationVariables>(query: Doc<T, V>, variables: V | null): Answer<T> & { again: () => Promise<void> } {
  const key = variables && JSON.stringify(variables);
  const one = useMemo(() => (variables ? keep(query, variables) : null), [query, key]);
  const subscribe = useCallback(
    (reader: () => void) => {
      if (!one) return () => undefined;
      one.readers.add(reader);
      shown.add(one as Kept<unknown>);
      return () => {
        one.readers.delete(reader);
        if (one.readers.size === 0) shown.delete(one as Kept<unknown>);
      };
    },
    [one],
  );
  const { data, error } = useSyncExternalStore(subscribe, (): Answer<T> => one?.answer ?? nothing);
  const again = useCallback(async () => one?.ask().catch(() => undefined), [one]);
  useEffect(() => {
    if (one && !one.answer.data) void again();
  }, [one, again]);
  return { data, error, again };
}
