import { QRCodeSVG } from "qrcode.react";
import { useState } from "react";
import { change, Problem } from "../api/client";
import {
  RecoveryCodeGenerateDocument,
  RecoveryCodeValidateDocument,
  TwoFactorInfoCreateDocument,
  TwoFactorInfoDeleteDocument,
  TwoFactorInfoSecretDocument,
  TwoFactorInfoValidateDocument,
} from "../gql";
import { Act, Button, CopyButton, Dialog, Field } from "../ui/basic";
import { State } from "../ui/state";

/** The code that follows the password. */
export function TwoFactor({ on, recovery, password }: { on: boolean; recovery: boolean; password: boolean }) {
  const [proposed, setProposed] = useState<Proposed | null>(null);
  const [codes, setCodes] = useState<string[] | null>(null);
  const [asking, setAsking] = useState<"codes" | "off" | null>(null);
  const close = () => setAsking(null);
  return (
    <section className="stack tight" aria-label="Two-factor authentication">
      <div className="row wrap between">
        <h2>Two-factor authentication</h2>
        <State tone={on ? "healthy" : "off"}>{on ? "On" : "Off"}</State>
      </div>
      <p className="second small">
        {on
          ? "After your password you are asked for a code of your app. A login link from the server needs none."
          : password
            ? "An app on your phone makes a new code every thirty seconds. Whoever finds out your password does not get in without one."
            : "The code follows a password: set one first."}
      </p>
      {!on && password && !proposed && <Begin proposed={setProposed} />}
      {!on && proposed && (
        <SetUp
          {...proposed}
          cancel={() => setProposed(null)}
          done={(shown) => {
            setProposed(null);
            setCodes(shown);
          }}
        />
      )}
      {codes && <RecoveryCodes codes={codes} done={() => setCodes(null)} />}
      {on && !recovery && (
        <div className="notice" data-tone="waiting">
          <span>You have no recovery codes left: make new ones, for the day on which your phone is lost.</span>
        </div>
      )}
      {on && !codes && (
        <div className="row wrap">
          <Button onClick={() => setAsking("codes")}>New recovery codes…</Button>
          <Button kind="danger" onClick={() => setAsking("off")}>
            Turn it off…
          </Button>
        </div>
      )}
      <Proof
        title="New recovery codes"
        what="They take the place of those that you have, which stop working."
        verb="Make new codes"
        open={asking === "codes"}
        close={close}
        act={async () => setCodes((await change(RecoveryCodeGenerateDocument, {})).recoveryCodeGenerate.recoveryCodes)}
      />
      <Proof
        title="Turn two-factor authentication off"
        what="Your password alone lets you in from then on, and whoever knows it."
        verb="Turn it off"
        danger
        open={asking === "off"}
        close={close}
        act={(given) => change(TwoFactorInfoDeleteDocument, { password: given })}
      />
    </section>
  );
}

interface Proposed {
  secret: string;
  uri: string;
}

/** An open browser alone must not lock its person out: the password comes first. */
function Begin({ proposed }: { proposed: (secret: Proposed) => void }) {
  const [password, setPassword] = useState("");
  return (
    <form className="row wrap" aria-label="Begin two-factor authentication" style={{ alignItems: "flex-end" }} onSubmit={(event) => event.preventDefault()}>
      <Field label="Your password">
        <input className="input" type="password" autoComplete="current-password" value={password} onChange={(event) => setPassword(event.target.value)} />
      </Field>
      <Act type="submit" disabled={!password} act={async () => proposed((await change(TwoFactorInfoSecretDocument, { password })).twoFactorInfoSecret)}>
        Set it up
      </Act>
    </form>
  );
}

