import { useNavigate, useParams } from "@tanstack/react-router";
import { change } from "../api/client";
import { WorkspaceInviteCodeUseDocument } from "../gql";
import { Act } from "../ui/basic";
import { Bar } from "../ui/frame";
import { useViewer } from "../viewer";

/** Where an invitation leads: it asks before it uses the link up. */
export function Invite() {
  const { code } = useParams({ from: "/invite/$code" });
  const viewer = useViewer();
  const navigate = useNavigate();
  return (
    <>
      <Bar />
      <main className="main narrow">
        <div className="head">
          <h1>You are invited</h1>
        </div>
        <div className="stack">
          <p className="second">The link makes {viewer.email} a member of a workspace. It works once.</p>
          <span>
            <Act
              kind="primary"
              act={async () => {
                const joined = (await change(WorkspaceInviteCodeUseDocument, { code })).workspaceInviteCodeUse;
                await navigate({ to: "/", search: { workspace: joined.id } });
              }}
              done="Welcome"
            >
              Join
            </Act>
          </span>
        </div>
      </main>
    </>
  );
}
