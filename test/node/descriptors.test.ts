/**
 * A process that has no file descriptor left: what it says, and that it goes on. In a child process with a low limit.
 */
import { assert, describe, it } from "@effect/vitest"
import { FastCgiHttpClient } from "effect-fastcgi/client"
import { NodeFastCgiConnector } from "effect-fastcgi/node"
import * as Effect from "effect/Effect"
import * as ChildProcess from "node:child_process"
import * as Net from "node:net"
import { watchDescriptors } from "../../src/node/internal/descriptors.ts"
import { programFile } from "../support/programFile.ts"
import { spawned } from "./children.ts"
import { eventually, temporaryDirectory } from "./sockets.ts"

const fixture = programFile("test/node/fixtures/descriptors.ts")

const complaint = /No connection can be accepted on .*: all 48 file descriptors of this process are in use/g

const connections = (to: NodeFastCgiConnector.NodeFastCgiConnectorOptions, count: number) =>
  Effect.acquireRelease(
    Effect.sync(() =>
      Array.from({ length: count }, () => {
        const socket = Net.connect(to as Net.NetConnectOpts)
        socket.on("error", () => {})
        return socket
      })
    ),
    (sockets) =>
      Effect.sync(() => {
        for (const socket of sockets) socket.destroy()
      })
  )

const get = (to: NodeFastCgiConnector.NodeFastCgiConnectorOptions) =>
  Effect.scoped(Effect.gen(function*() {
    const client = yield* FastCgiHttpClient.make({ connect: NodeFastCgiConnector.connect(to) })
    return yield* (yield* client.get("http://localhost/")).text
  }))

describe.skipIf(process.platform !== "linux")("a server out of file descriptors", () => {
  it.live.each(["tcp", "unix"])(
    "says so once, counts it, and answers again when there are some (%s)",
    (kind) =>
      Effect.gen(function*() {
        const path = `${yield* temporaryDirectory}/app.sock`
        const child = yield* spawned(() =>
          ChildProcess.spawn("sh", [
            "-c",
            "ulimit -n 48; exec \"$0\" \"$@\"",
            process.execPath,
            fixture,
            ...(kind === "unix" ? [path] : [])
          ], { stdio: ["ignore", "pipe", "pipe"] })
        )
        const address = (yield* child.line("listening on ")).slice("listening on ".length)
        const to = kind === "unix" ? { path } : { port: Number(address.split(":").at(-1)) }
        assert.strictEqual(yield* get(to), "Hello")
        assert.strictEqual(child.stderr(), "")
        yield* Effect.scoped(Effect.gen(function*() {
          const sockets = yield* connections(to, 100)
          yield* eventually(
            () => sockets.some((socket) => socket.readyState !== "opening" && !socket.readable),
            "a closed connection"
          )
          yield* eventually(() => child.stderr().includes("No connection"), "a line that says why")
        }))
        // The server closes what its peers have closed.
        let answered = ""
        while (answered !== "Hello") answered = yield* Effect.orElseSucceed(get(to), () => "")
        child.process.kill("SIGUSR2")
        const lines = child.lines().length
        yield* eventually(() => child.lines().length > lines, "the metric")
        assert.isAtLeast(Number(child.lines().at(-1)), 1)
        assert.strictEqual(child.stderr().match(complaint)?.length, 1, child.stderr())
        child.process.kill("SIGTERM")
        assert.deepStrictEqual(yield* child.exited, [0, null])
      })
  )
})

describe("a watch on file descriptors", () => {
  // A connection on this descriptor.
  const socket = (fd: number | undefined) => ({ _handle: fd === undefined ? null : { fd } }) as unknown as Net.Socket

  it("complains of the connection that has the last one, and of none before", () => {
    const complaints: Array<number> = []
    const watch = watchDescriptors((limit) => complaints.push(limit), 100)
    for (const fd of [3, 89, 90, 98]) watch.accepted(socket(fd))
    watch.accepted(socket(undefined))
    assert.deepStrictEqual(complaints, [])
    watch.accepted(socket(99))
    assert.deepStrictEqual(complaints, [100])
    watch.stop()
  })

  it("does without a limit", () => {
    const watch = watchDescriptors(() => assert.fail("there is no limit"), Infinity)
    watch.accepted(socket(1_000_000))
    watch.stop()
  })
})
