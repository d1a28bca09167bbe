import { useQuery } from "@apollo/client/react";
import { useParams } from "@tanstack/react-router";
import { MoreHorizontal, Plus } from "lucide-react";
import { useState } from "react";
import { change } from "../api/client";
import { useNews } from "../api/news";
import {
  NotificationRuleCreateDocument,
  NotificationRuleDeleteDocument,
  NotificationRuleDeliveriesDocument,
  NotificationRuleDeliveryReplayDocument,
  NotificationRulesDocument,
  NotificationRuleUpdateDocument,
  WebhookTestDocument,
  type NotificationDeliveryStatus,
  type NotificationRuleRowFragment,
  type NotificationRulesQuery,
} from "../gql";
import { Act, Button, Confirm, Dialog, Empty, ErrorBox, Field } from "../ui/basic";
import { Item, Menu } from "../ui/menu";
import { State, type Tone } from "../ui/state";
import { Ago, Moment } from "../ui/time";
import { tell } from "../ui/toast";
import { WorkspaceFrame } from "./workspace-frame";

/** A channel as the server shows it: whether there is a secret, not which. */
type Channel = { type: "WEBHOOK"; url: string; signed: boolean } | { type: "EMAIL"; to: string[] };

const channelsOf = (rule: NotificationRuleRowFragment) => rule.channels.map((one) => one.config as Channel);

function leadsTo(channel: Channel): string {
  if (channel.type === "WEBHOOK") return channel.url;
  return channel.to.length > 0 ? channel.to.join(", ") : "every member by e-mail";
}

/** Rules that tell webhooks and mailboxes of deployments. */
export function Webhooks() {
  const { workspace } = useParams({ from: "/w/$workspace/webhooks" });
  const { data, error, refetch } = useQuery(NotificationRulesDocument, { variables: { workspaceId: workspace }, fetchPolicy: "cache-and-network" });
  useNews(workspace, refetch);
  const [editing, setEditing] = useState<NotificationRuleRowFragment | "new" | null>(null);
  const [open, setOpen] = useState<string | null>(null);
  const [deleting, setDeleting] = useState<NotificationRuleRowFragment | null>(null);
  const rules = data?.notificationRules ?? [];
  return (
    <WorkspaceFrame workspace={workspace} title="Webhooks">
      {error && !data && <ErrorBox error={error} retry={() => void refetch()} />}
      {data && rules.length > 0 && (
        <div className="row">
          <p className="second grow">A rule sends what becomes of deployments to a webhook or by e-mail.</p>
          <Button size="small" onClick={() => setEditing("new")}>
            <Plus size={14} /> New rule
          </Button>
        </div>
      )}
      {data && rules.length === 0 && (
        <div className="sheet">
          <Empty title="No rules">
            <p>A rule sends what becomes of deployments to a webhook or by e-mail: Slack and Discord get a line of text, everything else JSON. A test can be sent before the rule is saved.</p>
            <Button kind="primary" onClick={() => setEditing("new")}>
              <Plus size={14} /> New rule
            </Button>
          </Empty>
        </div>
      )}
      {rules.length > 0 && (
        <ul className="sheet list" aria-label="Rules">
          {rules.map((rule) => (
            <li key={rule.id} style={{ flexWrap: "wrap" }}>
              <span className="grow stack" style={{ gap: 0, minWidth: 0 }}>
                {channelsOf(rule).map((channel) => (
                  <span key={leadsTo(channel)} className="row">
                    <strong className="cut">{leadsTo(channel)}</strong>
                    {channel.type === "WEBHOOK" && channel.signed && <span className="badge">Signed</span>}
                  </span>
                ))}
                <small className="quiet">
                  {rule.eventTypes.length > 0 ? rule.eventTypes.join(", ") : "Every event"} {rule.projectId ? `of ${projectName(data, rule.projectId)}` : "of every project"}
                </small>
              </span>
              <Button size="small" aria-expanded={open === rule.id} onClick={() => setOpen(open === rule.id ? null : rule.id)}>
                Messages
              </Button>
              <Menu
                align="end"
                trigger={
                  <button type="button" className="icon-button" aria-label={`What can be done with the rule for ${channelsOf(rule).map(leadsTo).join(", ")}`}>
                    <MoreHorizontal size={16} />
                  </button>
                }
              >
                <Item onSelect={() => setEditing(rule)}>Edit…</Item>
                <Item tone="danger" onSelect={() => setDeleting(rule)}>
                  Delete…
                </Item>
              </Menu>
              {open === rule.id && <Messages workspace={workspace} rule={rule.id} />}
            </li>
          ))}
        </ul>
      )}
      {data && editing && <Editor workspace={workspace} known={data} of={editing === "new" ? null : editing} onClose={() => setEditing(null)} />}
      <Confirm
        title="Delete this rule?"
        what="Nothing is sent to where it leads any more, and the secret that signs its messages is deleted with it."
        verb="Delete the rule"
        done="The rule is deleted"
        act={() => change(NotificationRuleDeleteDocument, { id: deleting!.id })}
        open={deleting !== null}
        onClose={() => setDeleting(null)}
      />
    </WorkspaceFrame>
  );
}

