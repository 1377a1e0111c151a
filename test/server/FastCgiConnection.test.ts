/**
 * One connection without a listener: served, as a stream of requests, as a channel, and forwarded.
 */
import { assert, describe, it } from "@effect/vitest"
import {
  FastCgiChannel,
  FastCgiConnection,
  type FastCgiDecoder,
  FastCgiEncoder,
  FastCgiListener,
  FastCgiParams,
  FastCgiRecord as R,
  FastCgiResponse,
  FastCgiServer,
  FastCgiTransport
} from "effect-fastcgi"
import { FastCgiClient } from "effect-fastcgi/client"
import { FastCgiTest } from "effect-fastcgi/testing"
import type * as Cause from "effect/Cause"
import * as Channel from "effect/Channel"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import type * as Pull from "effect/Pull"
import * as Queue from "effect/Queue"
import type * as Scope from "effect/Scope"
import * as Sink from "effect/Sink"
import * as Stream from "effect/Stream"
import * as TestClock from "effect/testing/TestClock"
import { overSocket } from "../support/ways.ts"
import { withinMemory } from "../support/within.ts"
import { read as readVector, vectors } from "../vectors/vectors.ts"
import { bytes, getParams, page, settle } from "./support/serving.ts"
import { concat } from "./support/wire.ts"

const text = (content: Uint8Array) => new TextDecoder().decode(content)
const encoder = new TextEncoder()

const within = withinMemory("the play")

const readAll = <E>(stream: Stream.Stream<Uint8Array, E>) => Effect.map(Stream.mkUint8Array(stream), text)

const post = (body: string | Uint8Array): FastCgiClient.FastCgiClientRequest<never> => ({
  params: FastCgiParams.encodePairs([["REQUEST_METHOD", "POST"]]).length > 0
    ? [["REQUEST_METHOD", "POST"], ["CONTENT_LENGTH", String(body.length)]]
    : [],
  stdin: typeof body === "string" ? encoder.encode(body) : body
})

const echo: FastCgiServer.Handlers<never, never, never, never, never, never> = {
  responder: (request) => Effect.succeed(FastCgiResponse.make(Stream.orDie(request.stdin)))
}

describe("FastCgiConnection.serve", () => {
  it.effect("serves one connection, and ends when that has closed", () =>
    Effect.gen(function*() {
      const { client, server } = yield* FastCgiTransport.makePair()
      const served = yield* Effect.forkChild(FastCgiConnection.serve(server, echo))
      yield* Effect.scoped(Effect.gen(function*() {
        const { request } = yield* FastCgiClient.make({ connect: Effect.succeed(client), maxRequests: 8 })
        const replies = yield* Effect.forEach(
          ["one", "two", "three"],
          (body) => Effect.flatMap(request(post(body)), ({ stdout }) => readAll(stdout)),
          { concurrency: "unbounded" }
        )
        assert.deepStrictEqual(replies, ["one", "two", "three"].map((body) => `Status: 200 OK\r\n\r\n${body}`))
      }))
      yield* Fiber.join(served)
    }).pipe(Effect.scoped, within))

  it.effect("drains when it is interrupted: what runs is answered, then the connection closes", () =>
    Effect.gen(function*() {
      const { client, server } = yield* FastCgiTransport.makePair()
      const started = yield* Deferred.make<void>()
      const go = yield* Deferred.make<void>()
      const served = yield* Effect.forkChild(FastCgiConnection.serve(server, {
        responder: () =>
          Effect.andThen(
            Deferred.succeed(started, undefined),
            Effect.as(Deferred.await(go), FastCgiResponse.make("late"))
          )
      }))
      const connection = yield* FastCgiClient.make({ connect: Effect.succeed(client) })
      const response = yield* connection.request({ params: [["REQUEST_METHOD", "GET"]] })
      yield* Deferred.await(started)
      const interrupted = yield* Effect.forkChild(Fiber.interrupt(served))
      yield* Deferred.succeed(go, undefined)
      assert.strictEqual(yield* readAll(response.stdout), page("late"))
      yield* connection.closed
      yield* Fiber.join(interrupted)
    }).pipe(Effect.scoped, within))
})

