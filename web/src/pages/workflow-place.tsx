import { useQuery } from "@apollo/client/react";
import type { ReactNode } from "react";
import { useState } from "react";
import type { InputField } from "../api/flow";
import { ProjectsDocument, type ProjectsQuery } from "../gql";
import { Field } from "../ui/basic";
import { useWorkspace } from "../viewer";

type Project = ProjectsQuery["projects"]["edges"][number]["node"];
type Choice = [id: string, name: string];

const environmentsOf = (project: Project) => project.environments.edges.map(({ node }): Choice => [node.id, `${project.name} / ${node.name}`]);

/** Services of a project; those alone that an environment has, when it is one of the project's. */
function servicesOf(project: Project, environment: unknown): Choice[] {
  const all = project.services.edges.map(({ node }) => node);
  const there = all.filter((service) => service.serviceInstances.edges.some(({ node }) => node.environmentId === environment));
  return (environment ? there : all).map((service) => [service.id, `${project.name} / ${service.name}`]);
}

const kinds: Record<string, (project: Project, environment: unknown) => Choice[]> = {
  project_id: (project) => [[project.id, project.name]],
  environment_id: environmentsOf,
  source_environment_id: environmentsOf,
  service_id: servicesOf,
};

/** Whether an input takes the id of something that people know by its name. */
export const isPlace = (field: InputField) => field.name in kinds;

interface Props {
  field: InputField;
  value: unknown;
  /** The environment that the same step names. */
  environment: unknown;
  onValue: (value: unknown) => void;
  /** Where an id is typed. */
  typed: ReactNode;
}

/** Projects, environments and services of the workspace by their names. Any other id can be typed. */
export function PlaceValue({ field, value, environment, onValue, typed }: Props) {
  const { id } = useWorkspace();
  const { data } = useQuery(ProjectsDocument, { variables: { workspaceId: id } });
  const [typing, setTyping] = useState(false);
  if (typing) return typed;
  const choices = (data?.projects.edges ?? []).filter(({ node }) => !node.deletedAt).flatMap(({ node }) => kinds[field.name](node, environment));
  const now = typeof value === "string" ? value : "";
  return (
    <Field label={field.required ? `${field.name}, required` : field.name} hint={field.description}>
      <select className="select" value={now} onChange={(event) => (event.target.value === "another" ? setTyping(true) : onValue(event.target.value || null))}>
        <option value="">–</option>
        {now && !choices.some(([id]) => id === now) && <option value={now}>{now}</option>}
        {choices.map(([id, name]) => (
          <option key={id} value={id}>
            {name}
          </option>
        ))}
        <option value="another">Another id…</option>
      </select>
    </Field>
  );
}
