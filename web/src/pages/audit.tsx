import { useQuery } from "@apollo/client/react";
import { Link, useParams } from "@tanstack/react-router";
import { useMemo, useState } from "react";
import { ask } from "../api/client";
import { useNews } from "../api/news";
import { ActivitiesDocument, type ActivitiesQuery } from "../gql";
import { Button, Command, Empty, ErrorBox } from "../ui/basic";
import { MOST_ROWS, withOlder } from "../ui/older";
import { Ago } from "../ui/time";
import { tell } from "../ui/toast";
import { WorkspaceFrame } from "./workspace-frame";

type Entry = ActivitiesQuery["auditLogs"]["edges"][number]["node"];
type Data = Record<string, unknown>;

/** The audit log of a workspace. */
export function Audit() {
  const { workspace } = useParams({ from: "/w/$workspace/audit" });
  return (
    <WorkspaceFrame workspace={workspace} title="Audit log">
      <Activities workspace={workspace} />
    </WorkspaceFrame>
  );
}

/** Verbs that read better as a sentence than by their name. */
const sentences: Record<string, (data: Data) => string> = {
  account_update: () => "changed their profile",
  api_key_create: (data) => `made the key ${said(data.label)}`,
  app_silent: () => "found that no container of an app answers",
  container_count_set: (data) => `scaled from ${said(data.from)} to ${said(data.to)}`,
  container_kill: () => "killed a container",
  container_shell: () => "opened a shell in a container",
  container_shell_end: (data) => `closed a shell after ${said(data.seconds)} s`,
  container_unhealthy: () => "replaced a container that did not answer",
  deployment_approve: (data) => `approved what ${said(data.askedBy)} wanted deployed`,
  deployment_build_failed: () => "could not build",
  deployment_build_retried: () => "could not build, and tries again",
  deployment_building: () => "began to build",
  deployment_built: () => "built",
  deployment_create: () => "deployed",
  deployment_failed: () => "gave a deployment up",
  deployment_needs_approval: () => "has a deployment wait for an approval",
  deployment_removed: () => "ended a deployment",
  deployment_instance_execution_create: () => "ran a service with a schedule",
  deployment_redeploy: () => "deployed the same source again",
  deployment_rollback: () => "rolled back",
  deployment_succeeded: () => "finished a deployment",
  domain_lapse: (data) => `gave up ${said(data.domain)}, which nobody proved`,
  environment_patch_commit: () => "deployed staged changes",
  environment_protect: (data) => `${data.protected ? "protected" : "ended the protection of"} the environment ${said(data.name)}`,
  environment_stage_changes: () => "staged changes",
  execution_crashed: (data) => `saw a run fail: ${said(data.reason)}`,
  execution_skipped: () => "skipped a run: the one before had not ended",
  login: (data) => `signed in by ${said(data.method)}`,
  logout: () => "signed out",
  notification_rule_create: () => "made a notification rule",
  notification_rule_delete: () => "deleted a notification rule",
  notification_rule_delivery_replay: () => "sent a message of a notification rule again",
  notification_rule_update: () => "changed a notification rule",
  notification_rules_end: (data) => `ended the notification rules of ${said(data.email)}`,
  notification_settings_set: () => "changed whom events are told to",
  operator_backup_create: (data) => `copied the server's database to ${said(data.name)}`,
  operator_backup_delete: (data) => `deleted the copy ${said(data.name)} of the server's database`,
  password_set: () => "set a password",
  project_create: (data) => `made the project ${said(data.name)}`,
  project_schedule_delete: (data) => `has the project ${said(data.name)} deleted in 48 hours`,
  project_schedule_delete_cancel: (data) => `took back that the project ${said(data.name)} is deleted`,
  session_delete: (data) => (data.client ? "signed a command line out" : "signed another browser out"),
  recovery_code_generate: () => "made new recovery codes",
  two_factor_info_create: () => "turned two-factor authentication on",
  two_factor_info_delete: () => "turned two-factor authentication off",
  two_factor_reset: () => "turned two-factor authentication off on the server",
  trigger_save: (data) => `saved the trigger ${said(data.name)}`,
  variable_collection_upsert: (data) => `set ${Array.isArray(data.names) ? data.names.join(", ") : "variables"}`,
  webhook_test: (data) => `tried out a webhook at ${said(data.host)}`,
  workspace_invite_code_create: (data) => `made an invitation as ${said(data.role).toLowerCase()}`,
  workspace_invite_code_use: (data) => `joined as ${said(data.role).toLowerCase()}`,
  workspace_invite_codes_end: (data) => `ended what ${said(data.email)} invited to`,
  workspace_leave: () => "left the workspace",
  workspace_permission_change: (data) => `made ${said(data.email)} ${said(data.after).toLowerCase()}`,
  workspace_user_invite: (data) => `added ${said(data.email)} as ${said(data.role).toLowerCase()}`,
  workspace_user_remove: (data) => `removed ${said(data.email)}`,
};

