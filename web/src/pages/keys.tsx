import { useQuery } from "@apollo/client/react";
import { BarChart3, Pencil } from "lucide-react";
import { useMemo, useState } from "react";
import { change } from "../api/client";
import { ApiKeyRevokeDocument, ApiKeysDocument, ApiKeyUpdateDocument, ApiKeyUsageDocument, type ApiKeyKind, type ApiKeyRowFragment } from "../gql";
import { Act, Asking, Button, Dialog, ErrorBox, Field } from "../ui/basic";
import { Chart } from "../ui/chart";
import { short } from "../ui/series";
import { Ago, Until } from "../ui/time";
import { useViewer } from "../viewer";

/** The keys of one kind that the viewer manages. */
export function useKeys(kind: ApiKeyKind) {
  const asked = useQuery(ApiKeysDocument, { fetchPolicy: "cache-and-network" });
  const keys = useMemo(() => asked.data?.apiKeys.edges.map((edge) => edge.node).filter((key) => key.kind === kind), [asked.data, kind]);
  return { keys, error: asked.error, refetch: asked.refetch };
}

const windows = [
  ["perSecond", "second"],
  ["perMinute", "minute"],
  ["perHour", "hour"],
  ["perDay", "day"],
] as const;

export function limitsOf({ limits }: ApiKeyRowFragment): string {
  const set = windows.filter(([field]) => limits[field] != null).map(([field, word]) => `${limits[field]!.toLocaleString("en")} a ${word}`);
  return set.length > 0 ? set.join(", ") : "As the plan allows";
}

/** What there is to know of keys, and what can be done with them. */
export function KeyTable({ keys, name, limited }: { keys: ApiKeyRowFragment[]; name: string; limited?: boolean }) {
  const [editing, setEditing] = useState<ApiKeyRowFragment | null>(null);
  const [counted, setCounted] = useState<ApiKeyRowFragment | null>(null);
  // Keys of every workspace that the viewer manages stand here: each says whose it is where there are several.
  const { workspaces } = useViewer();
  const whose = limited && workspaces.length > 1;
  return (
    <>
      <div className="sheet table-wrap" tabIndex={0} role="group" aria-label={name}>
        <table>
          <thead>
            <tr>
              <th scope="col">Label</th>
              <th scope="col">Key</th>
              {whose && <th scope="col">Workspace</th>}
              {limited && <th scope="col">Limits</th>}
              <th scope="col">Created</th>
              <th scope="col">Last used</th>
              <th scope="col">
                <span className="hidden">Actions</span>
              </th>
            </tr>
          </thead>
          <tbody>
            {keys.map((key) => (
              <tr key={key.id}>
                <th scope="row" className="row-name">
                  <span className="row">
                    <span className="cut">{key.label}</span>
                    {key.state === "EXPIRED" && (
                      <span className="badge" data-tone="failed">
                        Expired
                      </span>
                    )}
                  </span>
                  {key.expiresAt && key.state === "ACTIVE" && (
                    <small className="quiet">
                      expires <Until at={key.expiresAt} />
                    </small>
                  )}
                </th>
                <td>
                  <code className="quiet nowrap">{key.displayKey}</code>
                </td>
                {whose && <td className="small second">{workspaces.find((one) => one.id === key.workspaceId)?.name ?? "–"}</td>}
                {limited && <td className="small second">{limitsOf(key)}</td>}
                <td className="nowrap second">
                  <Ago at={key.createdAt} />
                </td>
                <td className="nowrap second" title={key.lastUsedAddress ? `from ${key.lastUsedAddress}` : undefined}>
                  {key.lastUsedAt ? <Ago at={key.lastUsedAt} /> : "Never"}
                </td>
                <td className="actions">
                  <span className="row" style={{ gap: 4, justifyContent: "flex-end" }}>
                    <button type="button" className="icon-button" aria-label={`Usage of ${key.label}`} title="Usage" onClick={() => setCounted(key)}>
                      <BarChart3 size={14} />
                    </button>
                    <button type="button" className="icon-button" aria-label={`Edit ${key.label}`} title="Edit" onClick={() => setEditing(key)}>
                      <Pencil size={14} />
                    </button>
                    <Revoke of={key} />
                  </span>
                </td>
              </tr>
            ))}
          </tbody>
        </table>
      </div>
      {editing && <Edit key={editing.id} of={editing} onClose={() => setEditing(null)} />}
      {counted && <Usage key={counted.id} of={counted} onClose={() => setCounted(null)} />}
    </>
  );
}

