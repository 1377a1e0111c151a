/**
 * The application under test, as a program: `node app.ts --control /tmp/x/control.sock --path /tmp/x/app.sock --port 9000`.
 * Ports are those of 127.0.0.1 unless there is a `--host`. Without `--path`, `--port`, `--fd` and `--systemd` it listens on file
 * descriptor 0, as a web server starts it. Without `--control` nobody is told anything, which is enough to see what it says when
 * it cannot start.
 */
import * as Effect from "effect/Effect"
import * as HttpServer from "effect/http/HttpServer"
import * as Layer from "effect/Layer"
import * as Queue from "effect/Queue"
import * as Fs from "node:fs"
import * as Net from "node:net"
import { parseArgs } from "node:util"
import { FastCgiLogger, FastCgiSendFile } from "../../src/http/index.ts"
import { NodeFastCgi, type NodeFastCgiListener, NodeFastCgiRuntime, NodeFastCgiWorkers } from "../../src/node/index.ts"
import { type Command, type Event, type Measures, splitLines } from "./support/messages.ts"
import * as Routes from "./support/routes.ts"

const { values } = parseArgs({
  options: {
    control: { type: "string" },
    path: { type: "string", multiple: true },
    port: { type: "string", multiple: true },
    host: { type: "string" },
    fd: { type: "string" },
    /** The name of a socket of systemd, or "" for all. */
    systemd: { type: "string" },
    mode: { type: "string" },
    /** Milliseconds. */
    graceful: { type: "string" },
    "base-path": { type: "string" },
    "url-from": { type: "string" },
    /** Options of FastCgiSendFile, as JSON. */
    "send-file": { type: "string" },
    static: { type: "string" },
    "log-to-web-server": { type: "boolean" },
    "no-multiplexing": { type: "boolean" },
    /** Milliseconds. */
    "stall-timeout": { type: "string" },
    /** So many processes on the same sockets. */
    workers: { type: "string" },
    /** Further options of NodeFastCgiWorkers, as JSON. */
    "workers-options": { type: "string" }
  }
})

const listeners: ReadonlyArray<NodeFastCgiListener.NodeFastCgiListenerOptions> = [
  ...(values.path ?? []).map((path) =>
    values.mode === undefined ? { path } : { path, mode: Number.parseInt(values.mode, 8) }
  ),
  ...(values.port ?? []).map((port) => ({ host: values.host, port: Number(port) })),
  ...(values.fd === undefined ? [] : [{ fd: Number(values.fd) }]),
  ...(values.systemd === undefined ? [] : [{ systemd: values.systemd === "" ? true as const : values.systemd }])
]

const server = NodeFastCgi.layer({
  ...(listeners.length === 0 ? {} : { listeners }),
  ...(values["no-multiplexing"] === true ? { multiplexing: false } : {}),
  ...(values["stall-timeout"] === undefined ? {} : { stallTimeout: Number(values["stall-timeout"]) }),
  ...(values.graceful === undefined ? {} : { gracefulShutdownTimeout: Number(values.graceful) }),
  basePath: values["base-path"],
  ...(values["url-from"] === "script" ? { urlFrom: "script" } : {})
})

const sendFile = values["send-file"]

/** With the options that make the web server send files and write logs. */
const platform = sendFile === undefined
  ? server
  : Layer.provideMerge(
    FastCgiSendFile.layer(JSON.parse(sendFile) as FastCgiSendFile.FastCgiSendFileOptions),
    server
  )

const loggers = values["log-to-web-server"] === true ? FastCgiLogger.layer() : Layer.empty

/** Collects twice: what the first collection finalizes is freed by the second. */
const measure = (): Measures => {
  globalThis.gc?.()
  globalThis.gc?.()
  return {
    handlers: Routes.running(),
    handled: Routes.handled(),
    heap: process.memoryUsage().heapUsed,
    descriptors: Fs.readdirSync("/proc/self/fd").length
  }
}

const control = Layer.effect(
  Routes.Control,
  Effect.sync(() => {
    const requests = new Map<string, Queue.Queue<Routes.Order>>()
    const socket = values.control === undefined ? undefined : Net.connect(values.control)
    const write = (event: Event) => socket?.write(`${JSON.stringify(event)}\n`)

    const receive = (command: Command) => {
      if (command._tag === "Measure") {
        write({ _tag: "Measured", id: command.id, measures: measure() })
        return
      }
      const queue = requests.get(command.id)
      if (queue !== undefined) Queue.offerUnsafe(queue, command)
    }

    // The test is gone: whoever started this program may be gone as well, and nobody else would stop it.
    socket?.on("close", () => process.exit(70))
    socket?.on("error", () => process.exit(70))
    socket?.setEncoding("utf8")
    socket?.on("data", splitLines((line) => receive(JSON.parse(line) as Command)))
    // A program that has nothing else to do may end.
    socket?.unref()

    return Routes.Control.of({
      send: (event) => Effect.sync(() => write(event)),
      listen: (id) => {
        const queue = Effect.runSync(Queue.unbounded<Routes.Order>())
        requests.set(id, queue)
        return queue
      },
      forget: (id) => {
        requests.delete(id)
      }
    })
  })
)

const started = Layer.effectDiscard(Effect.gen(function*() {
  const control = yield* Routes.Control
  const { address } = yield* HttpServer.HttpServer
  yield* control.send({ _tag: "Started", pid: process.pid, address: HttpServer.formatAddress(address) })
}))

const app = Layer.provide(started, Routes.layer).pipe(
  Layer.provide(control),
  Layer.provide(platform),
  Layer.provide(loggers),
  Layer.provide(Layer.succeed(Routes.StaticFiles, values.static))
)

if (values.workers === undefined) {
  NodeFastCgiRuntime.runMain(Layer.launch(app))
} else {
  NodeFastCgiWorkers.runMain(app, {
    workers: Number(values.workers),
    ...JSON.parse(values["workers-options"] ?? "{}") as NodeFastCgiWorkers.NodeFastCgiWorkersOptions
  })
}