describe("FastCgiConnection.requests", () => {
  it.effect("gives requests by role, and answers each", () =>
    Effect.gen(function*() {
      const { client, server } = yield* FastCgiTransport.makePair()
      const served = yield* Effect.forkChild(
        FastCgiConnection.requests(server).pipe(
          Stream.mapEffect((request) =>
            request.role === R.Role.Authorizer
              ? request.respond(FastCgiResponse.allow({ USER: "me" }))
              : request.role === R.Role.Filter
              ? Effect.flatMap(
                Effect.orDie(readAll(request.data)),
                (data) => request.respond(FastCgiResponse.make(`filtered ${data}`))
              )
              : Effect.flatMap(
                Effect.orDie(readAll(request.stdin)),
                (body) => request.respond(FastCgiResponse.make(body))
              ), {
            concurrency: "unbounded"
          }),
          Stream.runCount
        )
      )
      yield* Effect.scoped(Effect.gen(function*() {
        const { request } = yield* FastCgiClient.make({ connect: Effect.succeed(client), maxRequests: 8 })
        const responder = yield* request(post("body"))
        const authorizer = yield* request({ role: R.Role.Authorizer, params: [] })
        const filter = yield* request({
          role: R.Role.Filter,
          params: [["FCGI_DATA_LENGTH", "4"]],
          data: encoder.encode("data")
        })
        assert.strictEqual(yield* readAll(responder.stdout), page("body"))
        assert.include(yield* readAll(authorizer.stdout), "Variable-USER: me")
        assert.strictEqual(yield* readAll(filter.stdout), page("filtered data"))
      }))
      assert.strictEqual(yield* Fiber.join(served), 3)
    }).pipe(Effect.scoped, within))

  it.effect("says why a request is given up, and then takes no answer", () =>
    Effect.gen(function*() {
      const { client, server } = yield* FastCgiTransport.makePair()
      const taken = yield* Queue.unbounded<FastCgiConnection.ConnectionRequest>()
      yield* Effect.forkChild(
        Stream.runForEach(FastCgiConnection.requests(server), (request) => Queue.offer(taken, request))
      )
      const { request } = yield* FastCgiClient.make({ connect: Effect.succeed(client), maxRequests: 2 })
      // Another one keeps the connection, so that the client says ABORT_REQUEST and does not close.
      yield* request({ params: [] })
      yield* Queue.take(taken)
      const given = yield* Effect.forkChild(Effect.scoped(Effect.andThen(request({ params: [] }), Effect.never)))
      const second = yield* Queue.take(taken)
      yield* Fiber.interrupt(given)
      assert.strictEqual(yield* second.aborted, "AbortRequest")
      if (second.role === R.Role.Responder) yield* second.respond(FastCgiResponse.make("nobody"))
    }).pipe(Effect.scoped, within))

  it.effect("answers UNKNOWN_ROLE for roles that are not asked for", () =>
    Effect.gen(function*() {
      const { client, server } = yield* FastCgiTransport.makePair()
      yield* Effect.forkChild(Stream.runDrain(FastCgiConnection.requests(server, { roles: [1] })))
      const { request } = yield* FastCgiClient.make({ connect: Effect.succeed(client) })
      const { end } = yield* request({ role: R.Role.Filter, params: [] })
      assert.strictEqual((yield* Effect.flip(end)).reason._tag, "UnknownRole")
    }).pipe(Effect.scoped, within))
})

