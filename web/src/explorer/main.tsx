import "graphiql/style.css";
import "@fontsource-variable/inter/wght.css";
import "../styles/explorer.css";
import "./workers";
import { GraphiQL } from "graphiql";
import { createRoot } from "react-dom/client";
import { useMemo, useRef, useState } from "react";

const galaxy = location.pathname.startsWith("/explorer");

const first = galaxy
  ? `# Orrery's API for Galaxy's clients. Set your API key at the bottom right.
#
# The schema is under Docs, at the upper right.

query Account {
  user(username: "YOUR_USERNAME") {
    _id
    username
    runningAppCount
  }
}
`
  : `# The API that this dashboard is made of. You are signed in with this browser's session;
# to be somebody else, send a token below: {"Authorization": "Bearer …"}

query Projects {
  me {
    name
    workspaces {
      name
      projects {
        edges {
          node {
            id
            name
          }
        }
      }
    }
  }
}
`;

interface Operation {
  query: string;
  variables?: unknown;
  operationName?: string | null;
}

/** Sends the key that was typed last. */
function fetcherOf(key: { current: string }) {
  return async (operation: Operation, options?: { headers?: Record<string, string> }) => {
    const headers: Record<string, string> = { "content-type": "application/json", ...options?.headers };
    if (galaxy && key.current) headers["galaxy-api-key"] = key.current;
    const answer = await fetch(galaxy ? "/graphql" : "/graphql/v2", { method: "POST", headers, body: JSON.stringify(operation) });
    return answer.json();
  };
}

function Explorer() {
  const [key, setKey] = useState(() => sessionStorage.getItem("galaxy-api-key") ?? "");
  const newest = useRef(key);
  // GraphiQL asks for the schema with each new fetcher, and half a key counts as one that failed: another comes when the box is left.
  const [settled, settle] = useState(key);
  const fetcher = useMemo(() => fetcherOf(newest), [settled]);
  return (
    <>
      <GraphiQL fetcher={fetcher as never} defaultQuery={first} shouldPersistHeaders={false} storage={named(galaxy ? "explorer" : "graphiql")} defaultEditorToolsVisibility={galaxy ? "variables" : "headers"}>
        <GraphiQL.Logo>
          <a href="/" className="explorer-home">
            {galaxy ? "Explorer" : "GraphiQL"}
          </a>
          <button type="button" className="explorer-docs" onClick={() => document.querySelector<HTMLButtonElement>('.graphiql-sidebar button[aria-label*="Documentation"]')?.click()}>
            Docs
          </button>
          <a href={galaxy ? "/graphiql" : "/explorer"} className="explorer-link">
            {galaxy ? "GraphiQL" : "Explorer"}
          </a>
          <a href="/docs/api" className="explorer-link">
            REST reference
          </a>
        </GraphiQL.Logo>
        {galaxy ? (
          <GraphiQL.Footer>
            <label className="explorer-key">
              <span>API key</span>
              <input
                type="password"
                placeholder="gal_…"
                autoComplete="off"
                spellCheck={false}
                value={key}
                onChange={(event) => {
                  newest.current = event.target.value.trim();
                  setKey(newest.current);
                  sessionStorage.setItem("galaxy-api-key", newest.current);
                }}
                onBlur={() => settle(key)}
              />
            </label>
          </GraphiQL.Footer>
        ) : null}
      </GraphiQL>
    </>
  );
}

/** Two APIs, two memories of what was typed. */
function named(prefix: string): Storage {
  return {
    getItem: (name: string) => localStorage.getItem(`${prefix}:${name}`),
    setItem: (name: string, value: string) => localStorage.setItem(`${prefix}:${name}`, value),
    removeItem: (name: string) => localStorage.removeItem(`${prefix}:${name}`),
    clear: () => undefined,
    key: () => null,
    length: 0,
  };
}

createRoot(document.getElementById("root") as HTMLElement).render(<Explorer />);