const said = (value: unknown) => (typeof value === "string" || typeof value === "number" ? String(value) : "");

function sentence({ eventType, payload }: Entry): string {
  const data = (payload ?? {}) as Data;
  const own = sentences[eventType]?.(data);
  if (own) return own;
  // project_token_delete: "delete" of "project token".
  const parts = eventType.split("_");
  const verb = parts.pop() ?? "";
  const past = verb.endsWith("e") ? `${verb}d` : verb === "set" ? "set" : `${verb}ed`;
  const name = said(data.name) || said(data.label);
  return `${past} ${parts.join(" ")}${name && ` ${name}`}`;
}

function actorOf({ context }: Entry): string {
  const actor = ((context as Data | null)?.actor ?? {}) as Data;
  if (actor.kind === "system") return `Orrery (${said(actor.name)})`;
  return said(actor.name) || said(actor.email) || "Somebody";
}

/** What it happened to, and where when that is not the environment that is open. */
function About({ of, open }: { of: Entry; open?: string }) {
  const { projectId: project, environment, service, eventType } = of;
  const env = environment?.id ?? open;
  const deployment = eventType.startsWith("deployment_") ? said((of.payload as Data | null)?.subject) : "";
  const where = environment && environment.id !== open && <span className="quiet"> in {environment.name}</span>;
  if (!service) return where;
  if (!project || !env) return <> · {service.name}</>;
  const params = { project, env, service: service.id };
  return (
    <>
      {" · "}
      {deployment ? (
        <Link to="/p/$project/$env/s/$service/deployments/$deployment" params={{ ...params, deployment }}>
          {service.name}
        </Link>
      ) : (
        <Link to="/p/$project/$env/s/$service/$tab" params={{ ...params, tab: eventType.startsWith("variable_") ? "variables" : "deployments" }}>
          {service.name}
        </Link>
      )}
      {where}
    </>
  );
}

/** Of a workspace, or of a project with one of its environments open. */
export function Activities({ workspace, project, env }: { workspace: string; project?: string; env?: string }) {
  const [first, setFirst] = useState(50);
  const variables = useMemo(() => ({ workspaceId: workspace, filter: project ? { projectId: project } : null, first }), [workspace, project, first]);
  const { data: now, previousData, error, refetch } = useQuery(ActivitiesDocument, { variables, fetchPolicy: "cache-and-network" });
  const data = now ?? previousData;
  // Beyond what is asked for at once. What comes meanwhile would push entries out between the two.
  const [older, setOlder] = useState<ActivitiesQuery["auditLogs"] | null>(null);
  useNews(older ? null : workspace, refetch);
  if (!data) return error ? <ErrorBox error={error} retry={() => void refetch()} /> : null;
  const edges = [...data.auditLogs.edges, ...(older?.edges ?? [])];
  const { pageInfo } = older ?? data.auditLogs;
  const more = async () => {
    if (first < MOST_ROWS) return setFirst(withOlder);
    const { auditLogs } = await ask(ActivitiesDocument, { ...variables, after: pageInfo.endCursor });
    setOlder({ ...auditLogs, edges: [...(older?.edges ?? []), ...auditLogs.edges] });
  };
  if (edges.length === 0) {
    return (
      <div className="sheet">
        <Empty title="Nothing has happened here yet">
          <p>Whatever changes something is written down here, with who did it.</p>
          <Command>orrery railway -- up</Command>
        </Empty>
      </div>
    );
  }
  return (
    <div className="stack">
      <ol className="sheet list" aria-label="Activities">
        {edges.map(({ node }) => {
          const address = said((node.context as Data | null)?.address);
          return (
            <li key={node.id}>
              <span className="grow cut entry" title={node.eventType}>
                <strong>{actorOf(node)}</strong> {sentence(node)}
                <About of={node} open={env} />
              </span>
              {address && <span className="small quiet phone-hide numbers">{address}</span>}
              <span className="small quiet" style={{ width: 80, textAlign: "right" }}>
                <Ago at={node.createdAt} />
              </span>
            </li>
          );
        })}
      </ol>
      {pageInfo.hasNextPage && (
        <span>
          <Button onClick={() => void more().catch(tell.problem)}>Older</Button>
        </span>
      )}
    </div>
  );
}