describe("FastCgiConnection.channel", () => {
  const request = (id: number, keepConnection: boolean) =>
    [
      R.beginRequest(id, R.Role.Responder, { keepConnection }),
      R.params(id, getParams),
      R.params(id),
      R.stdin(id)
    ].map((record) => FastCgiEncoder.encode(record))

  it.effect("is a server from bytes to bytes", () =>
    Effect.gen(function*() {
      const answered = yield* Stream.fromIterable([...request(1, true), ...request(2, false)]).pipe(
        Stream.pipeThroughChannel(
          FastCgiConnection.channel({ responder: Effect.succeed(FastCgiResponse.make("hello")) })
        ),
        Stream.mkUint8Array
      )
      assert.strictEqual(text(answered).split("hello").length - 1, 2)
    }).pipe(within))

  it.effect("carries a client, with bodies both ways, and closes with it", () =>
    Effect.gen(function*() {
      const body = bytes(300_000)
      const { request } = yield* FastCgiClient.make({
        connect: FastCgiTransport.fromChannel(FastCgiConnection.channel(echo)),
        maxRequests: 4
      })
      const replies = yield* Effect.forEach(
        [1, 2, 3, 4],
        () => Effect.flatMap(request(post(body)), ({ stdout }) => Stream.mkUint8Array(stdout)),
        { concurrency: "unbounded" }
      )
      for (const reply of replies) assert.strictEqual(reply.length, body.length + "Status: 200 OK\r\n\r\n".length)
    }).pipe(Effect.scoped, within))

  it.effect("takes what a handler makes come in behind what has come before", () =>
    Effect.gen(function*() {
      const asking = (id: number) => concat(request(id, true))
      const waiting = [concat([asking(1), asking(2)])]
      let wake: ((pulled: Pull.Pull<readonly [Uint8Array]>) => void) | undefined
      const come = (chunk: Uint8Array) => {
        const resume = wake
        wake = undefined
        if (resume === undefined) waiting.push(chunk)
        else resume(Effect.succeed([chunk]))
      }
      const input = Effect.callback<readonly [Uint8Array], Cause.Done>((resume) => {
        const chunk = waiting.shift()
        if (chunk === undefined) wake = resume
        else resume(Effect.succeed([chunk]))
      })
      const order: Array<number> = []
      const channel = FastCgiConnection.channel({
        responder: ({ requestId }) =>
          Effect.sync(() => {
            order.push(requestId)
            if (requestId === 1) come(asking(3))
            return FastCgiResponse.make("hello")
          })
      })
      const output = yield* Channel.toTransform(channel)(input, yield* Effect.scope)
      const answered: Array<Uint8Array> = []
      while (text(concat(answered)).split("hello").length <= 3) answered.push(...yield* output)
      assert.deepStrictEqual(order, [1, 2, 3])
    }).pipe(Effect.scoped, within))

  it.effect("ends when what comes in fails, and interrupts its handlers", () =>
    Effect.gen(function*() {
      const interrupted = yield* Deferred.make<void>()
      const exit = yield* Stream.fromIterable(request(1, true)).pipe(
        Stream.concat(Stream.fail("lost")),
        Stream.pipeThroughChannel(
          FastCgiConnection.channel({
            responder: () => Effect.onInterrupt(Effect.never, () => Deferred.succeed(interrupted, undefined))
          })
        ),
        Stream.runDrain,
        Effect.exit
      )
      assert.isTrue(Exit.isSuccess(exit))
      yield* Deferred.await(interrupted)
    }).pipe(within))
})

describe("FastCgiResponse.raw", () => {
  it.effect("sends both streams as they are, and ends as it says", () =>
    Effect.gen(function*() {
      const { client, server } = yield* FastCgiTransport.makePair()
      yield* Effect.forkChild(FastCgiConnection.serve(server, {
        responder: Effect.succeed(FastCgiResponse.raw({
          stdout: Stream.make(encoder.encode("Content-Type: x/y\r\nX: 1\r\nX: 2\r\n\r\n"), encoder.encode("body")),
          stderr: Stream.make(encoder.encode("a log line")),
          end: Effect.succeed({ appStatus: 7 })
        }))
      }))
      const { request } = yield* FastCgiClient.make({ connect: Effect.succeed(client) })
      const response = yield* request({ params: [] })
      assert.strictEqual(yield* readAll(response.stdout), "Content-Type: x/y\r\nX: 1\r\nX: 2\r\n\r\nbody")
      assert.strictEqual(yield* readAll(response.stderr), "a log line")
      assert.deepStrictEqual(yield* response.end, { appStatus: 7, protocolStatus: 0 })
    }).pipe(Effect.scoped, within))

  it.effect("that ends with a protocol status has no streams to end", () =>
    Effect.gen(function*() {
      const { client, server } = yield* FastCgiTransport.makePair()
      yield* Effect.forkChild(FastCgiConnection.serve(server, {
        responder: Effect.succeed(FastCgiResponse.raw({
          stdout: Stream.empty,
          end: Effect.succeed({ appStatus: 0, protocolStatus: R.ProtocolStatus.Overloaded })
        }))
      }))
      const { request } = yield* FastCgiClient.make({ connect: Effect.succeed(client) })
      const { end } = yield* request({ params: [] })
      assert.strictEqual((yield* Effect.flip(end)).reason._tag, "Overloaded")
    }).pipe(Effect.scoped, within))
})

