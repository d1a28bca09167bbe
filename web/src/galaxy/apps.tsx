import { ApolloClient, HttpLink, InMemoryCache } from "@apollo/client";
import { useQuery } from "@apollo/client/react";
import { useNews } from "../api/news";
import { AccountAppsDocument, AppPlaceDocument } from "../galaxy-gql";
import { State, type Tone } from "../ui/state";

/** Galaxy's API with this browser's session. Apollo DevTools show it beside the dashboard's own; there, too, `galaxyApiKey` is a variable. */
const galaxy = new ApolloClient({
  // The key is a variable that no operation uses.
  link: new HttpLink({ uri: "/graphql", includeUnusedVariables: true }),
  cache: new InMemoryCache(),
  devtools: { enabled: true, name: "Galaxy" },
});

const states: Record<string, [Tone, string]> = {
  running: ["healthy", "Running"],
  starting: ["busy", "Starting"],
  updating: ["busy", "Updating"],
  stopping: ["busy", "Stopping"],
  stopped: ["off", "Stopped"],
  unavailable: ["failed", "Unavailable"],
  startingFailed: ["failed", "Failed to start"],
};

const stateOf = (status: string): [Tone, string] => states[status] ?? ["off", status];

/** The service that an app is. */
export async function placeOf(hostname: string): Promise<{ project: string; env: string; service: string }> {
  const { data } = await galaxy.query({ query: AppPlaceDocument, variables: { hostname }, fetchPolicy: "network-only" });
  if (!data?.app) throw new Error(`There is no app at ${hostname}.`);
  return { project: data.app.projectId, env: data.app.environmentId, service: data.app.serviceId };
}

/** The apps of an account, as Galaxy's clients see them. */
export function GalaxyApps({ username, workspace }: { username: string; workspace: string }) {
  const { data, error, refetch } = useQuery(AccountAppsDocument, { client: galaxy, variables: { username } });
  const refused = Boolean(error && !data);
  // The page above says what is wrong; an account that may not use this API is not asked about again.
  useNews(refused ? null : workspace, refetch);
  const apps = data?.user?.apps ?? [];
  if (apps.length === 0) return null;
  return (
    <section aria-labelledby="galaxy-apps" style={{ marginTop: 32 }}>
      <div className="head">
        <h2 id="galaxy-apps">Apps</h2>
      </div>
      <ul className="sheet list" aria-labelledby="galaxy-apps">
        {apps.map((app) => {
          const [tone, word] = stateOf(app.status);
          return (
            <li key={app._id}>
              <a className="grow cut" href={app.url} target="_blank" rel="noreferrer">
                {app.hostname}
              </a>
              <span className="small second phone-hide">{app.containerCount === 1 ? "1 container" : `${app.containerCount} containers`}</span>
              <span style={{ width: 150 }}>
                <State tone={tone}>{word}</State>
              </span>
            </li>
          );
        })}
      </ul>
    </section>
  );
}
