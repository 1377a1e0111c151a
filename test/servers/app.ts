/**
 * The application under test, as a program: `node app.ts --control /tmp/x/control.sock --path /tmp/x/app.sock --port 9000`.
 * Without `--path` and `--port` it listens on file descriptor 0, as a web server starts it. Without `--control` nobody is told
 * anything, which is enough to see what it says when it cannot start.
 */
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as HttpServer from "effect/http/HttpServer"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as Queue from "effect/Queue"
import * as Fs from "node:fs"
import * as Net from "node:net"
import { parseArgs } from "node:util"
import { NodeFastCgi, type NodeFastCgiListener } from "../../src/node/index.ts"
import { type Command, type Event, type Measures, splitLines } from "./support/messages.ts"
import * as Routes from "./support/routes.ts"

const { values } = parseArgs({
  options: {
    control: { type: "string" },
    path: { type: "string", multiple: true },
    port: { type: "string", multiple: true },
    fd: { type: "string" },
    mode: { type: "string" },
    "no-multiplexing": { type: "boolean" },
    "stall-timeout": { type: "string" }
  }
})

const listeners: ReadonlyArray<NodeFastCgiListener.NodeFastCgiListenerOptions> = [
  ...(values.path ?? []).map((path) =>
    values.mode === undefined ? { path } : { path, mode: Number.parseInt(values.mode, 8) }
  ),
  ...(values.port ?? []).map((port) => ({ port: Number(port) })),
  ...(values.fd === undefined ? [] : [{ fd: Number(values.fd) }])
]

const server = NodeFastCgi.layer({
  ...(listeners.length === 0 ? {} : { listeners }),
  ...(values["no-multiplexing"] === true ? { multiplexing: false } : {}),
  ...(values["stall-timeout"] === undefined ? {} : { stallTimeout: Number(values["stall-timeout"]) })
})

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

Layer.launch(Layer.provide(started, Routes.layer).pipe(Layer.provide(control), Layer.provide(server))).pipe(
  Effect.tapCause((cause) => Cause.hasInterruptsOnly(cause) ? Effect.void : Effect.logError(cause)),
  // Where a web server starts the application, stdout is /dev/null.
  Effect.provideService(Logger.LogToStderr, true),
  NodeRuntime.runMain({
    disableErrorReporting: true,
    // A signal is the way to stop it, so it is a success.
    teardown: (exit, onExit) => onExit(exit._tag === "Success" || Cause.hasInterruptsOnly(exit.cause) ? 0 : 1)
  })
)