describe("FastCgiServer.forward", () => {
  const chained = (
    handlers: FastCgiServer.Handlers<unknown, Scope.Scope, unknown, Scope.Scope, unknown, Scope.Scope>
  ) =>
    Effect.gen(function*() {
      const inner = yield* FastCgiTransport.makePair()
      const outer = yield* FastCgiTransport.makePair()
      yield* Effect.forkScoped(FastCgiConnection.serve(inner.server, handlers))
      const upstream = yield* FastCgiClient.make({ connect: Effect.succeed(inner.client), maxRequests: 64 })
      yield* Effect.forkScoped(FastCgiConnection.serve(outer.server, FastCgiServer.forward(upstream)))
      return yield* FastCgiClient.make({ connect: Effect.succeed(outer.client), maxRequests: 64 })
    })

  it.effect("passes on all three roles, both outputs and both statuses", () =>
    Effect.gen(function*() {
      const { request } = yield* chained({
        responder: (request) =>
          Effect.map(readAll(request.stdin), (body) =>
            FastCgiResponse.raw({
              stdout: Stream.make(encoder.encode(`\r\n${request.params.get("A")} ${body}`)),
              stderr: Stream.make(encoder.encode("said")),
              end: Effect.succeed({ appStatus: 3 })
            })),
        authorizer: () => Effect.succeed(FastCgiResponse.allow({ A: "b" })),
        filter: (request) =>
          Effect.map(Effect.all([readAll(request.stdin), readAll(request.data)]), (both) =>
            FastCgiResponse.make(both.join("|")))
      })
      const responder = yield* request({ params: [["A", "a"]], stdin: encoder.encode("body") })
      assert.strictEqual(yield* readAll(responder.stdout), "\r\na body")
      assert.strictEqual(yield* readAll(responder.stderr), "said")
      assert.deepStrictEqual(yield* responder.end, { appStatus: 3, protocolStatus: 0 })
      const authorizer = yield* request({ role: R.Role.Authorizer, params: [] })
      assert.include(yield* readAll(authorizer.stdout), "Variable-A: b")
      const filter = yield* request({
        role: R.Role.Filter,
        params: [],
        stdin: encoder.encode("one"),
        data: encoder.encode("two")
      })
      assert.strictEqual(yield* readAll(filter.stdout), page("one|two"))
    }).pipe(Effect.scoped, within))

  it.effect("passes on a refusal as one", () =>
    Effect.gen(function*() {
      const { request } = yield* chained({})
      const { end, stdout } = yield* request({ params: [] })
      assert.strictEqual((yield* Effect.flip(end)).reason._tag, "UnknownRole")
      assert.strictEqual((yield* Effect.flip(Stream.runDrain(stdout))).reason._tag, "UnknownRole")
    }).pipe(Effect.scoped, within))

  it.effect("aborts there what is aborted here, and holds up there what is not read here", () =>
    Effect.gen(function*() {
      const interrupted = yield* Deferred.make<void>()
      const started = yield* Deferred.make<void>()
      let made = 0
      const { request } = yield* chained({
        responder: (request) =>
          request.params.get("DO") === "wait"
            ? Effect.andThen(
              Deferred.succeed(started, undefined),
              Effect.onInterrupt(Effect.never, () => Deferred.succeed(interrupted, undefined))
            )
            : Effect.succeed(FastCgiResponse.make(Stream.fromEffectRepeat(Effect.sync(() => {
              made += 16_384
              return bytes(16_384)
            }))))
      })
      const streaming = yield* request({ params: [["DO", "stream"]] })
      const waiting = yield* Effect.forkChild(
        Effect.scoped(Effect.andThen(request({ params: [["DO", "wait"]] }), Effect.never))
      )
      yield* Deferred.await(started)
      yield* Fiber.interrupt(waiting)
      yield* Deferred.await(interrupted)
      let before = -1
      while (made > before) {
        before = made
        yield* Effect.repeat(Effect.yieldNow, { times: 50 })
      }
      assert.isAbove(made, 500_000)
      assert.isBelow(made, 6_000_000)
      assert.isAbove((yield* Stream.runCollect(Stream.take(streaming.stdout, 400))).length, 100)
    }).pipe(Effect.scoped, within))
})

