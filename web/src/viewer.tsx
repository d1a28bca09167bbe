import { useQuery } from "@apollo/client/react";
import { useSearch } from "@tanstack/react-router";
import { createContext, use } from "react";
import { ViewerDocument, type ViewerQuery } from "./gql";

export type Viewer = ViewerQuery["me"];

export const ViewerContext = createContext<Viewer | null>(null);

export function useViewer(): Viewer {
  const viewer = use(ViewerContext);
  if (!viewer) throw new Error("only shown to people who are signed in");
  return viewer;
}

export function useViewerQuery() {
  return useQuery(ViewerDocument, { fetchPolicy: "cache-and-network" });
}

/** The workspace that the address names, or the first one. */
export function useWorkspace(): Viewer["workspaces"][number] {
  const viewer = useViewer();
  const { workspace } = useSearch({ strict: false }) as { workspace?: string };
  return viewer.workspaces.find((one) => one.id === workspace) ?? viewer.workspaces[0];
}
