/**
 * FastCGI over the standard input and output of a child process: `node examples/pipeline/stdio/main.ts get /a/path` starts
 * `... serve` as its child and asks it for a page. `ssh host node main.ts serve` in its place serves from another host.
 */
import * as NodeServices from "@effect/platform-node/NodeServices"
import * as NodeStream from "@effect/platform-node/NodeStream"
import { FastCgiConnection, FastCgiResponse, FastCgiTransport } from "effect-fastcgi"
import { FastCgiClient } from "effect-fastcgi/client"
import { NodeFastCgiRuntime } from "effect-fastcgi/node"
import * as Effect from "effect/Effect"
import * as ChildProcess from "effect/process/ChildProcess"
import * as Stdio from "effect/Stdio"
import * as Stream from "effect/Stream"

const usage = `FastCGI over standard input and output.

  node examples/pipeline/stdio/main.ts serve      serves an app to whoever has started it
  node examples/pipeline/stdio/main.ts get PATH   starts that as a child, asks it for a page, and prints the answer
  node examples/pipeline/stdio/main.ts --help     says this
`

const serve = Effect.scoped(Effect.gen(function*() {
  const { stdout } = yield* Stdio.Stdio
  const transport = yield* FastCgiTransport.fromStreams({
    // Closed with the connection, so that the process ends then. That of `Stdio` stays open.
    input: NodeStream.fromReadable<Uint8Array>({ evaluate: () => process.stdin }),
    output: stdout({ endOnDone: true })
  })
  yield* FastCgiConnection.serve(transport, {
    responder: (request) =>
      Effect.succeed(FastCgiResponse.make(`${request.params.get("REQUEST_URI") ?? ""} came over a pipe\n`))
  })
}))

const child = Effect.flatMap(
  ChildProcess.make(process.execPath, [...process.execArgv, import.meta.filename, "serve"], { stderr: "inherit" }),
  ({ stdin, stdout }) => FastCgiTransport.fromStreams({ input: stdout, output: stdin })
)

const get = (path: string) =>
  Effect.scoped(Effect.gen(function*() {
    const client = yield* FastCgiClient.make({ connect: child })
    const { stdout } = yield* client.request({ params: [["REQUEST_METHOD", "GET"], ["REQUEST_URI", path]] })
    process.stdout.write(yield* Stream.mkString(Stream.decodeText(stdout)))
  }))

const [command, path = "/"] = process.argv.slice(2)
if (command === "--help") process.stdout.write(usage)
else if (command === "serve") NodeFastCgiRuntime.runMain(Effect.provide(serve, NodeServices.layer))
else if (command === "get") NodeFastCgiRuntime.runMain(Effect.provide(get(path), NodeServices.layer))
else {
  process.stderr.write(usage)
  process.exitCode = 2
}
