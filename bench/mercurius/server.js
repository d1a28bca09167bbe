// The peer of the GraphQL benchmark: Mercurius with JIT over the same rows. It holds them in memory, which spares it the database that
// Orrery asks, and checks the key by a map look-up, as Orrery does by a hash look-up.
import { createHash } from 'node:crypto'
import Fastify from 'fastify'
import mercurius from 'mercurius'

const [port, key, count] = [Number(process.argv[2]), process.argv[3], Number(process.argv[4])]
const keys = new Map([[createHash('sha256').update(key).digest('hex'), { id: '1', name: 'Admin', email: 'admin@localhost' }]])
const projects = Array.from({ length: count }, (_, i) => ({ id: `p${i}`, name: `project-${i}` }))

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
    me: (_, __, { user }) => user,
    projects: (_, { first }) => {
      const page = projects.slice(0, first ?? projects.length)
      return { edges: page.map(node => ({ cursor: node.id, node })), pageInfo: { hasNextPage: page.length < projects.length, endCursor: null } }
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
    const user = keys.get(createHash('sha256').update(bearer).digest('hex'))
    if (!user) throw new Error('Not Authorized')
    return { user }
  }
})
await app.listen({ port, host: '127.0.0.1' })
