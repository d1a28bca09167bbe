import { Link } from "@tanstack/react-router";
import { Bar } from "../ui/frame";

export function AccountFrame({ title, children }: { title: string; children: React.ReactNode }) {
  return (
    <>
      <Bar>
        <span className="crumb">
          <Link to="/account">Account</Link>
        </span>
        <nav className="tabs" aria-label="Account" style={{ marginLeft: 8 }}>
          <Link to="/account" className="tab" activeOptions={{ exact: true }}>
            Profile and security
          </Link>
          <Link to="/account/tokens" className="tab">
            Tokens
          </Link>
        </nav>
      </Bar>
      <main className="main narrow">
        <div className="head">
          <h1>{title}</h1>
        </div>
        <div className="stack loose">{children}</div>
      </main>
    </>
  );
}
