/** Where things stand on the canvas: what refers to something stands left of it; what is alone fills a grid below. */

export interface Placed {
  x: number;
  y: number;
}

const STEP_X = 312;
const STEP_Y = 124;

export function place(ids: string[], edges: [from: string, to: string][], columns: number): Map<string, Placed> {
  const known = new Set(ids);
  const kept = edges.filter(([from, to]) => from !== to && known.has(from) && known.has(to));
  const next = new Map<string, string[]>();
  for (const [from, to] of kept) next.set(from, [...(next.get(from) ?? []), to]);
  const depth = new Map<string, number>();
  const visit = (id: string, path: Set<string>): number => {
    const found = depth.get(id);
    if (found !== undefined) return found;
    if (path.has(id)) return 0;
    path.add(id);
    const deepest = Math.max(-1, ...(next.get(id) ?? []).map((to) => visit(to, path)));
    path.delete(id);
    depth.set(id, deepest + 1);
    return deepest + 1;
  };
  const linked = new Set(kept.flat());
  for (const id of linked) visit(id, new Set());
  const most = Math.max(0, ...[...linked].map((id) => depth.get(id) ?? 0));
  const out = new Map<string, Placed>();
  const levels: string[][] = [];
  for (const id of ids.filter((one) => linked.has(one))) (levels[most - (depth.get(id) ?? 0)] ??= []).push(id);
  // A hundred that refer to one database would be a column that no window shows.
  const tall = Math.max(8, Math.ceil(Math.sqrt(ids.length)));
  let [left, rows] = [0, 0];
  for (const level of levels) {
    level?.forEach((id, index) => out.set(id, { x: (left + Math.floor(index / tall)) * STEP_X, y: (index % tall) * STEP_Y }));
    left += Math.max(1, Math.ceil((level?.length ?? 0) / tall));
    rows = Math.max(rows, Math.min(level?.length ?? 0, tall));
  }
  const below = rows * STEP_Y + (rows > 0 ? 24 : 0);
  ids.filter((one) => !linked.has(one)).forEach((id, index) => out.set(id, { x: (index % columns) * (STEP_X - 48), y: below + Math.floor(index / columns) * STEP_Y }));
  return out;
}

/** Services whose variables another service's variables refer to: `${{Name.VARIABLE}}`. */
export function references(config: unknown, names: Map<string, string>): [string, string][] {
  const services = (config as { services?: Record<string, { variables?: Record<string, { value?: string | null } | null> }> } | null)?.services ?? {};
  const byName = new Map([...names].map(([id, name]) => [name.toLowerCase(), id]));
  const found = new Set<string>();
  const out: [string, string][] = [];
  for (const [id, service] of Object.entries(services)) {
    for (const variable of Object.values(service?.variables ?? {})) {
      for (const match of (variable?.value ?? "").matchAll(/\$\{\{\s*([^.}]+)\.[^}]+\}\}/g)) {
        const to = byName.get(match[1].trim().replace(/^"|"$/g, "").toLowerCase());
        if (to && to !== id && !found.has(`${id} ${to}`)) {
          found.add(`${id} ${to}`);
          out.push([id, to]);
        }
      }
    }
  }
  return out;
}
