import { useQuery } from "@apollo/client/react";
import { useParams } from "@tanstack/react-router";
import { useId, useMemo, useState, type InputHTMLAttributes } from "react";
import { useWhole } from "../api/whole";
import { CanvasDocument, EnvironmentReferencesDocument } from "../gql";

/** What Orrery gives every service. */
const provided = ["RAILWAY_PRIVATE_DOMAIN", "RAILWAY_PUBLIC_DOMAIN"];
const MOST = 8;

interface Config {
  services?: Record<string, { variables?: Record<string, unknown> } | null>;
  sharedVariables?: Record<string, unknown>;
}

/** Everything that a value can refer to: `Service.NAME`, `shared.NAME`. */
function useReferences(): string[] {
  const { project, env, service } = useParams({ strict: false }) as { project?: string; env?: string; service?: string };
  const variables = { projectId: project ?? "", environmentId: env ?? "" };
  const skip = !project || !env;
  const services = useWhole(CanvasDocument, skip ? null : variables).data?.environment.serviceInstances.edges;
  const config = useQuery(EnvironmentReferencesDocument, { variables, skip, errorPolicy: "ignore" }).data?.environment.config as Config | undefined;
  return useMemo(() => {
    const others = (services ?? []).filter(({ node }) => node.serviceId !== service);
    const of = others.flatMap(({ node }) => [...Object.keys(config?.services?.[node.serviceId]?.variables ?? {}), ...provided].map((name) => `${node.serviceName}.${name}`));
    return [...Object.keys(config?.sharedVariables ?? {}).map((name) => `shared.${name}`), ...new Set(of)];
  }, [services, config, service]);
}

type Props = Omit<InputHTMLAttributes<HTMLInputElement>, "value" | "onChange"> & { value: string; onValue: (value: string) => void };

/** A text that may refer to other variables: after `${{` it offers them. */
export function ReferenceInput({ value, onValue, ...rest }: Props) {
  const all = useReferences();
  const [at, setAt] = useState(0);
  const [closed, setClosed] = useState(false);
  const id = useId();
  const begun = /\$\{\{\s*([^{}]*)$/.exec(value);
  const wanted = begun?.[1].toLowerCase() ?? "";
  const found = begun && !closed ? all.filter((one) => one.toLowerCase().includes(wanted)).slice(0, MOST) : [];
  const chosen = Math.min(at, found.length - 1);
  const take = (reference: string) => {
    onValue(`${value.slice(0, begun!.index)}\${{${reference}}}`);
    setAt(0);
  };
  return (
    <span className="references">
      <input
        {...rest}
        className="input mono"
        value={value}
        role="combobox"
        aria-expanded={found.length > 0}
        aria-controls={id}
        aria-activedescendant={found.length > 0 ? `${id}-${chosen}` : undefined}
        aria-autocomplete="list"
        autoComplete="off"
        spellCheck={false}
        onChange={(event) => {
          setClosed(false);
          onValue(event.target.value);
        }}
        onBlur={() => setClosed(true)}
        onFocus={() => setClosed(false)}
        onKeyDown={(event) => {
          if (found.length === 0) return rest.onKeyDown?.(event);
          if (event.key === "ArrowDown" || event.key === "ArrowUp") setAt((chosen + (event.key === "ArrowDown" ? 1 : found.length - 1)) % found.length);
          else if (event.key === "Enter" || event.key === "Tab") take(found[chosen]);
          else if (event.key === "Escape") setClosed(true);
          else return;
          event.preventDefault();
          event.stopPropagation();
        }}
      />
      <span id={id} role="listbox" aria-label="References" className="menu references-list" hidden={found.length === 0}>
        {found.map((one, index) => (
          // The field keeps the focus: pressing the button must not take it.
          <span key={one} id={`${id}-${index}`} role="option" aria-selected={index === chosen} className="menu-item mono" data-highlighted={index === chosen ? "" : undefined} onMouseDown={(event) => (event.preventDefault(), take(one))}>
            {one}
          </span>
        ))}
      </span>
    </span>
  );
}
