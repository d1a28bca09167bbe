import { ApolloClient, ApolloLink, HttpLink, InMemoryCache, type TypedDocumentNode, type OperationVariables } from "@apollo/client";
import { CombinedGraphQLErrors, CombinedProtocolErrors, ServerError } from "@apollo/client/errors";
import { ErrorLink } from "@apollo/client/link/error";
import { GraphQLWsLink } from "@apollo/client/link/subscriptions";
import { createClient } from "graphql-ws";
import { ViewerDocument } from "../gql";

const socketUrl = `${location.protocol === "https:" ? "wss" : "ws"}://${location.host}/graphql/v2`;

/** One socket for every subscription; it comes back by itself. */
export const socket = createClient({
  url: socketUrl,
  lazyCloseTimeout: 10_000,
  retryAttempts: Infinity,
  shouldRetry: () => true,
  retryWait: (tries) => new Promise((done) => setTimeout(done, Math.min(500 * 2 ** tries, 15_000))),
});

const http = new HttpLink({ uri: "/graphql/v2" });

/** A session that has ended since this page began: who was signed in is asked to do that again, wherever that comes to light. */
const ended = new ErrorLink(({ error, operation }) => {
  if (!isSignedOut(problemOf(error))) return;
  if (operation.operationName !== "Viewer") void lookAtSession();
  // Whoever was never signed in is shown the way by the page itself.
  else if (client.readQuery({ query: ViewerDocument })) signInFirst();
});

export const client = new ApolloClient({
  link: ApolloLink.split(({ operationType }) => operationType === "subscription", new GraphQLWsLink(socket), ended.concat(http)),
  cache: new InMemoryCache({
    typePolicies: {
      // Lists come whole; merging pages by hand is done where a page is asked for.
      DeploymentDeploymentInstance: { keyFields: ["id"] },
      Log: { keyFields: false },
      // There is one of it, and what it says of a workspace is said of a person's place in it.
      Operator: { keyFields: [] },
      OperatorWorkspace: { keyFields: false },
      Environment: { fields: { config: { merge: false } } },
    },
  }),
  devtools: { enabled: true, name: "Orrery" },
});

/** What went wrong, for a person: what happened, and the number under which the server's log has it. */
export class Problem extends Error {
  constructor(
    message: string,
    readonly code: string,
    readonly requestId?: string,
  ) {
    super(message);
  }
}

export function problemOf(error: unknown): Problem {
  if (error instanceof Problem) return error;
  if (CombinedGraphQLErrors.is(error) || CombinedProtocolErrors.is(error)) {
    const first = error.errors[0];
    const extensions = (first?.extensions ?? {}) as Record<string, unknown>;
    const id = extensions.requestId ?? extensions.traceId ?? (first as { traceId?: string } | undefined)?.traceId;
    return new Problem(first?.message ?? "The server refused", String(extensions.code ?? ""), id ? String(id) : undefined);
  }
  if (ServerError.is(error)) {
    let text = `The server answered ${error.statusCode}`;
    let id: string | undefined;
    try {
      const body = JSON.parse(error.bodyText) as { message?: string; requestId?: string; errors?: { message?: string; extensions?: { requestId?: string } }[] };
      text = body.errors?.[0]?.message ?? body.message ?? text;
      id = body.errors?.[0]?.extensions?.requestId ?? body.requestId;
    } catch {
      // Not JSON: the status alone has to do.
    }
    return new Problem(text, String(error.statusCode), id);
  }
  if (error instanceof TypeError) return new Problem("The server cannot be reached. What you see may be out of date; this page tries again by itself.", "OFFLINE");
  return new Problem(error instanceof Error ? error.message : String(error), "");
}

let isLeaving = false;
// The browser's way back brings this page as it was left.
addEventListener("pageshow", () => (isLeaving = false));

/** Where somebody has chosen to go is not overtaken by what this page is answered on the way, such as once they have signed out. */
export function leave(): void {
  isLeaving = true;
}

export function signInFirst(): void {
  if (isLeaving) return;
  leave();
  location.assign(`/login?next=${encodeURIComponent(location.pathname + location.search + location.hash)}`);
}

/** Asks whether there is still somebody signed in; if not, the answer leads to where one signs in. */
export async function lookAtSession(): Promise<void> {
  await client.query({ query: ViewerDocument, fetchPolicy: "network-only" }).catch(() => undefined);
}

export function isSignedOut(problem: Problem): boolean {
  return problem.code === "UNAUTHENTICATED";
}

type Doc<T, V extends OperationVariables> = TypedDocumentNode<T, V>;

/** Asks the server and throws a [`Problem`]. What is asked apart is not kept, and no page looks through it. */
export async function ask<T, V extends OperationVariables>(query: Doc<T, V>, variables: V, fresh: boolean | "apart" = true): Promise<T> {
  try {
    const { data } = await client.query({ query, variables, fetchPolicy: fresh === "apart" ? "no-cache" : fresh ? "network-only" : "cache-first" } as never);
    return data as T;
  } catch (error) {
    throw problemOf(error);
  }
}

/** What else is asked again when something has changed: answers that are not in the cache. */
export const alsoRefreshed = new Set<() => Promise<unknown>>();

/** Asks again for what is on the screen. */
export async function refresh(): Promise<void> {
  await Promise.all([client.refetchQueries({ include: "active" }).catch(() => undefined), ...[...alsoRefreshed].map((one) => one())]);
}

/** Changes something, then asks again for what is on the screen. */
export async function change<T, V extends OperationVariables>(mutation: Doc<T, V>, variables: V): Promise<T> {
  try {
    const { data } = await client.mutate({ mutation, variables } as never);
    await refresh();
    return data as T;
  } catch (error) {
    throw problemOf(error);
  }
}
