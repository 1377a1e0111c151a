/**
 * A program that serves FastCGI on its standard input and output, and as further connections on the pairs of pipes behind them:
 * `conformance PAIRS` serves the application of the conformance suite, `forward PAIRS PATH` what listens at a UNIX socket.
 */
import * as NodeServices from "@effect/platform-node/NodeServices"
import * as NodeSink from "@effect/platform-node/NodeSink"
import * as NodeStream from "@effect/platform-node/NodeStream"
import { FastCgiConnection, FastCgiServer, FastCgiTransport } from "effect-fastcgi"
import { FastCgiClient } from "effect-fastcgi/client"
import { NodeFastCgiConnector, NodeFastCgiRuntime } from "effect-fastcgi/node"
import * as Effect from "effect/Effect"
import { identity } from "effect/Function"
import * as Logger from "effect/Logger"
import type * as Scope from "effect/Scope"
import * as Stdio from "effect/Stdio"
import * as Net from "node:net"
import { handlers } from "../../conformance/effect-fastcgi/app.ts"

const [what, pairs, path = ""] = process.argv.slice(2)

const connect = NodeFastCgiConnector.connect({ path })

const app: FastCgiServer.Handlers<unknown, Scope.Scope, unknown, Scope.Scope, unknown, Scope.Scope> = what === "forward"
  ? FastCgiServer.forward({
    request: (request) => Effect.flatMap(FastCgiClient.make({ connect }), (client) => client.request(request))
  })
  : handlers()

const serve = (streams: FastCgiTransport.FastCgiTransportStreams<unknown, never, unknown, never>) =>
  Effect.scoped(Effect.flatMap(
    FastCgiTransport.fromStreams(streams),
    (transport) => FastCgiConnection.serve(transport, app)
  ))

const onStdio = Effect.flatMap(
  Stdio.Stdio,
  ({ stdin, stdout }) => serve({ input: stdin, output: stdout({ endOnDone: true }) })
)

/** As `process.stdin` and `process.stdout` are made of their pipes. */
const onPair = (fd: number) =>
  serve({
    input: NodeStream.fromReadable<Uint8Array>({
      evaluate: () => new Net.Socket({ fd, readable: true, writable: false })
    }),
    output: NodeSink.fromWritable({
      evaluate: () => new Net.Socket({ fd: fd + 1, readable: false, writable: true }),
      onError: identity
    })
  })

NodeFastCgiRuntime.runMain(
  Effect.forEach(
    Array.from({ length: Number(pairs) }, (_, pair) => pair),
    (pair) => pair === 0 ? onStdio : onPair(2 * pair + 1),
    { concurrency: "unbounded", discard: true }
  ).pipe(Effect.provide([NodeServices.layer, Logger.layer([])]))
)
