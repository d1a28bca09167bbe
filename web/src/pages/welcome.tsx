import { Mark } from "../ui/frame";

/** The base page for a visitor who is not signed in. */
export function Welcome() {
  return (
    <main className="welcome">
      <div className="stack loose">
        <div className="stack tight">
          <span className="row" style={{ fontWeight: 600, fontSize: 16 }}>
            <Mark /> Orrery
          </span>
          <h1 style={{ fontSize: 28, lineHeight: "36px", marginTop: 16 }}>Sign in</h1>
        </div>
        <form method="post" action="/login" className="stack">
          <input type="hidden" name="next" value="/" />
          <label className="field">
            <span>E-mail address</span>
            <input className="input" name="email" type="email" autoComplete="username" required autoFocus />
          </label>
          <label className="field">
            <span>Password</span>
            <input className="input" name="password" type="password" autoComplete="current-password" required />
          </label>
          <button type="submit" className="button" data-kind="primary">
            Sign in
          </button>
        </form>
        <div className="stack tight small second">
          <p>
            No password yet? Use the login link that the server printed at its first start. <code>orrery login-link</code> on the server makes another one.
          </p>
          <p>
            With an API key: <a href="/explorer">Explorer</a> · With a token: <a href="/graphiql">GraphiQL</a> · A code from a terminal: <a href="/oauth/device">enter it</a>
          </p>
        </div>
      </div>
    </main>
  );
}
