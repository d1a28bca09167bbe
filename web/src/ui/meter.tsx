/** How much of an amount is used. */
export function Meter({ label, used, of, text }: { label: string; used: number; of: number; text?: string }) {
  const share = of > 0 ? Math.min(1, used / of) : 0;
  return (
    <div className="progress" role="meter" aria-label={label} aria-valuemin={0} aria-valuemax={of} aria-valuenow={used} aria-valuetext={text}>
      <div style={{ width: `${share * 100}%` }} />
    </div>
  );
}