function projectName(data: NotificationRulesQuery | undefined, id: string): string {
  return data?.projects.edges.find((edge) => edge.node.id === id)?.node.name ?? "one project";
}

const stands: Record<NotificationDeliveryStatus, [Tone, string]> = { SENT: ["healthy", "Sent"], PENDING: ["waiting", "Waits"], FAILED: ["failed", "Given up"] };

function Messages({ workspace, rule }: { workspace: string; rule: string }) {
  const { data, error, refetch } = useQuery(NotificationRuleDeliveriesDocument, { variables: { id: rule }, fetchPolicy: "cache-and-network" });
  useNews(workspace, refetch, "DELIVERIES");
  if (error && !data) return <ErrorBox error={error} retry={() => void refetch()} />;
  return (
    <ol className="stack tight" style={{ flexBasis: "100%" }} aria-label="Messages">
      {data?.notificationRuleDeliveries.length === 0 && <li className="quiet small">Nothing was sent in the last thirty days.</li>}
      {data?.notificationRuleDeliveries.map((one) => (
        <li key={one.id} className="stack" style={{ gap: 0 }}>
          <span className="row small">
            <State tone={stands[one.status][0]}>{stands[one.status][1]}</State>
            <span className="cut">{one.to}</span>
            <span className="quiet numbers">
              <Ago at={one.createdAt} />, {one.attempts} {one.attempts === 1 ? "attempt" : "attempts"}
              {one.statusCode != null && `, answered ${one.statusCode}`}
              {one.nextAttemptAt && one.attempts > 0 && (
                <>
                  , again <Moment at={one.nextAttemptAt} />
                </>
              )}
            </span>
            {one.status !== "PENDING" && (
              <Act size="small" act={() => change(NotificationRuleDeliveryReplayDocument, { id: one.id })} done="It is sent again">
                Send again
              </Act>
            )}
          </span>
          {one.error && <small className="second">{one.error}</small>}
        </li>
      ))}
    </ol>
  );
}

function newSecret(): string {
  return `whsec_${btoa(String.fromCharCode(...crypto.getRandomValues(new Uint8Array(24))))}`;
}

