import { useState } from "react";

/** A value as a text that can be typed. */
export function written(value: unknown): string {
  if (value === undefined || value === null) return "";
  return typeof value === "string" ? value : JSON.stringify(value, null, 2);
}

/** A value that may be anything: JSON where the text is some, and the text itself otherwise. */
export function read(text: string): unknown {
  try {
    return JSON.parse(text) as unknown;
  } catch {
    return text;
  }
}

/** What is typed in the place of a value. What an undo brings back takes the place of what was saved, and never of what is being typed. */
export function useTyped(value: string) {
  const [text, setText] = useState(value);
  const [before, setBefore] = useState(value);
  const [saved, setSaved] = useState(value);
  if (value !== before) {
    setBefore(value);
    setSaved(value);
    if (text === saved) setText(value);
  }
  return { text, setText, settle: () => setSaved(text) };
}
