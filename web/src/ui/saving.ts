import { useEffect, useRef, useState } from "react";
import { tell } from "./toast";

/**
 * For a field whose value is on the server as soon as it is chosen. Until it is there the field shows what holds and takes nothing else;
 * then it is told, and the field has the focus again.
 */
export function useSaving(): [isSaving: boolean, save: (field: HTMLElement, work: Promise<unknown>, done?: string) => void] {
  const [isSaving, setSaving] = useState(false);
  const left = useRef<HTMLElement | null>(null);
  useEffect(() => {
    if (isSaving) return;
    // What takes nothing gives the focus away.
    if (document.activeElement === document.body) left.current?.focus({ preventScroll: true });
    left.current = null;
  }, [isSaving]);
  const save = (field: HTMLElement, work: Promise<unknown>, done = "Saved") => {
    left.current = document.activeElement === field ? field : null;
    setSaving(true);
    void work.then(() => tell(done), tell.problem).finally(() => setSaving(false));
  };
  return [isSaving, save];
}
