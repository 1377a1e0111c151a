/**
 * Connections that end when they should not: closed, half-closed or reset by the peer at every byte of a request, ten thousand of
 * them. Afterwards the application is as it was before.
 */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Schedule from "effect/Schedule"
import * as Fs from "node:fs"
import * as Net from "node:net"
import * as Path from "node:path"
import { projectRoot } from "../support/files.ts"
import { freePort, temporaryDirectory } from "../support/webServers.ts"
import * as Application from "./support/application.ts"

/** What real web servers have sent for a POST with a small body: one closes the connection after it, the other keeps it. */
const requests = ["nginx-post-small.bin", "haproxy-post-small.bin"].map((name) =>
  Fs.readFileSync(Path.join(projectRoot, "test/vectors", name))
)

const endings = {
  /** Sends no more and waits for what comes. */
  "half-close": (socket: Net.Socket) => {
    socket.end()
  },
  /** Sends no more and takes no more. */
  close: (socket: Net.Socket) => {
    socket.destroy()
  },
  /** Only TCP can. */
  reset: (socket: Net.Socket) => {
    socket.resetAndDestroy()
  }
}

/** Connects, sends the beginning of a request, ends the connection, waits until it is gone, and tells whether there was an answer. */
const connectAndEnd = (
  to: Net.NetConnectOpts,
  bytes: Uint8Array,
  end: (socket: Net.Socket) => void
): Effect.Effect<boolean> =>
  Effect.callback((resume) => {
    let answered = false
    const socket = Net.connect({ ...to, allowHalfOpen: false })
    // When everything has been handed over to the operating system, so that it arrives before the end does.
    socket.on("connect", () => {
      if (bytes.length === 0) end(socket)
      else socket.write(bytes, () => end(socket))
    })
    socket.on("data", () => {
      answered = true
    })
    // A reset that crosses ours is no surprise.
    socket.on("error", () => {})
    socket.on("close", () => resume(Effect.succeed(answered)))
  })

const concurrency = 32

describe("peers that end a connection at every byte of a request", () => {
  it.live(
    "leave no handler, no descriptor, no memory and no error behind, after 10,000 of them",
    () =>
      Effect.gen(function*() {
        const folder = yield* temporaryDirectory
        const path = Path.join(folder, "app.sock")
        const port = yield* freePort
        const application = yield* Application.start(
          Path.join(folder, "control.sock"),
          "--path",
          path,
          "--port",
          String(port)
        )
        const to = { UNIX: { path }, TCP: { host: "127.0.0.1", port } }

        const plays = requests.flatMap((request) =>
          (["UNIX", "TCP"] as const).flatMap((transport) =>
            (["half-close", "close", "reset"] as const)
              .filter((ending) => transport === "TCP" || ending !== "reset")
              .flatMap((ending) =>
                Array.from(
                  { length: request.length + 1 },
                  (_, cut) => connectAndEnd(to[transport], request.subarray(0, cut), endings[ending])
                )
              )
          )
        )
        const play = (count: number) =>
          Effect.forEach(
            Array.from({ length: count }, (_, i) => plays[i % plays.length]!),
            (play) => play,
            {
              concurrency
            }
          )
        /** Until nothing runs and only the listening sockets are open; what is left then stays. */
        const atRest = (descriptors: number) =>
          Effect.flatMap(
            application.measure,
            (measures) =>
              measures.handlers === 0 && measures.descriptors <= descriptors
                ? Effect.succeed(measures)
                : Effect.fail(new Error(`not at rest: ${JSON.stringify(measures)}, ${descriptors} descriptors before`))
          ).pipe(Effect.retry({ schedule: Schedule.spaced("50 millis"), times: 100 }))

        const { descriptors } = yield* application.measure
        // Every path has been taken once, and is compiled.
        const answers = yield* play(plays.length)
        // Nobody who has gone before the end of the request is answered; whoever waits for the answer is.
        const complete = answers.filter((answered) => answered).length
        assert.isAtLeast(complete, 2 * requests.length)
        assert.isBelow(complete, plays.length / 10)
        const before = yield* atRest(descriptors)
        const count = Math.max(10_000, plays.length)
        yield* play(count)
        const after = yield* atRest(descriptors)

        assert.strictEqual(after.handlers, 0)
        assert.strictEqual(after.descriptors, descriptors)
        // Less than 100 bytes a connection: whatever was kept of one would be more.
        assert.isBelow(after.heap - before.heap, 100 * count)
        assert.notMatch(application.program.log(), /ERROR|Unhandled|defect|Warning/)
        assert.isTrue((yield* Effect.exit(application.program.stop("SIGTERM")))._tag === "Success")
      })
  )
})
