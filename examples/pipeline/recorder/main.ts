/**
 * A proxy that records what passes: `node examples/pipeline/recorder/main.ts /run/front.sock /run/app.sock captures`, and
 * `... show captures/1.received` prints the records of a capture.
 */
import * as NodeFileSystem from "@effect/platform-node/NodeFileSystem"
import { FastCgiChannel, FastCgiListener, FastCgiServer, type FastCgiTransport } from "effect-fastcgi"
import { FastCgiClient } from "effect-fastcgi/client"
import { NodeFastCgiConnector, NodeFastCgiListener, NodeFastCgiRuntime } from "effect-fastcgi/node"
import * as Effect from "effect/Effect"
import * as FileSystem from "effect/FileSystem"
import * as Layer from "effect/Layer"
import * as Stream from "effect/Stream"
import * as Fs from "node:fs"
import * as Path from "node:path"

const usage = `A FastCGI proxy that records every byte.

  node examples/pipeline/recorder/main.ts SOCKET APP FOLDER   listens on the UNIX socket SOCKET, passes requests on to APP,
                                                              keeps N.received and N.sent of each connection in FOLDER
  node examples/pipeline/recorder/main.ts show CAPTURE        prints the records of such a file
  node examples/pipeline/recorder/main.ts --help              says this
`

/** Keeps what passes a connection. What is written at once needs no queue: memory stays bounded however fast bytes come. */
const recordTo = (folder: string) => {
  let connections = 0
  return (): FastCgiTransport.FastCgiTap => {
    const name = Path.join(folder, String(++connections))
    const keep = (direction: string) => {
      const file = Fs.openSync(`${name}.${direction}`, "w")
      return {
        write: (chunks: ReadonlyArray<Uint8Array>) => chunks.forEach((chunk) => Fs.writeFileSync(file, chunk)),
        close: () => Fs.closeSync(file)
      }
    }
    const received = keep("received")
    const sent = keep("sent")
    return {
      onRead: received.write,
      onWrite: sent.write,
      onClose() {
        received.close()
        sent.close()
      }
    }
  }
}

const recorder = (from: string, to: string, folder: string) => {
  Fs.mkdirSync(folder, { recursive: true })
  return FastCgiServer.serve(FastCgiServer.forward({
    request: (request) =>
      Effect.flatMap(
        FastCgiClient.make({ connect: NodeFastCgiConnector.connect({ path: to }), keepConnection: false }),
        (client) => client.request(request)
      )
  })).pipe(Layer.provide(FastCgiListener.tap(NodeFastCgiListener.layerUnix({ path: from }), recordTo(folder))))
}

const show = (file: string) =>
  Effect.flatMap(FileSystem.FileSystem, (files) =>
    files.stream(file).pipe(
      Stream.pipeThroughChannel(FastCgiChannel.decodeRaw()),
      Stream.runForEach(({ content, padding, requestId, type }) =>
        Effect.sync(() =>
          console.log(`request ${requestId} type ${type} content ${content.length} padding ${padding.length}`)
        )
      )
    ))

const [first, second, third] = process.argv.slice(2)
if (first === "--help") process.stdout.write(usage)
else if (first === "show" && second !== undefined) {
  NodeFastCgiRuntime.runMain(Effect.provide(show(second), NodeFileSystem.layer))
} else if (first !== undefined && second !== undefined && third !== undefined) {
  NodeFastCgiRuntime.runMain(Layer.launch(recorder(first, second, third)))
} else {
  process.stderr.write(usage)
  process.exitCode = 2
}
