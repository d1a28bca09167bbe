import { useStoreApi } from "@xyflow/react";
import { useLayoutEffect, useRef } from "react";

/** Between two dots at full size, in pixels: as in the style sheet. */
const GAP = 24;

/** Closer or wider than by half, every second one is left out or added. */
function nearOne(zoom: number): number {
  return zoom * 2 ** -Math.round(Math.log2(zoom));
}

/**
 * The paper under a graph. It is drawn once and then only shifted and scaled: a pattern that is drawn again for each frame costs more than
 * hundreds of cards.
 */
export function Dots() {
  const layer = useRef<HTMLDivElement>(null);
  const store = useStoreApi();
  useLayoutEffect(() => {
    let drawn = "";
    const follow = () => {
      const [x, y, zoom] = store.getState().transform;
      const scale = nearOne(zoom);
      const next = `translate(${x % (GAP * scale)}px, ${y % (GAP * scale)}px) scale(${scale})`;
      if (next !== drawn && layer.current) layer.current.style.transform = drawn = next;
    };
    follow();
    return store.subscribe(follow);
  }, [store]);
  return <div ref={layer} className="dots" />;
}
