/**
 * The least that a gateway costs: NodeHttpServer, a write of a request that was encoded in advance, a read of the answer, which
 * nobody looks at, and the answer that is known to come. What a gateway costs beyond it is its own work.
 *
 *     node netProxy.ts SOCKET APPLICATION'S_SOCKET
 */
import * as NodeHttpServer from "@effect/platform-node/NodeHttpServer"
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import { FastCgiEncoder, FastCgiParams, FastCgiRecord } from "effect-fastcgi"
import * as Effect from "effect/Effect"
import * as HttpServer from "effect/http/HttpServer"
import * as HttpServerResponse from "effect/http/HttpServerResponse"
import * as Layer from "effect/Layer"
import * as Http from "node:http"
import * as Net from "node:net"
import { backlog, hello, socketPath } from "./content.ts"

const application = process.argv[3]
if (application === undefined) throw new Error("the application's socket is missing")

const createServer = () => Http.createServer({ keepAliveTimeout: 120_000 })

const params = FastCgiParams.encodePairs([
  ["QUERY_STRING", ""],
  ["REQUEST_METHOD", "GET"],
  ["SCRIPT_NAME", "/bench/hello"],
  ["REQUEST_URI", "/bench/hello"],
  ["SERVER_PROTOCOL", "HTTP/1.1"],
  ["REQUEST_SCHEME", "http"],
  ["GATEWAY_INTERFACE", "CGI/1.1"],
  ["SERVER_NAME", "localhost"],
  ["SERVER_PORT", "80"],
  ["HTTP_HOST", "localhost"]
])
const { RecordType } = FastCgiRecord
const request = Buffer.concat(
  [
    FastCgiRecord.beginRequest(1, FastCgiRecord.Role.Responder, { keepConnection: true }),
    FastCgiRecord.params(1, params),
    FastCgiRecord.params(1),
    FastCgiRecord.stdin(1)
  ].map((record) => FastCgiEncoder.encode(record))
)

interface Connection {
  readonly socket: Net.Socket
  answered: () => void
}

const idle: Array<Connection> = []
const memory = new Uint8Array(64 * 1024)

const connect = (): Connection => {
  const connection: Connection = {
    socket: new Net.Socket({
      onread: {
        buffer: memory,
        callback: (size) => {
          // END_REQUEST is 16 bytes, and comes last.
          if (memory[size - 15] === RecordType.EndRequest) connection.answered()
          return true
        }
      }
    } as Net.SocketConstructorOpts).connect({ path: application }),
    answered: () => {}
  }
  return connection
}

const app = Effect.callback<HttpServerResponse.HttpServerResponse>((resume) => {
  const connection = idle.pop() ?? connect()
  connection.answered = () => {
    idle.push(connection)
    resume(Effect.succeed(HttpServerResponse.text(hello)))
  }
  connection.socket.write(request)
})

HttpServer.serve(app).pipe(
  Layer.provide(NodeHttpServer.layer(createServer, { path: socketPath(), backlog })),
  Layer.launch,
  NodeRuntime.runMain
)
