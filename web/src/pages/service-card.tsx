import { useParams, useRouter } from "@tanstack/react-router";
import { Box, Clock, Database } from "lucide-react";
import { createContext, memo, use, useLayoutEffect, useMemo, useSyncExternalStore, type MouseEvent, type ReactNode, type SyntheticEvent } from "react";
import type { ServiceCardFragment } from "../gql";
import { afterPaint, isPlain } from "../ui/after-paint";
import { DeploymentState } from "../ui/state";
import { Ago } from "../ui/time";

export type Card = ServiceCardFragment & { volume?: string };

/** The mouse rests before what it points at is asked for. */
const REST = 50;

const CardsContext = createContext("");
const opened = { service: "", byKey: "", readers: new Set<() => void>() };

function setOpened(service: string | undefined): void {
  opened.service = service ?? "";
  for (const reader of opened.readers) reader();
}

/** Whether the card of this service was just opened by a key: then the focus goes on in its panel, once. */
export function takeByKey(service: string): boolean {
  const is = opened.byKey === service;
  if (is) opened.byKey = "";
  return is;
}

/** Gives the focus that went with a panel back to the card that it stood for. */
export function focusCard(service: string): void {
  if (document.activeElement !== document.body) return;
  document.querySelector<HTMLElement>(`a[data-service="${CSS.escape(service)}"]`)?.focus({ preventScroll: true });
}

function readOpened(reader: () => void): () => void {
  opened.readers.add(reader);
  return () => void opened.readers.delete(reader);
}

/** What holds the cards follows them for all: hundreds that each watch the address and the mouse by themselves make every click slow. */
export function Cards({ project, env, children }: { project: string; env: string; children: ReactNode }) {
  const selected = useParams({ strict: false, select: (params) => (params as { service?: string }).service });
  const router = useRouter();
  useLayoutEffect(() => {
    setOpened(selected);
    return () => setOpened(undefined);
  }, [selected]);
  const follow = useMemo(() => {
    let [rests, at]: [ReturnType<typeof setTimeout> | undefined, string | undefined] = [undefined, undefined];
    const place = (event: SyntheticEvent) => {
      const service = (event.target as Element).closest<HTMLElement>("a[data-service]")?.dataset.service;
      return service ? ({ to: "/p/$project/$env/s/$service/$tab", params: { project, env, service, tab: "deployments" } } as const) : undefined;
    };
    const near = (event: SyntheticEvent) => {
      const to = place(event);
      if (to?.params.service === at) return;
      at = to?.params.service;
      clearTimeout(rests);
      // What cannot be had before the click says so after it.
      if (to) rests = setTimeout(() => void router.preloadRoute(to).catch(() => undefined), REST);
    };
    const go = (event: MouseEvent) => {
      const to = place(event);
      if (!to || !isPlain(event)) return;
      event.preventDefault();
      // The card answers at once, and its panel follows it.
      setOpened(to.params.service);
      opened.byKey = event.detail === 0 ? to.params.service : "";
      afterPaint(() => void router.navigate(to));
    };
    return { onClick: go, onMouseOver: near, onFocus: near, onTouchStart: near };
  }, [router, project, env]);
  return (
    <CardsContext value={`/p/${project}/${env}`}>
      {/* biome-ignore lint: the cards are links, and lead where they say without this */}
      <div className="canvas" {...follow}>
        {children}
      </div>
    </CardsContext>
  );
}

export const CardLink = memo(function CardLink({ card }: { card: Card }) {
  const selected = useSyncExternalStore(readOpened, () => opened.service === card.serviceId);
  const latest = card.latestDeployment;
  const active = card.activeDeployments[0];
  const running = active?.instances.filter((one) => one.status === "RUNNING").length ?? 0;
  const wanted = card.numReplicas ?? 1;
  const domain = card.domains.customDomains[0]?.domain ?? card.domains.serviceDomains[0]?.domain;
  return (
    <a href={`${use(CardsContext)}/s/${card.serviceId}/deployments`} data-service={card.serviceId} className="node nopan" data-selected={selected} aria-current={selected ? "page" : undefined} draggable={false}>
      <span className="stack" style={{ gap: 2, minWidth: 0 }}>
        <span className="row">
          {card.volume ? <Database size={14} className="quiet" /> : card.cronSchedule ? <Clock size={14} className="quiet" /> : <Box size={14} className="quiet" />}
          <span className="name cut">{card.serviceName}</span>
        </span>
        <span className="where cut">{card.volume ?? domain ?? card.cronSchedule ?? card.source?.image ?? "No address"}</span>
      </span>
      <span className="row between small quiet">
        <DeploymentState status={latest?.status} stopped={latest?.deploymentStopped} />
        {active && latest?.id === active.id ? (
          <span className="numbers">
            {running} of {wanted}
          </span>
        ) : (
          latest && <Ago at={latest.createdAt} />
        )}
      </span>
    </a>
  );
});
