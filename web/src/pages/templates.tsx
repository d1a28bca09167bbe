import { useQuery } from "@apollo/client/react";
import { Box, Database } from "lucide-react";
import { useState } from "react";
import { change } from "../api/client";
import { TemplateDeployDocument, TemplatesDocument } from "../gql";
import { ErrorBox } from "../ui/basic";
import { tell } from "../ui/toast";

interface Into {
  projectId: string;
  environmentId: string;
}

/** What is ready to be added: databases first of all. Where it goes is asked when it has been chosen. */
export function Templates({ into, done }: { into: () => Promise<Into>; done: (into: Into) => void }) {
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
              const place = await into();
              await change(TemplateDeployDocument, { input: { templateId: template.id, serializedConfig: template.serializedConfig, ...place } });
              tell(`${template.name} is being deployed`);
              done(place);
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
