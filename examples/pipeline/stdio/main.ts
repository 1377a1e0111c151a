/**
 * FastCGI over the standard input and output of a child process: `node examples/pipeline/stdio/main.ts get /a/path` starts
 * `... serve` as its child and asks it for a page. `ssh host node main.ts serve` in its place serves from another host.
 */
import * as NodeServices from "@effect/platform-node/NodeServices"
import { FastCgiConnection, FastCgiResponse, FastCgiTransport } from "effect-fastcgi"
import { FastCgiClient } from "effect-fastcgi/client"
import { NodeFastCgiRuntime } from "effect-fastcgi/node"
import * as Channel from "effect/Channel"
import * as Effect from "effect/Effect"
import * as ChildProcess from "effect/process/ChildProcess"
import * as Stdio from "effect/Stdio"
import * as Stream from "effect/Stream"

const usage = `FastCGI over standard input and output.

  node examples/pipeline/stdio/main.ts serve      serves an app to whoever has started it
  node examples/pipeline/stdio/main.ts get PATH   starts that as a child, asks it for a page, and prints the answer
  node examples/pipeline/stdio/main.ts --help     says this
`

const serve = Effect.flatMap(Stdio.Stdio, ({ stdin, stdout }) =>
  stdin.pipe(
    Stream.pipeThroughChannel(FastCgiConnection.channel({
      responder: (request) =>
        Effect.succeed(FastCgiResponse.make(`${request.params.get("REQUEST_URI") ?? ""} came over a pipe\n`))
    })),
    Stream.run(stdout())
  ))

const child = Effect.gen(function*() {
  const { stdin, stdout } = yield* ChildProcess.make(
    process.execPath,
    [...process.execArgv, import.meta.filename, "serve"],
    { stderr: "inherit" }
  )
  return yield* FastCgiTransport.fromChannel(
    Channel.embedInput(
      Stream.toChannel(stdout),
      (bytes) => Effect.orDie(Stream.run(Stream.fromPull(Effect.succeed(bytes)), stdin))
    )
  )
})

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
