import { useQuery } from "@apollo/client/react";
import { useParams } from "@tanstack/react-router";
import { MembersDocument, type TeamRole } from "../gql";
import { ErrorBox } from "../ui/basic";
import { Bar } from "../ui/frame";

const roles: Record<TeamRole, string> = { ADMIN: "Admin", MEMBER: "Member", VIEWER: "Viewer" };

export function Members() {
  const { workspace } = useParams({ from: "/w/$workspace/members" });
  const { data, error, refetch } = useQuery(MembersDocument, { variables: { workspaceId: workspace } });
  return (
    <>
      <Bar />
      <main className="main narrow">
        <div className="head">
          <h1>Members</h1>
          {data && <span className="badge">{data.workspace.plan === "PRO" ? "Professional" : data.workspace.plan === "HOBBY" ? "Hobby" : "Free"} plan</span>}
        </div>
        {error && !data && <ErrorBox error={error} retry={() => void refetch()} />}
        {data && (
          <ul className="sheet list" aria-label="Members">
            {data.workspace.members.map((member) => (
              <li key={member.id}>
                <span className="grow" style={{ minWidth: 0 }}>
                  <span className="cut" style={{ display: "block", fontWeight: 500 }}>
                    {member.name}
                  </span>
                  <span className="cut small quiet" style={{ display: "block" }}>
                    {member.email}
                  </span>
                </span>
                <span className="badge">{roles[member.role]}</span>
              </li>
            ))}
          </ul>
        )}
        <p className="small quiet" style={{ marginTop: 16 }}>
          Admins manage the workspace, members change services and read secrets, viewers look.
        </p>
      </main>
    </>
  );
}
