import { change } from "../api/client";
import { WorkspacePlanSetDocument, type Plan } from "../gql";
import { tell } from "../ui/toast";

/** What the plans are called. */
export const plans: Record<Plan, string> = { PRO: "Professional", HOBBY: "Hobby", FREE: "Free" };

/** Puts a workspace on another plan: for whoever runs the server. */
export function PlanSwitch({ workspace: { id, name, plan } }: { workspace: { id: string; name: string; plan: Plan } }) {
  return (
    <select className="select" style={{ width: 140 }} aria-label={`Plan of ${name}`} value={plan} onChange={(event) => void change(WorkspacePlanSetDocument, { id, plan: event.target.value as Plan }).then(() => tell("The plan is set"), tell.problem)}>
      {(Object.keys(plans) as Plan[]).map((one) => (
        <option key={one} value={one}>
          {plans[one]}
        </option>
      ))}
    </select>
  );
}