function SetUp({ secret, uri, cancel, done }: { secret: string; uri: string; cancel: () => void; done: (codes: string[]) => void }) {
  const [code, setCode] = useState("");
  return (
    <form className="sheet" aria-label="Set up two-factor authentication" onSubmit={(event) => event.preventDefault()}>
      <div className="section row wrap" style={{ alignItems: "flex-start", gap: 20 }}>
        <QRCodeSVG value={uri} size={168} marginSize={3} title="The secret, for the camera of your phone" />
        <div className="stack tight" style={{ flex: "1 1 220px", minWidth: 0 }}>
          <span>1. Let your authenticator app read this picture, or type the secret in.</span>
          <span className="command">
            <code tabIndex={0} data-testid="second-factor">
              {secret}
            </code>
            <CopyButton text={secret} label="Copy the secret" />
          </span>
          <span>2. Type the code that it shows.</span>
          <Field label="Code of your app">
            <input className="input numbers" inputMode="numeric" autoComplete="one-time-code" maxLength={8} value={code} onChange={(event) => setCode(event.target.value)} />
          </Field>
          <div className="row wrap">
            <Act
              type="submit"
              kind="primary"
              disabled={code.replace(/\D/g, "").length !== 6}
              act={async () => done((await change(TwoFactorInfoCreateDocument, { token: code })).twoFactorInfoCreate.recoveryCodes)}
              done="Two-factor authentication is on"
            >
              Turn it on
            </Act>
            <Button onClick={cancel}>Cancel</Button>
          </div>
        </div>
      </div>
    </form>
  );
}

function RecoveryCodes({ codes, done }: { codes: string[]; done: () => void }) {
  const text = codes.join("\n");
  return (
    <div className="notice" data-tone="healthy" role="status">
      <div className="grow stack tight">
        <strong>Keep these recovery codes where your phone is not. They are shown only this once.</strong>
        <span className="small">Each lets you in once in the place of a code of your app.</span>
        <div className="two-columns" data-testid="recovery-codes" style={{ gap: 4 }}>
          {codes.map((code) => (
            <code key={code}>{code}</code>
          ))}
        </div>
        <div className="row wrap">
          <CopyButton text={text} label="Copy the recovery codes" />
          <Button size="small" onClick={done}>
            I have kept them
          </Button>
        </div>
      </div>
    </div>
  );
}

interface ProofProps {
  title: string;
  what: string;
  verb: string;
  danger?: boolean;
  open: boolean;
  close: () => void;
  act: (password: string) => Promise<unknown>;
}

/** Something that needs a code, and when it is dangerous the password, too. */
function Proof({ title, what, verb, danger, open, close, act }: ProofProps) {
  const [code, setCode] = useState("");
  const [password, setPassword] = useState("");
  const end = () => {
    setCode("");
    setPassword("");
    close();
  };
  return (
    <Dialog title={title} open={open} onClose={end}>
      <form onSubmit={(event) => event.preventDefault()}>
        <div className="section">
          <p className="second">{what}</p>
          {danger && (
            <Field label="Your password">
              <input className="input" type="password" autoComplete="current-password" value={password} onChange={(event) => setPassword(event.target.value)} />
            </Field>
          )}
          <Field label="Code of your app, or a recovery code">
            <input className="input" autoComplete="one-time-code" spellCheck={false} value={code} onChange={(event) => setCode(event.target.value)} />
          </Field>
        </div>
        <footer>
          <Button onClick={end}>Leave it</Button>
          <Act
            type="submit"
            kind={danger ? "danger" : "primary"}
            disabled={!code.trim() || (danger && !password)}
            act={async () => {
              await prove(code);
              await act(password);
              end();
            }}
          >
            {verb}
          </Act>
        </footer>
      </form>
    </Dialog>
  );
}

async function prove(code: string): Promise<void> {
  const plain = code.replace(/[\s-]/g, "");
  const right = /^\d{6}$/.test(plain) ? (await change(TwoFactorInfoValidateDocument, { token: plain })).twoFactorInfoValidate : (await change(RecoveryCodeValidateDocument, { code })).recoveryCodeValidate;
  if (!right) throw new Problem("That code is wrong or was used already: wait for the next one of your app.", "");
}
