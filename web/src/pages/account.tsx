import { useViewer } from "../viewer";
import { AccountFrame } from "./account-frame";
import { GalaxyKey } from "./galaxy-key";

export function Account() {
  const viewer = useViewer();
  return (
    <AccountFrame title="Account">
      <section className="sheet">
        <div className="section stack tight">
          <strong>{viewer.name}</strong>
          <span className="second">{viewer.email}</span>
          <span className="small quiet">
            <code>{viewer.id}</code>
          </span>
        </div>
      </section>
      <GalaxyKey />
    </AccountFrame>
  );
}
