/** One setting that a staged change gives another value. */
export interface Difference {
  /** The service it belongs to; none for the environment's own. */
  service?: string;
  /** Where in the document, as `deploy.numReplicas`. */
  path: string;
  before: string | null;
  after: string | null;
}

type Tree = Record<string, unknown>;

const isTree = (value: unknown): value is Tree => typeof value === "object" && value !== null && !Array.isArray(value);

function at(document: unknown, path: string[]): unknown {
  return path.reduce<unknown>((value, key) => (isTree(value) ? value[key] : undefined), document);
}

function said(value: unknown): string | null {
  if (value === undefined || value === null) return null;
  // A variable is an object with a value, which is absent when it is sealed.
  if (isTree(value) && ("value" in value || "isSealed" in value)) return typeof value.value === "string" ? value.value : "sealed";
  return typeof value === "string" ? value : JSON.stringify(value);
}

const isLeaf = (value: unknown, path: string[]) => !isTree(value) || Object.keys(value).length === 0 || ["variables", "sharedVariables"].includes(path.at(-2) ?? "");

/** What a patch of an environment's document changes, for reading. */
export function differences(patch: unknown, document: unknown): Difference[] {
  const found: Difference[] = [];
  const visit = (value: unknown, path: string[]) => {
    if (path.length > 0 && isLeaf(value, path)) {
      const service = path[0] === "services" ? path[1] : undefined;
      const rest = path.slice(service ? 2 : 0);
      found.push({ service, path: rest.join("."), before: said(at(document, path)), after: said(value) });
      return;
    }
    for (const [key, inner] of Object.entries(value as Tree)) visit(inner, [...path, key]);
  };
  if (isTree(patch)) visit(patch, []);
  return found;
}

/** What is not the same in two documents, for reading. */
export function between(before: unknown, after: unknown): Difference[] {
  const changed = differences(after, before).filter((one) => one.before !== one.after);
  const gone = differences(before, after).filter((one) => one.before === null && one.after !== null);
  return [...changed, ...gone.map(({ path, after: value }) => ({ path, before: value, after: null }))];
}
