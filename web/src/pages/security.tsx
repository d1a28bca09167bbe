import { useQuery } from "@apollo/client/react";
import { useState } from "react";
import { change } from "../api/client";
import { PasswordSetDocument, SessionDeleteDocument, SessionsDocument } from "../gql";
import { Act, ErrorBox, Field } from "../ui/basic";
import { Ago, Until } from "../ui/time";
import { useViewer } from "../viewer";
import { TwoFactor } from "./two-factor";

/** The password, the code that follows it, and the browsers and command lines in which the person is signed in. */
export function Security() {
  const { data, error, refetch } = useQuery(SessionsDocument, { fetchPolicy: "cache-and-network" });
  if (!data) return error ? <ErrorBox error={error} retry={() => void refetch()} /> : null;
  return (
    <>
      <Password present={data.me.hasPassword} />
      <TwoFactor on={data.twoFactorInfo.isVerified} recovery={data.twoFactorInfo.hasRecoveryCodes} password={data.me.hasPassword} />
      <section className="stack tight">
        <h2>Sessions</h2>
        <p className="second small">Browsers and command lines in which you are signed in. Signing one out takes effect with its next request.</p>
        <ul className="sheet list" aria-label="Sessions">
          {data.sessions.edges.map(({ node }) => (
            <li key={node.id}>
              <span className="grow stack" style={{ gap: 0, minWidth: 0 }}>
                <span className="cut">{node.name}</span>
                <small className="quiet">
                  since <Ago at={node.createdAt} />
                  {node.type === "CLI" && (
                    <>
                      , last used <Ago at={node.updatedAt} />
                    </>
                  )}
                  , ends <Until at={node.expiredAt} />
                </small>
              </span>
              {node.isCurrent ? (
                <span className="badge" data-tone="accent">
                  This browser
                </span>
              ) : node.type === "CLI" ? (
                <Act size="small" kind="danger" act={() => change(SessionDeleteDocument, { id: node.id })} done="That command line is signed out">
                  Revoke
                </Act>
              ) : (
                <Act size="small" kind="danger" act={() => change(SessionDeleteDocument, { id: node.id })} done="That browser is signed out">
                  Sign out
                </Act>
              )}
            </li>
          ))}
        </ul>
      </section>
    </>
  );
}

function Password({ present }: { present: boolean }) {
  const { email } = useViewer();
  const [current, setCurrent] = useState("");
  const [next, setNext] = useState("");
  return (
    <form className="stack tight" aria-label="Password" onSubmit={(event) => event.preventDefault()}>
      <h2>Password</h2>
      <p className="second small">{present ? "A new password signs all of your other browsers and your command lines out." : "You sign in by links. With a password you need none."} It has at least ten characters.</p>
      <input type="hidden" name="username" autoComplete="username" value={email} />
      <div className="row wrap" style={{ alignItems: "flex-end" }}>
        {present && (
          <div style={{ flex: "1 1 180px" }}>
            <Field label="Present password">
              <input className="input" type="password" autoComplete="current-password" value={current} onChange={(event) => setCurrent(event.target.value)} />
            </Field>
          </div>
        )}
        <div style={{ flex: "1 1 180px" }}>
          <Field label="New password">
            <input className="input" type="password" autoComplete="new-password" value={next} onChange={(event) => setNext(event.target.value)} />
          </Field>
        </div>
        <Act
          type="submit"
          kind="primary"
          disabled={[...next].length < 10 || (present && !current)}
          act={async () => {
            await change(PasswordSetDocument, { input: { current: present ? current : null, password: next } });
            setCurrent("");
            setNext("");
          }}
          done="The password is set"
        >
          {present ? "Change the password" : "Set a password"}
        </Act>
      </div>
    </form>
  );
}
