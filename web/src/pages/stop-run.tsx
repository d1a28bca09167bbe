import { Asking, Button } from "../ui/basic";

/** Stops a run after a question. */
export function StopRun({ act }: { act: () => Promise<unknown> }) {
  return (
    <Asking
      title="Stop this run?"
      what="What it has done stays done, and what it is at is given up. A stopped run does not go on."
      verb="Stop it"
      keep="Let it run"
      act={act}
      trigger={(ask) => (
        <Button size="small" kind="danger" onClick={ask}>
          Stop the run
        </Button>
      )}
    />
  );
}