/** What a webhook is tried out with: the form that its service takes. */
function sample(url: string): string {
  if (url.startsWith("https://hooks.slack.com/")) return JSON.stringify({ text: "A test from Orrery" });
  if (/^https:\/\/(ptb\.|canary\.)?discord(app)?\.com\/api\/webhooks\//.test(url)) return JSON.stringify({ content: "A test from Orrery" });
  const id = "00000000-0000-7000-8000-000000000000";
  const named = (name: string) => ({ id, name });
  return JSON.stringify({
    type: "Deployment.deployed",
    details: { id, source: "CLI", status: "SUCCESS" },
    resource: { workspace: named("A test"), project: named("A test"), environment: { ...named("production"), isEphemeral: false }, service: named("web"), deployment: { id } },
    severity: "INFO",
    timestamp: new Date().toISOString(),
  });
}

function Editor({ workspace, known, of, onClose }: { workspace: string; known: NotificationRulesQuery; of: NotificationRuleRowFragment | null; onClose: () => void }) {
  const before = of ? channelsOf(of) : [];
  const webhooks = before.filter((one) => one.type === "WEBHOOK");
  const mail = before.find((one) => one.type === "EMAIL");
  const [url, setUrl] = useState(webhooks[0]?.url ?? "");
  const [secret, setSecret] = useState("");
  const [mails, setMails] = useState(mail !== undefined);
  const [to, setTo] = useState(mail?.to.join(", ") ?? "");
  const [project, setProject] = useState(of?.projectId ?? "");
  const [events, setEvents] = useState(new Set(of?.eventTypes.length ? of.eventTypes : known.notificationEventTypes.map((one) => one.name)));
  const signed = webhooks[0]?.signed === true && webhooks[0].url === url;
  const every = known.notificationEventTypes.every((one) => events.has(one.name));
  const save = async () => {
    const first = url ? [{ type: "WEBHOOK", url, ...(secret && { secret }) }] : [];
    const channelConfigs = [...first, ...webhooks.slice(1), ...(mails ? [{ type: "EMAIL", to: to.split(/[\s,;]+/).filter(Boolean) }] : [])];
    const eventTypes = every ? [] : [...events];
    if (of) await change(NotificationRuleUpdateDocument, { id: of.id, input: { channelConfigs, eventTypes } });
    else await change(NotificationRuleCreateDocument, { input: { workspaceId: workspace, projectId: project || null, channelConfigs, eventTypes } });
    onClose();
  };
  return (
    <Dialog title={of ? "Edit the rule" : "New rule"} open onClose={onClose} className="wide">
      <div className="section">
        <Field label="Address of the webhook">
          <input className="input mono" value={url} onChange={(event) => setUrl(event.target.value.trim())} placeholder="https://example.com/hooks/orrery" spellCheck={false} autoFocus />
        </Field>
        <div className="row" style={{ alignItems: "flex-end" }}>
          <div className="grow">
            <Field label="Secret" hint={signed ? "Messages are signed. Empty: with the same secret as before." : "Messages are signed with it as Svix does (svix-signature). It is not shown again."}>
              <input className="input mono" value={secret} onChange={(event) => setSecret(event.target.value.trim())} placeholder="whsec_…" spellCheck={false} autoComplete="off" />
            </Field>
          </div>
          <Button onClick={() => setSecret(newSecret())}>Make one</Button>
          <Act disabled={!url} act={async () => tell(`It answered ${(await change(WebhookTestDocument, { url, payload: sample(url) })).webhookTest}`)}>
            Send a test
          </Act>
        </div>
        <label className="row">
          <input type="checkbox" checked={mails} onChange={(event) => setMails(event.target.checked)} />
          By e-mail
        </label>
        {mails && (
          <Field label="To" hint="Empty: every member of the workspace">
            <input className="input" value={to} onChange={(event) => setTo(event.target.value)} placeholder="ops@example.com, ada@example.com" />
          </Field>
        )}
        {!of && (
          <Field label="Of which project">
            <select className="select" value={project} onChange={(event) => setProject(event.target.value)}>
              <option value="">Every project</option>
              {known.projects.edges.map(({ node }) => (
                <option key={node.id} value={node.id}>
                  {node.name}
                </option>
              ))}
            </select>
          </Field>
        )}
        <fieldset style={{ border: 0, margin: 0, padding: 0 }} className="stack tight">
          <legend className="small second">Events</legend>
          {known.notificationEventTypes.map(({ name }) => (
            <label key={name} className="row">
              <input
                type="checkbox"
                checked={events.has(name)}
                onChange={(event) => {
                  const next = new Set(events);
                  if (event.target.checked) next.add(name);
                  else next.delete(name);
                  setEvents(next);
                }}
              />
              <code>{name}</code>
            </label>
          ))}
        </fieldset>
      </div>
      <footer>
        <Button onClick={onClose}>Cancel</Button>
        <Act kind="primary" disabled={(!url && !mails) || events.size === 0} act={save} done="Saved">
          Save
        </Act>
      </footer>
    </Dialog>
  );
}