function Revoke({ of }: { of: ApiKeyRowFragment }) {
  return (
    <Asking
      title={`Revoke ${of.label}?`}
      what="Whatever still uses this key is refused from its next request on. A revoked key does not come back."
      verb="Revoke the key"
      done={`${of.label} is revoked`}
      act={() => change(ApiKeyRevokeDocument, { id: of.id })}
      trigger={(ask) => (
        <Button size="small" kind="danger" aria-label={`Revoke ${of.label}`} onClick={ask}>
          Revoke
        </Button>
      )}
    />
  );
}

/** What holds where nothing is set: a key of Flow has limits of its own in any case. */
function usual(kind: ApiKeyKind, field: (typeof windows)[number][0]): string {
  if (kind === "FLOW" && field === "perMinute") return "60";
  return kind === "FLOW" && field === "perDay" ? "1000" : "As the plan allows";
}

function Edit({ of, onClose }: { of: ApiKeyRowFragment; onClose: () => void }) {
  const [label, setLabel] = useState(of.label);
  const [limits, setLimits] = useState(() => Object.fromEntries(windows.map(([field]) => [field, of.limits[field]?.toString() ?? ""])) as Record<(typeof windows)[number][0], string>);
  const wrong = windows.some(([field]) => limits[field] !== "" && !/^[1-9]\d{0,8}$/.test(limits[field]));
  return (
    <Dialog title="Edit key" open onClose={onClose}>
      <div className="section">
        <Field label="Label">
          <input className="input" value={label} onChange={(event) => setLabel(event.target.value)} autoFocus />
        </Field>
        <div className="two-columns">
          {windows.map(([field, word]) => (
            <Field key={field} label={`Requests per ${word}`}>
              <input className="input numbers" inputMode="numeric" placeholder={usual(of.kind, field)} value={limits[field]} onChange={(event) => setLimits({ ...limits, [field]: event.target.value.trim() })} />
            </Field>
          ))}
        </div>
        {wrong && <small role="alert">A limit is a whole number from 1 on. Leave a field empty for the usual limit.</small>}
      </div>
      <footer>
        <Button onClick={onClose}>Cancel</Button>
        <Act
          kind="primary"
          disabled={!label.trim() || wrong}
          act={async () => {
            const wanted = Object.fromEntries(windows.map(([field]) => [field, limits[field] === "" ? null : Number(limits[field])]));
            await change(ApiKeyUpdateDocument, { id: of.id, input: { label: label.trim(), limits: wanted } });
            onClose();
          }}
        >
          Save
        </Act>
      </footer>
    </Dialog>
  );
}

const DAY = 86_400;

/** A key's requests of the last thirty days. */
export function KeyUsage({ of, title }: { of: ApiKeyRowFragment; title: string }) {
  const { data, error } = useQuery(ApiKeyUsageDocument, { variables: { id: of.id }, fetchPolicy: "no-cache" });
  const chart = useMemo(() => {
    if (!data) return null;
    const today = Math.floor(Date.now() / 1000 / DAY) * DAY;
    const moments = Array.from({ length: 30 }, (_, at) => today - (29 - at) * DAY);
    const days = new Map(data.apiKeyUsage.map((one) => [Date.parse(`${one.day}T00:00:00Z`) / 1000, one]));
    const allowed = moments.map((at) => days.get(at)?.allowed ?? 0);
    const refused = moments.map((at) => days.get(at)?.refused ?? 0);
    const sum = (values: number[]) => values.reduce((all, one) => all + one, 0).toLocaleString("en");
    return {
      title,
      now: `${sum(allowed)} in 30 days, ${sum(refused)} refused`,
      moments,
      lines: [
        { label: "Allowed", colour: "--accent", values: allowed, drawn: allowed.map((value, at) => value + refused[at]) },
        { label: "Refused by a limit", colour: "--waiting", values: refused },
      ],
      format: short,
      least: 5,
      bars: true,
      window: { from: moments[0], to: today + DAY },
    };
  }, [data, title]);
  if (error && !data) return <ErrorBox error={error} />;
  return chart && <Chart {...chart} />;
}

function Usage({ of, onClose }: { of: ApiKeyRowFragment; onClose: () => void }) {
  return (
    <Dialog title={`Usage of ${of.label}`} open onClose={onClose} className="wide">
      <div className="section">
        <KeyUsage of={of} title="Requests per day" />
        <p className="small quiet">Days are those of UTC. Counts arrive within seconds.</p>
      </div>
    </Dialog>
  );
}