describe("FastCgiTransport", () => {
  it.effect("make: over a pull and a write, with backpressure", () =>
    Effect.gen(function*() {
      const input = yield* Queue.unbounded<Uint8Array, Cause.Done>()
      const output = yield* Queue.bounded<Uint8Array>(1)
      const transport = yield* FastCgiTransport.make({
        pull: Effect.map(Queue.take(input), (chunk) => [chunk] as const),
        write: (chunks) => Effect.forEach(chunks, (chunk) => Queue.offer(output, chunk), { discard: true })
      })
      const served = yield* Effect.forkScoped(FastCgiConnection.serve(transport, echo))
      yield* Queue.offerAll(
        input,
        [
          R.beginRequest(1, R.Role.Responder),
          R.params(1, getParams),
          R.params(1),
          R.stdin(1, encoder.encode("hello")),
          R.stdin(1)
        ].map((record) => FastCgiEncoder.encode(record))
      )
      const received: Array<Uint8Array> = []
      while (!text(concat(received)).includes("hello")) received.push(yield* Queue.take(output))
      yield* Effect.forkScoped(Effect.forever(Queue.take(output)))
      yield* Queue.end(input)
      yield* Fiber.join(served)
    }).pipe(Effect.scoped, within))

  const oneRequest = [
    R.beginRequest(1, R.Role.Responder),
    R.params(1, getParams),
    R.params(1),
    R.stdin(1, bytes(60_000)),
    R.stdin(1)
  ].map((record) => FastCgiEncoder.encode(record))

  const hello = { responder: Effect.succeed(FastCgiResponse.make("hello")) }

  it.effect("fromStreams: reads on when it has half-closed", () =>
    Effect.gen(function*() {
      const [begin, params, endOfParams, ...stdin] = oneRequest
      const input = yield* Queue.unbounded<Uint8Array, Cause.Done>()
      const written = yield* Deferred.make<ReadonlyArray<Uint8Array>>()
      const transport = yield* FastCgiTransport.fromStreams({
        input: Stream.fromQueue(input),
        output: Sink.mapEffect(Sink.collect<Uint8Array>(), (chunks) => Deferred.succeed(written, chunks))
      })
      const served = yield* Effect.forkScoped(FastCgiConnection.serve(transport, hello))
      yield* Queue.offerAll(input, [begin!, params!, endOfParams!])
      assert.include(text(concat(yield* Deferred.await(written))), "hello")
      yield* Queue.offerAll(input, [stdin[0]!, stdin[0]!, stdin[0]!])
      while ((yield* Queue.size(input)) > 0) yield* Effect.yieldNow
      assert.isUndefined(served.pollUnsafe())
      yield* Queue.end(input)
      yield* Fiber.join(served)
    }).pipe(Effect.scoped, within))

  it.effect("fromStreams: what its output has accepted is written out when it closes", () =>
    Effect.gen(function*() {
      let out = ""
      yield* Effect.scoped(Effect.gen(function*() {
        const transport = yield* FastCgiTransport.fromStreams({
          input: Stream.fromIterable(oneRequest),
          // As a pipe whose reader is slow: it takes everything at once, and ends when that has been read.
          output: Sink.mapEffect(Sink.collect<Uint8Array>(), (chunks) =>
            Effect.map(Effect.repeat(Effect.yieldNow, { times: 100 }), () => {
              out = text(concat(chunks))
            }))
        })
        yield* FastCgiConnection.serve(transport, hello)
      }))
      assert.strictEqual(out.at(-15), "\x03")
    }).pipe(within))

  it.effect("fromStreams: closes a second later when its output does not end", () =>
    Effect.gen(function*() {
      const ending = yield* Deferred.make<void>()
      const closed = yield* Effect.forkChild(Effect.scoped(Effect.gen(function*() {
        const transport = yield* FastCgiTransport.fromStreams({
          input: Stream.never,
          output: Sink.mapEffect(
            Sink.collect<Uint8Array>(),
            () => Effect.andThen(Deferred.succeed(ending, undefined), Effect.never)
          )
        })
        transport.destroyUnsafe()
      })))
      yield* Deferred.await(ending)
      yield* TestClock.adjust("999 millis")
      assert.isUndefined(closed.pollUnsafe())
      yield* TestClock.adjust("1 millis")
      yield* Fiber.join(closed)
    }).pipe(within))

  it.effect("fromStreams: is lost when nothing takes its output any more, and when a direction fails", () =>
    Effect.gen(function*() {
      const failures = [
        { input: Stream.never, output: Sink.take<Uint8Array>(1) },
        { input: Stream.never, output: Sink.fail("broken") },
        { input: Stream.fail("broken"), output: Sink.drain },
        { input: Stream.die("broken"), output: Sink.drain }
      ]
      for (const streams of failures) {
        const transport = yield* FastCgiTransport.fromStreams(streams)
        const closed = yield* Deferred.make<void>()
        transport.observeUnsafe({
          onDrain() {},
          onClose: () => Deferred.doneUnsafe(closed, Effect.void)
        })
        transport.writeUnsafe([encoder.encode("one")])
        transport.writeUnsafe([encoder.encode("two")])
        yield* Deferred.await(closed)
        assert.strictEqual((yield* Effect.flip(transport.pull))._tag, "FastCgiTransportError")
      }
    }).pipe(Effect.scoped, within))

  it.effect("fromChannel of toChannel is the same transport", () =>
    Effect.gen(function*() {
      const { client, server } = yield* FastCgiTransport.makePair({ capacity: 1000 })
      yield* Effect.forkScoped(
        Effect.flatMap(
          FastCgiTransport.fromChannel(FastCgiTransport.toChannel(server)),
          (transport) => FastCgiConnection.serve(transport, echo)
        )
      )
      const { request } = yield* FastCgiClient.make({
        connect: FastCgiTransport.fromChannel(FastCgiTransport.toChannel(client))
      })
      const body = bytes(100_000)
      const { stdout } = yield* request(post(body))
      const reply = yield* Stream.mkUint8Array(stdout)
      assert.strictEqual(Buffer.compare(reply.subarray(reply.length - body.length), body), 0)
    }).pipe(Effect.scoped, within))

  it.effect("toChannel writes all of a stream that is there at once, through a transport that takes little", () =>
    Effect.gen(function*() {
      const { client, server } = yield* FastCgiTransport.makePair({ capacity: 1000 })
      yield* Stream.fromIterable(Array.from({ length: 100 }, () => bytes(2500))).pipe(
        Stream.rechunk(1),
        Stream.pipeThroughChannel(FastCgiTransport.toChannel<never>(client)),
        Stream.runDrain,
        Effect.forkScoped
      )
      const read = yield* Stream.fromPull(Effect.succeed(server.pull)).pipe(
        Stream.runFold(() => 0, (size, chunk) => size + chunk.length)
      )
      assert.strictEqual(read, 250_000)
    }).pipe(Effect.scoped, within))

  it.effect.each([true, false])(
    "takes the end of an Effect socket for the peer's half-close: with allowHalfOpen %s a request goes on",
    (allowHalfOpen) =>
      Effect.gen(function*() {
        const { client, server } = yield* FastCgiTransport.makePair()
        const go = yield* Deferred.make<void>()
        const interrupted = yield* Deferred.make<void>()
        yield* Effect.forkScoped(Effect.flatMap(overSocket(server), (transport) =>
          FastCgiConnection.serve(transport, {
            responder: () =>
              Deferred.await(go).pipe(
                Effect.onInterrupt(() => Deferred.succeed(interrupted, undefined)),
                Effect.as(FastCgiResponse.make("late"))
              )
          }, { allowHalfOpen })))
        client.writeUnsafe([
          FastCgiEncoder.encode(R.beginRequest(1, R.Role.Responder)),
          FastCgiEncoder.encode(R.params(1, getParams)),
          FastCgiEncoder.encode(R.params(1)),
          FastCgiEncoder.encode(R.stdin(1))
        ])
        // With the last bytes, as nginx says that its client has gone.
        client.endUnsafe()
        if (!allowHalfOpen) return yield* Deferred.await(interrupted)
        yield* settle
        yield* Deferred.succeed(go, undefined)
        assert.include(text(concat(yield* client.pull)), "late")
      }).pipe(Effect.scoped, within)
  )

  it.effect("a recorder gives back every byte of recorded connections, and of their answers", () =>
    Effect.gen(function*() {
      for (const vector of vectors) {
        const { client, server } = yield* FastCgiTransport.makePair()
        const read: Array<Uint8Array> = []
        const written: Array<Uint8Array> = []
        const served = yield* Effect.forkChild(FastCgiConnection.serve(
          FastCgiTransport.tap(server, {
            onRead: (chunks) => read.push(...chunks),
            onWrite: (chunks) => written.push(...chunks)
          }),
          {
            ...echo,
            authorizer: () => Effect.succeed(FastCgiResponse.allow()),
            filter: (request) => Effect.succeed(FastCgiResponse.make(Stream.orDie(request.data)))
          }
        ))
        const sent = readVector(vector.file)
        const received: Array<Uint8Array> = []
        client.writeUnsafe([sent])
        client.endUnsafe()
        yield* Effect.ignore(Effect.forever(Effect.map(client.pull, (chunks) => received.push(...chunks))))
        client.destroyUnsafe()
        yield* Fiber.join(served)
        // A server that has been asked to close reads no further than it must.
        const seen = concat(read)
        assert.isTrue(Buffer.from(sent.subarray(0, seen.length)).equals(seen), vector.file)
        if (vector.requests.every(({ keepConn }) => keepConn)) assert.strictEqual(seen.length, sent.length, vector.file)
        const answered = concat(received)
        assert.isTrue(Buffer.from(concat(written)).subarray(0, answered.length).equals(answered), vector.file)
        // What was recorded falls apart into the same records, and becomes the same bytes again.
        const again = yield* Stream.make(seen).pipe(
          Stream.pipeThroughChannel(FastCgiChannel.decodeRaw<never>()),
          Stream.pipeThroughChannel(FastCgiChannel.encodeRaw<FastCgiDecoder.FastCgiDecodeError, unknown>()),
          Stream.mkUint8Array
        )
        assert.isTrue(Buffer.from(again).equals(seen), vector.file)
      }
    }).pipe(Effect.scoped, within))

  it.effect("tap shows every byte in both directions, and changes none", () =>
    Effect.gen(function*() {
      const { client, server } = yield* FastCgiTransport.makePair()
      const read: Array<Uint8Array> = []
      const written: Array<Uint8Array> = []
      const events: Array<string> = []
      const tapped = FastCgiTransport.tap(server, {
        onRead: (chunks) => read.push(...chunks),
        onWrite: (chunks) => written.push(...chunks),
        onReadEnd: () => events.push("read end"),
        onEnd: () => events.push("end"),
        onClose: () => events.push("close")
      })
      const served = yield* Effect.forkScoped(FastCgiConnection.serve(tapped, echo))
      // Padding and the borders of records are the peer's own.
      const sent = concat([
        FastCgiEncoder.encode(R.beginRequest(1, R.Role.Responder)),
        FastCgiEncoder.encode(R.params(1, getParams), { alignment: 8 }),
        Uint8Array.of(1, 99, 0, 0, 0, 1, 3, 0, 7, 1, 2, 3),
        FastCgiEncoder.encode(R.params(1)),
        FastCgiEncoder.encode(R.stdin(1, encoder.encode("abc"))),
        FastCgiEncoder.encode(R.stdin(1))
      ])
      client.writeUnsafe([sent])
      const received = yield* Channel.toPull(Channel.fromPull(Effect.succeed(client.pull))).pipe(
        Effect.flatMap((pull) => pull)
      )
      client.endUnsafe()
      yield* Fiber.join(served)
      assert.deepStrictEqual(concat(read), sent)
      assert.deepStrictEqual(concat(written).subarray(0, concat(received).length), concat(received))
      assert.deepStrictEqual(events, ["end", "read end"])
      const local: FastCgiTransport.FastCgiTransport = Object.assign(Object.create(server), {
        deliversWhenClosed: true
      })
      assert.isTrue(FastCgiTransport.tap(local, {}).deliversWhenClosed)
    }).pipe(Effect.scoped, within))

  it.effect("tap tells the close of a connection that is refused before anybody has observed it", () =>
    Effect.gen(function*() {
      for (const refuse of ["destroyUnsafe", "resetUnsafe"] as const) {
        const transports = [
          (yield* FastCgiTransport.makePair()).server,
          yield* FastCgiTransport.make({ pull: Effect.never, write: () => Effect.void })
        ]
        for (const transport of transports) {
          const closed = yield* Deferred.make<void>()
          let times = 0
          const tapped = FastCgiTransport.tap(transport, {
            onClose() {
              times++
              Deferred.doneUnsafe(closed, Effect.void)
            }
          })
          tapped[refuse]()
          tapped[refuse]()
          yield* Deferred.await(closed)
          yield* Effect.repeat(Effect.yieldNow, { times: 10 })
          assert.strictEqual(times, 1)
        }
      }
    }).pipe(Effect.scoped, within))
})

