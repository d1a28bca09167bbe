import { Link } from "@tanstack/react-router";
import { Bar, WorkspaceCrumb } from "../ui/frame";
import { useViewer } from "../viewer";

/** What belongs to a workspace as a whole. */
export function WorkspaceFrame({ workspace, title, badge, children }: { workspace: string; title: string; badge?: React.ReactNode; children: React.ReactNode }) {
  const own = useViewer().workspaces.find((one) => one.id === workspace);
  const params = { workspace };
  return (
    <>
      <Bar>
        <WorkspaceCrumb />
        <nav className="tabs" aria-label="Workspace" style={{ marginLeft: 8 }}>
          <Link to="/w/$workspace/members" params={params} className="tab">
            Members
          </Link>
          <Link to="/w/$workspace/usage" params={params} className="tab">
            Usage
          </Link>
          <Link to="/w/$workspace/plan" params={params} className="tab">
            Plan
          </Link>
          <Link to="/w/$workspace/notifications" params={params} className="tab">
            Notifications
          </Link>
          <Link to="/w/$workspace/webhooks" params={params} className="tab">
            Webhooks
          </Link>
          {own?.viewerCanAdminister && (
            <Link to="/w/$workspace/audit" params={params} className="tab">
              Audit log
            </Link>
          )}
        </nav>
      </Bar>
      <main className="main narrow">
        <div className="head">
          <h1>{title}</h1>
          {badge}
        </div>
        <div className="stack loose">{children}</div>
      </main>
    </>
  );
}
