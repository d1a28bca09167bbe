import type { MouseEvent } from "react";

/** Does what takes long once the page has answered to the eye. */
export function afterPaint(work: () => void): void {
  requestAnimationFrame(() => setTimeout(work));
}

/** A click that means to go there in this window. */
export const isPlain = (event: MouseEvent) => !event.defaultPrevented && event.button === 0 && !event.metaKey && !event.ctrlKey && !event.shiftKey && !event.altKey;
