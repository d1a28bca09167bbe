import { Meter } from "../ui/meter";
import { short } from "../ui/series";

/** What workflows have used of what they may. */
export function Credits({ used, allowance }: { used: number; allowance: number }) {
  return (
    <section className="stack tight" aria-label="Flow credits">
      <div className="row wrap between">
        <h2>Flow credits</h2>
        <span className="numbers">
          {short(used)} of {short(allowance)}
        </span>
      </div>
      <Meter label="Credits used" used={used} of={allowance} />
      <p className="second small">What the nodes of your workflows cost, and what runs under way may cost.</p>
    </section>
  );
}
