import type { ReactNode } from "react";

const escapes = /\u001b\[([0-9;]*)([A-Za-z])/g;

/** Text with the colours that a program wrote for a terminal. Anything else that it wrote for one is left out. */
export function ansi(text: string): ReactNode {
  if (!text.includes("\u001b")) return text;
  const out: ReactNode[] = [];
  let classes: string[] = [];
  let at = 0;
  const push = (part: string) => part && out.push(classes.length ? <span key={out.length} className={classes.map((one) => `ansi-${one}`).join(" ")}>{part}</span> : part);
  for (const match of text.matchAll(escapes)) {
    push(text.slice(at, match.index));
    at = match.index + match[0].length;
    if (match[2] !== "m") continue;
    for (const code of (match[1] || "0").split(";")) {
      const number = Number(code);
      if (number === 0) classes = [];
      else if (number <= 4) classes = [...classes, code];
      else if (number === 22) classes = classes.filter((one) => one !== "1" && one !== "2");
      else if (number === 39) classes = classes.filter((one) => one.length < 2);
      else if ((number >= 30 && number <= 37) || (number >= 90 && number <= 97)) classes = [...classes.filter((one) => one.length < 2), code];
    }
  }
  push(text.slice(at));
  return out;
}

export function withoutAnsi(text: string): string {
  return text.replace(escapes, "");
}
