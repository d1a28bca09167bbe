import { useQuery } from "@apollo/client/react";
import { useParams } from "@tanstack/react-router";
import { useMemo, type InputHTMLAttributes } from "react";
import { useWhole } from "../api/whole";
import { CanvasDocument, EnvironmentReferencesDocument } from "../gql";
import { ComboInput, type Offered } from "./combo-input";

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
export function ReferenceInput(props: Props) {
  const all = useReferences();
  const offersFor = (value: string): Offered => {
    const begun = /\$\{\{\s*([^{}]*)$/.exec(value);
    if (!begun) return { from: value.length, found: [] };
    const wanted = begun[1].toLowerCase();
    const found = all.filter((one) => one.toLowerCase().includes(wanted)).slice(0, MOST);
    return { from: begun.index, found: found.map((one) => ({ text: `\${{${one}}}`, label: one })) };
  };
  return <ComboInput {...props} offersFor={offersFor} label="References" />;
}
