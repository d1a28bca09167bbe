// The editor's workers as files of this server.
import "graphiql/setup-workers/vite";
