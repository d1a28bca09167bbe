import { useState } from "react";
import { change } from "../api/client";
import { CustomDomainIssueCertificateDocument, DomainCertificateRemoveDocument, DomainCertificateSetDocument, DomainHttpsSetDocument, type DomainsQuery } from "../gql";
import { Act, Asking, Button, Field } from "../ui/basic";
import { State, type Tone } from "../ui/state";
import { tell } from "../ui/toast";

type CustomDomain = DomainsQuery["domains"]["customDomains"][number];

const words: Partial<Record<CustomDomain["status"]["certificateStatus"], [Tone, string]>> = {
  CERTIFICATE_STATUS_TYPE_VALID: ["healthy", "HTTPS"],
  CERTIFICATE_STATUS_TYPE_ISSUING: ["busy", "Certificate ordered"],
  CERTIFICATE_STATUS_TYPE_VALIDATING_OWNERSHIP: ["waiting", "Certificate after DNS"],
  CERTIFICATE_STATUS_TYPE_ISSUE_FAILED: ["failed", "No certificate"],
};

/** Where a domain's certificate stands, in a word. Nothing where this server orders none. */
export function CertificateState({ domain }: { domain: CustomDomain }) {
  const said = words[domain.status.certificateStatus];
  return said ? <State tone={said[0]}>{said[1]}</State> : null;
}

/** The certificate of a domain, and what can be done about it. */
export function Certificate({ domain, mayWrite }: { domain: CustomDomain; mayWrite: boolean }) {
  const [certificate, setCertificate] = useState("");
  const [privateKey, setPrivateKey] = useState("");
  const { certificateErrorMessage: problem, certificates } = domain.status;
  const used = certificates?.[0];
  return (
    <div className="stack tight" style={{ flexBasis: "100%" }}>
      {problem && (
        <div className="notice" data-tone="failed">
          <span className="grow">{problem}</span>
          {mayWrite && domain.status.certificateRetryable && <Act size="small" act={() => change(CustomDomainIssueCertificateDocument, { id: domain.id })}>Order again</Act>}
        </div>
      )}
      {used?.expiresAt && (
        <p className="small second">
          Certificate for {used.domainNames.join(", ")} until {new Date(used.expiresAt).toLocaleDateString()}
        </p>
      )}
      {mayWrite && (
        <>
          <label className="row small">
            <input type="checkbox" checked={domain.forceHttps} onChange={(event) => void change(DomainHttpsSetDocument, { id: domain.id, force: event.target.checked }).catch(tell.problem)} />
            Send visitors to https
          </label>
          <details>
            <summary className="small">A certificate of your own</summary>
            <div className="stack tight">
              <Field label="Certificate, then its intermediates (PEM)">
                <textarea className="textarea" rows={4} value={certificate} onChange={(event) => setCertificate(event.target.value)} placeholder="-----BEGIN CERTIFICATE-----" spellCheck={false} />
              </Field>
              <Field label="Private key (PEM, not shown again)">
                <textarea className="textarea" rows={3} value={privateKey} onChange={(event) => setPrivateKey(event.target.value)} placeholder="-----BEGIN PRIVATE KEY-----" spellCheck={false} autoComplete="off" />
              </Field>
              <span className="row">
                <Act
                  size="small"
                  disabled={!certificate.trim() || !privateKey.trim()}
                  done={`${domain.domain} uses your certificate`}
                  act={async () => {
                    await change(DomainCertificateSetDocument, { input: { domainId: domain.id, certificate, privateKey } });
                    setCertificate("");
                    setPrivateKey("");
                  }}
                >
                  Use it
                </Act>
                {used && (
                  <Asking
                    title={`Remove the certificate of ${domain.domain}?`}
                    what="It and its private key are deleted here; to use it again you bring both. Until another one is there, visitors by https are warned."
                    verb="Remove it"
                    done="The certificate is gone"
                    act={() => change(DomainCertificateRemoveDocument, { id: domain.id })}
                    trigger={(ask) => (
                      <Button size="small" kind="danger" onClick={ask}>
                        Remove the present one
                      </Button>
                    )}
                  />
                )}
              </span>
            </div>
          </details>
        </>
      )}
    </div>
  );
}
