import { change } from "../api/client";
import { ProjectScheduleDeleteCancelDocument, ProjectScheduleDeleteForceDocument } from "../gql";
import { Act, Asking, Button } from "../ui/basic";
import { tell } from "../ui/toast";

interface Ended {
  id: string;
  name: string;
}

/** So long the server keeps a project that is deleted. */
const KEPT = 48 * 3_600_000;

/** When a project that is deleted since then is gone for good. */
export const goneAt = (deletedAt: string) => new Date(Date.parse(deletedAt) + KEPT).toISOString();

/** Takes back that a project is deleted, and tells how that went. */
export const takeBack = ({ id, name }: Ended) => change(ProjectScheduleDeleteCancelDocument, { id }).then(() => tell(`${name} stays`), tell.problem);

/** What can be done with a project that is being deleted. */
export function Ending({ of }: { of: Ended }) {
  return (
    <span className="row wrap">
      <Act size="small" aria-label={`Take back: ${of.name}`} act={() => takeBack(of)}>
        Take back
      </Act>
      <Asking
        title={`Delete ${of.name} now?`}
        what="Every service, deployment, variable, domain and volume in all of its environments goes with it. This cannot be undone."
        verb="Delete it for good"
        name={of.name}
        done={`${of.name} is deleted`}
        act={() => change(ProjectScheduleDeleteForceDocument, { id: of.id })}
        trigger={(ask) => (
          <Button size="small" kind="danger" aria-label={`Delete now: ${of.name}`} onClick={ask}>
            Delete now…
          </Button>
        )}
      />
    </span>
  );
}
