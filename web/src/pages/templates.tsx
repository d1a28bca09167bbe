import { useQuery } from "@apollo/client/react";
import { Box, Database } from "lucide-react";
import { useState } from "react";
import { change } from "../api/client";
import { TemplateDeployDocument, TemplatesDocument } from "../gql";
import { ErrorBox } from "../ui/basic";
import { tell } from "../ui/toast";
import { useProject } from "./environment";

/** What is ready to be added: databases first of all. */
export function Templates({ env, done }: { env: string; done: () => void }) {
  const project = useProject();
  const { data, error } = useQuery(TemplatesDocument);
  const [busy, setBusy] = useState<string | null>(null);
  if (error && !data) return <ErrorBox error={error} />;
  const templates = data?.templates.edges.map((edge) => edge.node) ?? [];
  return (
    <div className="two-columns" style={{ gap: 8 }}>
      {templates.map((template) => (
        <button
          key={template.id}
          type="button"
          className="choice"
          disabled={busy !== null}
          aria-busy={busy === template.id}
          onClick={async () => {
            setBusy(template.id);
            try {
              await change(TemplateDeployDocument, { input: { templateId: template.id, serializedConfig: template.serializedConfig, projectId: project.id, environmentId: env, workspaceId: project.workspaceId } });
              tell(`${template.name} is being deployed`);
              done();
            } catch (problem) {
              tell.problem(problem);
            } finally {
              setBusy(null);
            }
          }}
        >
          {template.category === "Storage" ? <Database size={16} /> : <Box size={16} />}
          <span className="grow">
            <strong>{template.name}</strong>
            {template.description && <span className="small quiet" style={{ display: "block" }}>{template.description}</span>}
          </span>
        </button>
      ))}
    </div>
  );
}
