import { change } from "../api/client";
import { WorkspacePlanSetDocument, type Plan } from "../gql";
import { useSaving } from "../ui/saving";

/** What the plans are called. */
export const plans: Record<Plan, string> = { PRO: "Professional", HOBBY: "Hobby", FREE: "Free" };

/** Puts a workspace on another plan: for whoever runs the server. */
export function PlanSwitch({ workspace: { id, name, plan } }: { workspace: { id: string; name: string; plan: Plan } }) {
  const [isSaving, save] = useSaving();
  return (
    <select className="select" style={{ width: 140 }} aria-label={`Plan of ${name}`} value={plan} disabled={isSaving} aria-busy={isSaving} onChange={(event) => save(event.target, change(WorkspacePlanSetDocument, { id, plan: event.target.value as Plan }), "The plan is set")}>
      {(Object.keys(plans) as Plan[]).map((one) => (
        <option key={one} value={one}>
          {plans[one]}
        </option>
      ))}
    </select>
  );
}
