import { useState } from "react";
import { change } from "../api/client";
import { ServiceInstanceUpdateDocument, type ServiceCardFragment } from "../gql";
import { Act, Dialog, Field } from "../ui/basic";
import { AddService } from "./add-service";
import { EndDeployment } from "./deployments";
import { NewEnvironment, type Project } from "./environment";

/** What the palette was told to do that asks for something first. */
export type Verb = { name: "add" | "environment"; project: Project; env: string } | { name: "scale"; service: ServiceCardFragment; env: string } | { name: "stop" | "remove"; deployment: string };

/** The question of a verb. */
export function Verbs({ of, onClose }: { of: Verb; onClose: () => void }) {
  switch (of.name) {
    case "add":
      return <AddService open onClose={onClose} project={of.project.id} env={of.env} />;
    case "environment":
      return <NewEnvironment project={of.project} source={of.env} open onClose={onClose} />;
    case "scale":
      return <Scale of={of.service} env={of.env} onClose={onClose} />;
    default:
      return <EndDeployment id={of.deployment} ending={of.name} onClose={onClose} />;
  }
}

function Scale({ of, env, onClose }: { of: ServiceCardFragment; env: string; onClose: () => void }) {
  const now = of.numReplicas ?? 1;
  const running = of.activeDeployments[0]?.instances.filter((one) => one.status === "RUNNING").length ?? 0;
  const [text, setText] = useState(String(now));
  const wanted = Number(text);
  return (
    <Dialog title={`Scale ${of.serviceName}`} open onClose={onClose}>
      <div className="section">
        <Field label="Replicas" hint={`${running} of ${now} running. Requests are spread over all of them.`}>
          <input className="input numbers" inputMode="numeric" value={text} onChange={(event) => setText(event.target.value.trim())} />
        </Field>
      </div>
      <footer>
        <Act
          kind="primary"
          disabled={!/^[1-9]\d?$/.test(text) || wanted > 50 || wanted === now}
          act={async () => {
            await change(ServiceInstanceUpdateDocument, { environmentId: env, serviceId: of.serviceId, input: { numReplicas: wanted } });
            onClose();
          }}
          done={`Scaling to ${wanted}`}
        >
          Scale
        </Act>
      </footer>
    </Dialog>
  );
}
