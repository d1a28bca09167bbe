import { useNewsOf } from "../api/news";
import { useViewer } from "../viewer";

/** As many as one socket carries beside what else is listened to. */
const MOST = 16;

/** Asks again whenever a workflow or a run has changed. A workflow does not say whose it is, so that all that may be its workspace is listened to. */
export function useFlowNews(ask: () => Promise<unknown>, wanted = true): void {
  const { workspaces } = useViewer();
  useNewsOf(wanted ? workspaces.slice(0, MOST).map(({ id }) => id) : [], ask, "FLOW");
}
