import { useQuery } from "@apollo/client/react";
import { useParams } from "@tanstack/react-router";
import { Trash2 } from "lucide-react";
import { useState } from "react";
import { change } from "../api/client";
import { useNews } from "../api/news";
import { CustomDomainCreateDocument, CustomDomainDeleteDocument, DomainsDocument, ServiceDomainCreateDocument, ServiceDomainDeleteDocument } from "../gql";
import { Act, Asking, Command, CopyButton, Empty, ErrorBox, Field } from "../ui/basic";
import { addressOf, State } from "../ui/state";
import { Certificate, CertificateState } from "./certificate";
import { useProject } from "./environment";
import { useInstance } from "./service";

export function Domains() {
  const { project: projectId, env, service } = useParams({ from: "/p/$project/$env/canvas/s/$service/$tab" });
  const { viewerCanWrite, workspaceId } = useProject();
  const instance = useInstance();
  const place = { projectId, environmentId: env, serviceId: service };
  const { data, error, refetch } = useQuery(DomainsDocument, { variables: place, fetchPolicy: "cache-and-network" });
  useNews(workspaceId, refetch);
  const [name, setName] = useState("");
  if (!data) return <div className="panel-body">{error && <ErrorBox error={error} retry={() => void refetch()} />}</div>;
  const { serviceDomains, customDomains } = data.domains;
  // The edge's scheme and port are those of the address that the server gives for the deployment.
  const address = addressOf(instance);
  const link = (domain: string) => {
    if (!address) return `http://${domain}`;
    const url = new URL(address);
    url.hostname = domain;
    return url.href;
  };
  return (
    <div className="panel-body">
      <section className="stack tight">
        <h2>Addresses</h2>
        {serviceDomains.length + customDomains.length === 0 ? (
          <div className="sheet">
            <Empty title="Not reachable from outside">
              <p>Give the service an address under this server's own domain, or attach one of yours below.</p>
              {viewerCanWrite && <Command>{`orrery railway -- domain --service ${instance.serviceName}`}</Command>}
            </Empty>
          </div>
        ) : (
          <ul className="sheet list">
            {serviceDomains.map((domain) => (
              <li key={domain.id}>
                <a className="grow cut" href={link(domain.domain)} target="_blank" rel="noreferrer">
                  {domain.domain}
                </a>
                <State tone={domain.syncStatus === "ACTIVE" ? "healthy" : "waiting"}>{domain.syncStatus === "ACTIVE" ? "Routed" : "Being set up"}</State>
                {viewerCanWrite && (
                  <Detach domain={domain.domain} what="The service does not answer there any more, and somebody else may take the name." act={() => change(ServiceDomainDeleteDocument, { id: domain.id })} />
                )}
              </li>
            ))}
            {customDomains.map((domain) => (
              <li key={domain.id} style={{ flexWrap: "wrap" }}>
                <a className="grow cut" href={link(domain.domain)} target="_blank" rel="noreferrer">
                  {domain.domain}
                </a>
                <State tone={domain.status.verified ? "healthy" : "waiting"}>{domain.status.verified ? "Verified" : "Waiting for DNS"}</State>
                <CertificateState domain={domain} />
                {viewerCanWrite && (
                  <Detach domain={domain.domain} what="The service does not answer there any more, and the domain's certificate is deleted. Attached again, it has to be verified again." act={() => change(CustomDomainDeleteDocument, { id: domain.id })} />
                )}
                {domain.status.dnsRecords.length > 0 && !domain.status.verified && (
                  <div className="table-wrap" style={{ flexBasis: "100%" }}>
                    <table>
                      <caption className="small second" style={{ textAlign: "left", paddingBottom: 4 }}>
                        Set these records where {domain.domain} is registered
                      </caption>
                      <thead>
                        <tr>
                          <th>Type</th>
                          <th>Name</th>
                          <th>Value</th>
                        </tr>
                      </thead>
                      <tbody>
                        {domain.status.dnsRecords.map((record) => (
                          <tr key={`${record.recordType} ${record.fqdn}`}>
                            <td>{record.recordType.replace("DNS_RECORD_TYPE_", "")}</td>
                            <td>
                              <code>{record.hostlabel || "@"}</code>
                            </td>
                            <td>
                              <span className="row">
                                <code>{record.requiredValue}</code>
                                <CopyButton text={record.requiredValue} />
                              </span>
                            </td>
                          </tr>
                        ))}
                        {domain.status.verificationToken && (
                          <tr>
                            <td>TXT</td>
                            <td>
                              <code>{domain.status.verificationDnsHost}</code>
                            </td>
                            <td>
                              <span className="row">
                                <code>{domain.status.verificationToken}</code>
                                <CopyButton text={domain.status.verificationToken} />
                              </span>
                            </td>
                          </tr>
                        )}
                      </tbody>
                    </table>
                  </div>
                )}
                <Certificate domain={domain} mayWrite={viewerCanWrite} />
              </li>
            ))}
          </ul>
        )}
        {viewerCanWrite && serviceDomains.length === 0 && (
          <span>
            <Act act={() => change(ServiceDomainCreateDocument, { input: { environmentId: env, serviceId: service } })} done="The service has an address">
              Make an address
            </Act>
          </span>
        )}
      </section>
      {viewerCanWrite && (
        <section className="stack tight">
          <h2>A domain of your own</h2>
          <div className="row wrap" style={{ alignItems: "flex-end" }}>
            <div style={{ flex: "2 1 200px" }}>
              <Field label="Domain">
                <input className="input" value={name} onChange={(event) => setName(event.target.value)} placeholder="www.example.com" spellCheck={false} />
              </Field>
            </div>
            <Act
              disabled={!name.trim()}
              act={async () => {
                await change(CustomDomainCreateDocument, { input: { ...place, domain: name.trim() } });
                setName("");
              }}
            >
              Attach
            </Act>
          </div>
          <p className="small quiet">
            Requests go to the port that the app is given in <code>PORT</code>.
          </p>
        </section>
      )}
    </div>
  );
}

function Detach({ domain, what, act }: { domain: string; what: string; act: () => Promise<unknown> }) {
  return (
    <Asking
      title={`Delete ${domain}?`}
      what={what}
      verb="Delete the domain"
      done={`${domain} is gone`}
      act={act}
      trigger={(ask) => (
        <button type="button" className="icon-button" aria-label={`Delete ${domain}`} onClick={ask}>
          <Trash2 size={14} />
        </button>
      )}
    />
  );
}
