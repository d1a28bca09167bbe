// The peer of the GraphQL benchmark: Mercurius with JIT over the same database file, with prepared statements. It does what Orrery does
// for these queries: looks the key up by its hash, reads its person and their workspaces, and reads a page of projects by an index.
import { createHash } from 'node:crypto'
import Database from 'better-sqlite3'
import Fastify from 'fastify'
import mercurius from 'mercurius'

const [port, file] = [Number(process.argv[2]), process.argv[3]]
const db = new Database(file, { readonly: true })
const keyByHash = db.prepare('SELECT user_id, expires_at, revoked_at FROM api_keys WHERE hash = ?')
const userById = db.prepare('SELECT id, name, email FROM users WHERE id = ?')
const workspacesOf = db.prepare('SELECT workspace_id, role FROM memberships WHERE user_id = ?')
const page = db.prepare('SELECT id, name FROM projects WHERE workspace_id = ? AND deleted_at IS NULL ORDER BY id DESC LIMIT ?')

const uuid = blob => {
  const hex = blob.toString('hex')
  return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-${hex.slice(12, 16)}-${hex.slice(16, 20)}-${hex.slice(20)}`
}
const schema = `
  type User { id: ID! name: String email: String! }
  type Project { id: ID! name: String! }
  type ProjectEdge { cursor: String! node: Project! }
  type PageInfo { hasNextPage: Boolean! endCursor: String }
  type ProjectConnection { edges: [ProjectEdge!]! pageInfo: PageInfo! }
  type Query { me: User! projects(first: Int): ProjectConnection! }
`
const resolvers = {
  Query: {
    me: (_, __, { user }) => ({ ...user, id: uuid(user.id) }),
    projects: (_, { first }, { workspaces }) => {
      const rows = page.all(workspaces[0].workspace_id, (first ?? 500) + 1)
      const shown = rows.slice(0, first ?? 500)
      const edges = shown.map(row => ({ cursor: uuid(row.id), node: { id: uuid(row.id), name: row.name } }))
      return { edges, pageInfo: { hasNextPage: rows.length > shown.length, endCursor: edges.at(-1)?.cursor ?? null } }
    }
  }
}
const app = Fastify()
app.register(mercurius, {
  schema,
  resolvers,
  jit: 1,
  path: '/graphql/v2',
  context: request => {
    const bearer = (request.headers.authorization ?? '').slice(7)
    const key = keyByHash.get(createHash('sha256').update(bearer).digest())
    if (!key || key.revoked_at !== null) throw new Error('Not Authorized')
    return { user: userById.get(key.user_id), workspaces: workspacesOf.all(key.user_id) }
  }
})
await app.listen({ port, host: '127.0.0.1' })