describe("FastCgiListener", () => {
  const hello = { responder: Effect.succeed(FastCgiResponse.make("hello")) }

  const getHello = (client: FastCgiClient.FastCgiClient) =>
    Effect.flatMap(client.request({ params: [] }), ({ stdout }) => readAll(stdout))

  it.effect("connections: the chain, written out", () =>
    Effect.gen(function*() {
      const memory = yield* FastCgiTest.FastCgiMemory
      yield* Effect.forkScoped(Stream.runForEach(FastCgiListener.connections, (connection) =>
        Effect.forkScoped(Stream.runForEach(FastCgiConnection.requests(connection), (request) =>
          request.role === R.Role.Authorizer
            ? request.respond(FastCgiResponse.deny())
            : request.respond(FastCgiResponse.make("hello"))))))
      for (let i = 0; i < 3; i++) {
        const client = yield* FastCgiClient.make({ connect: memory.connect })
        assert.strictEqual(yield* getHello(client), page("hello"))
      }
    }).pipe(Effect.scoped, Effect.provide(FastCgiTest.layerMemory), within))

  it.effect("fromStream: whatever connections come from", () =>
    Effect.gen(function*() {
      const transports = yield* Queue.unbounded<FastCgiTransport.FastCgiTransport>()
      yield* Layer.build(
        FastCgiServer.serve(hello).pipe(Layer.provide(FastCgiListener.fromStream(Stream.fromQueue(transports))))
      )
      for (let i = 0; i < 3; i++) {
        const { client, server } = yield* FastCgiTransport.makePair()
        yield* Queue.offer(transports, server)
        assert.strictEqual(
          yield* getHello(yield* FastCgiClient.make({ connect: Effect.succeed(client) })),
          page("hello")
        )
      }
    }).pipe(Effect.scoped, within))

  it.effect("merge: one server on several", () =>
    Effect.gen(function*() {
      const first = yield* Queue.unbounded<FastCgiTransport.FastCgiTransport>()
      const second = yield* Queue.unbounded<FastCgiTransport.FastCgiTransport>()
      yield* Layer.build(
        FastCgiServer.serve(hello).pipe(Layer.provide(FastCgiListener.merge(
          FastCgiListener.fromStream(Stream.fromQueue(first)),
          FastCgiListener.fromStream(Stream.fromQueue(second))
        )))
      )
      for (const queue of [first, second, first]) {
        const { client, server } = yield* FastCgiTransport.makePair()
        yield* Queue.offer(queue, server)
        assert.strictEqual(
          yield* getHello(yield* FastCgiClient.make({ connect: Effect.succeed(client) })),
          page("hello")
        )
      }
    }).pipe(Effect.scoped, within))
})
