/**
 * Sockets read into memory that all of them share. What of it is kept must never be seen to change.
 */
import { assert, describe, it } from "@effect/vitest"
import { FastCgiListener, type FastCgiRequest, FastCgiResponse, FastCgiServer } from "effect-fastcgi"
import { FastCgiClient } from "effect-fastcgi/client"
import { NodeFastCgiConnector, NodeFastCgiListener } from "effect-fastcgi/node"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Stream from "effect/Stream"
import * as Net from "node:net"
import * as Path from "node:path"
import { acceptReadingSockets, ReadingSocket } from "../../src/node/internal/readingSocket.ts"
import { connectClient, nextEvent, temporaryDirectory } from "./sockets.ts"

const contentOf = (index: number, length: number): Uint8Array =>
  Uint8Array.from({ length }, (_, at) => (index * 31 + at * (index + 1)) & 0xff)

const listening = Effect.fnUntraced(function*() {
  const path = Path.join(yield* temporaryDirectory, "s")
  const server = yield* Effect.acquireRelease(
    Effect.sync(() => new Net.Server({ allowHalfOpen: true })),
    (server) => Effect.sync(() => server.close())
  )
  server.listen(path)
  yield* nextEvent(server, "listening")
  return { server, path }
})

describe("a server of node:net", () => {
  it.live("accepts sockets that read into memory which they share", () =>
    Effect.gen(function*() {
      const { path, server } = yield* listening()
      assert.isTrue(acceptReadingSockets(server))
      const reads: Array<Uint8Array> = []
      for (const text of ["first", "other"]) {
        const accepted = nextEvent(server, "connection")
        const client = yield* connectClient({ path })
        const [socket] = yield* accepted
        assert.instanceOf(socket, ReadingSocket)
        const read = Effect.callback<void>((resume) => {
          ;(socket as ReadingSocket).taker = {
            onBytes: (bytes) => {
              reads.push(bytes)
              resume(Effect.void)
            }
          }
        })
        client.socket.write(text)
        yield* read
        assert.strictEqual(Buffer.from(reads.at(-1)!).toString(), text)
      }
      assert.strictEqual(reads[0].buffer, reads[1].buffer)
      assert.strictEqual(Buffer.from(reads[0]).toString(), "other")
    }))

  it.live("goes on with plain sockets where its handle is another one", () =>
    Effect.gen(function*() {
      assert.isFalse(acceptReadingSockets(new Net.Server()))
      const { path, server } = yield* listening()
      const { _handle } = server as unknown as { readonly _handle: { onconnection: (...args: Array<unknown>) => void } }
      const { onconnection } = _handle
      // As if what it accepts did not know how to read into memory that is given to it.
      assert.isTrue(acceptReadingSockets(server))
      const ours = _handle.onconnection
      _handle.onconnection = function(status, handle) {
        Object.defineProperty(handle, "useUserBuffer", { value: undefined })
        ours.call(this, status, handle)
      }
      assert.notStrictEqual(ours, onconnection)
      const accepted = nextEvent(server, "connection")
      const client = yield* connectClient({ path })
      const [socket] = yield* accepted
      assert.notInstanceOf(socket, ReadingSocket)
      const data = nextEvent(socket as Net.Socket, "data")
      client.socket.write("text")
      assert.strictEqual(String((yield* data)[0]), "text")
      ;(socket as Net.Socket).destroy()
    }))
})

describe.each(["unix", "tcp"] as const)("over %s", (kind) => {
  it.live("params and chunks that a handler keeps do not change", () =>
    Effect.gen(function*() {
      const kept: Array<{ readonly request: FastCgiRequest.Responder; readonly chunks: Array<Uint8Array> }> = []
      const path = Path.join(yield* temporaryDirectory, "s")
      const context = yield* Layer.build(
        FastCgiServer.serve({
          responder: (request) =>
            Effect.gen(function*() {
              const chunks: Array<Uint8Array> = []
              kept.push({ request, chunks })
              yield* Stream.runForEach(request.stdin, (chunk) => Effect.sync(() => chunks.push(chunk)))
              return FastCgiResponse.make(Stream.fromArray(chunks))
            })
        }).pipe(
          Layer.provideMerge(
            kind === "unix" ? NodeFastCgiListener.layerUnix({ path }) : NodeFastCgiListener.layerTcp({ port: 0 })
          )
        )
      )
      const { address } = yield* Effect.provide(FastCgiListener.FastCgiListener, context)
      const connect = NodeFastCgiConnector.connect(
        "port" in address ? { port: address.port } : { path }
      )
      const lengths = [0, 1, 100, 4095, 4096, 8192, 65_528, 65_536, 300_000]
      const answers: Array<{ readonly index: number; readonly chunks: ReadonlyArray<Uint8Array> }> = []
      yield* Effect.forEach(Array.from({ length: 45 }, (_, index) => index), (index) =>
        Effect.scoped(Effect.gen(function*() {
          const client = yield* FastCgiClient.make({ connect })
          const length = lengths[index % lengths.length]
          const { stdout } = yield* client.request({
            params: [["INDEX", String(index)], ["CONTENT_LENGTH", String(length)]],
            stdin: contentOf(index, length)
          })
          answers.push({ index, chunks: yield* Stream.runCollect(stdout) })
        })), { concurrency: 15, discard: true })
      assert.lengthOf(kept, 45)
      for (const { chunks, request } of kept) {
        const index = Number(request.params.get("INDEX"))
        const expected = contentOf(index, lengths[index % lengths.length])
        assert.strictEqual(request.params.get("CONTENT_LENGTH"), String(expected.length))
        assert.strictEqual(Buffer.compare(Buffer.concat(chunks), expected), 0, `request ${index}`)
      }
      for (const { chunks, index } of answers) {
        const answer = Buffer.concat(chunks)
        const body = answer.subarray(answer.indexOf("\r\n\r\n") + 4)
        assert.strictEqual(
          Buffer.compare(body, contentOf(index, lengths[index % lengths.length])),
          0,
          `answer ${index}`
        )
      }
    }))
})
