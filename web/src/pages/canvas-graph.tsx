import { Controls, getBezierPath, getViewportForBounds, Position, ReactFlow, useReactFlow, useStore, useStoreApi, ViewportPortal } from "@xyflow/react";
import { useParams } from "@tanstack/react-router";
import { memo, useCallback, useEffect, useLayoutEffect, useMemo, useRef, useState, type FocusEvent } from "react";
import { Dots } from "../ui/dots";
import { place, type Placed } from "../ui/layout";
import { VolumeButton, type Volume } from "./idle-volume";
import { CardLink, type Card } from "./service-card";

/** How all of them are shown: never larger than life, with some air around. */
const fit = { padding: 0.2, maxZoom: 1 };
const hidden = { hideAttribution: true };
const SIZE = { width: 232, height: 92 };
/** Any smaller, and the middles of two cards would be less than 24 pixels apart. */
const SMALLEST = 0.195;
/** So many cards are drawn in one go that nobody waits for them. */
const AT_ONCE = 40;

/**
 * Services, the volumes that none of them has, and references as lines. The library moves the view and knows nothing of the cards: as nodes
 * of its own, each would be measured and would follow every move.
 */
export const CanvasGraph = memo(function CanvasGraph({ cards, idle, links, open }: { cards: Card[]; idle: Volume[]; links: [string, string][]; open: (id: string) => void }) {
  const ids = [...cards.map((card) => card.serviceId), ...idle.map((one) => one.id)].join(" ");
  const positions = useMemo(() => place(ids.split(" ").filter(Boolean), links, Math.max(2, Math.ceil(Math.sqrt(ids.split(" ").length * 1.2)))), [ids, links]);
  const size = useMemo(() => {
    const all = [...positions.values()];
    return { width: Math.max(0, ...all.map((at) => at.x)) + SIZE.width, height: Math.max(0, ...all.map((at) => at.y)) + SIZE.height };
  }, [positions]);
  const lines = useMemo(() => links.map(([from, to]) => line(positions.get(from), positions.get(to))).join(""), [links, positions]);
  const frame = useRef<HTMLDivElement>(null);
  const [began, ended] = useMemo(() => [true, false].map((is) => () => void frame.current?.toggleAttribute("data-moving", is)), []);
  const { isShown, show } = useSight(positions, size);
  const drawn = useMore(cards.length, isShown);
  const at = (id: string) => ({ left: positions.get(id)?.x, top: positions.get(id)?.y });
  const focused = (event: FocusEvent) => {
    const card = (event.target as HTMLElement).closest<HTMLElement>(".placed");
    if (card && event.target.matches(":focus-visible")) show({ id: card.dataset.id });
  };
  return (
    <ReactFlow ref={frame} minZoom={SMALLEST} maxZoom={1.5} nodesConnectable={false} elementsSelectable={false} proOptions={hidden} deleteKeyCode={null} selectionKeyCode={null} multiSelectionKeyCode={null} panOnScroll onMoveStart={began} onMoveEnd={ended} onFocus={focused}>
      <Dots />
      {isShown && (
        <ViewportPortal>
          <div className="desk" style={size} />
          <svg className="links" aria-hidden="true" {...size}>
            <path d={lines} />
          </svg>
          {cards.slice(0, drawn).map((card) => (
            <div key={card.serviceId} className="placed" data-id={card.serviceId} style={at(card.serviceId)}>
              <CardLink card={card} />
            </div>
          ))}
          {idle.map((of) => (
            <div key={of.id} className="placed" data-id={of.id} style={at(of.id)}>
              <VolumeButton of={of} open={open} />
            </div>
          ))}
        </ViewportPortal>
      )}
      <Controls showInteractive={false} position="bottom-left" onFitView={() => show({ isAll: true })} />
    </ReactFlow>
  );
});

function line(from: Placed | undefined, to: Placed | undefined): string {
  if (!from || !to) return "";
  const middle = SIZE.height / 2;
  return getBezierPath({ sourceX: from.x + SIZE.width, sourceY: from.y + middle, sourcePosition: Position.Right, targetX: to.x, targetY: to.y + middle, targetPosition: Position.Left })[0];
}

/** How many of all are drawn by now. */
function useMore(all: number, begun: boolean): number {
  const [drawn, setDrawn] = useState(AT_ONCE);
  useEffect(() => {
    if (!begun || drawn >= all) return;
    const id = requestAnimationFrame(() => setDrawn(drawn + AT_ONCE));
    return () => cancelAnimationFrame(id);
  }, [begun, drawn, all]);
  return drawn;
}

/**
 * Shows all services when they stand elsewhere than before, and moves the open one out from under the panel. The scale stays what it was:
 * coming nearer to one card would take the others away.
 */
function useSight(positions: Map<string, Placed>, size: { width: number; height: number }) {
  const selected = useParams({ strict: false, select: (params) => (params as { service?: string }).service });
  const flow = useReactFlow();
  const store = useStoreApi();
  const isReady = useStore((state) => state.width > 0 && state.panZoom !== null);
  const [isShown, setShown] = useState(false);
  const seen = useRef(positions);
  const show = useCallback(
    ({ id, isAll, isSudden }: { id?: string; isAll?: boolean; isSudden?: boolean }) => {
      const { width, height, domNode, transform } = store.getState();
      let [x, y, zoom] = transform;
      if (isAll) ({ x, y, zoom } = getViewportForBounds({ x: 0, y: 0, ...size }, width, height, SMALLEST, fit.maxZoom, fit.padding));
      const at = id && positions.get(id);
      if (at) {
        const panel = domNode?.closest(".stage")?.querySelector<HTMLElement>(".panel");
        const free = panel?.offsetLeft ?? width;
        const [left, top] = [at.x * zoom + x, at.y * zoom + y];
        if (left < 8 || left + SIZE.width * zoom > free - 8) x = free / 2 - (at.x + SIZE.width / 2) * zoom;
        if (top < 8 || top + SIZE.height * zoom > height - 8) y = height / 2 - (at.y + SIZE.height / 2) * zoom;
      }
      if (x === transform[0] && y === transform[1] && zoom === transform[2]) return;
      void flow.setViewport({ x, y, zoom }, { duration: isSudden || matchMedia("(prefers-reduced-motion: reduce)").matches ? 0 : 160, interpolate: "linear" });
    },
    [positions, size, flow, store],
  );
  useLayoutEffect(() => {
    if (!isReady || isShown) return;
    seen.current = positions;
    show({ id: selected, isAll: true, isSudden: true });
    setShown(true);
  }, [isReady, isShown, positions, selected, show]);
  useEffect(() => {
    if (!isShown) return;
    // A panel that opens is there by then.
    const id = setTimeout(() => {
      show({ id: selected, isAll: seen.current !== positions });
      seen.current = positions;
    }, 30);
    return () => clearTimeout(id);
  }, [positions, selected, isShown, show]);
  return { isShown, show };
}
