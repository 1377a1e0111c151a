import { assert, describe, it } from "@effect/vitest"
import * as Cause from "effect/Cause"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import * as TestClock from "effect/testing/TestClock"
import * as FastCgiClient from "../../src/client/FastCgiClient.ts"
import type { FastCgiClientError } from "../../src/client/FastCgiClientError.ts"
import * as FastCgiTransport from "../../src/connection/FastCgiTransport.ts"
import * as FastCgiEncoder from "../../src/protocol/FastCgiEncoder.ts"
import * as FastCgiParams from "../../src/protocol/FastCgiParams.ts"
import * as Record from "../../src/protocol/FastCgiRecord.ts"
import * as Application from "./application.ts"
import { answer, bytesOf, concat, params, reasonOf, textOf, textOfStream } from "./application.ts"

describe("FastCgiClient", () => {
  it.effect("sends a request without body in the records of the specification", () =>
    Effect.gen(function*() {
      const app = yield* Application.make()
      const client = yield* FastCgiClient.make(app)
      yield* client.request({ params: [["A", "b"]], keepConnection: true })
      yield* app.untilTag("Stdin")
      assert.deepStrictEqual(
        concat(app.bytes),
        Uint8Array.of(
          ...[1, 1, 0, 1, 0, 8, 0, 0, /**/ 0, 1, 1, 0, 0, 0, 0, 0], // BEGIN_REQUEST, Responder, KEEP_CONN
          ...[1, 4, 0, 1, 0, 4, 4, 0, /**/ 1, 1, 65, 98, /**/ 0, 0, 0, 0], // PARAMS A=b, padded
          ...[1, 4, 0, 1, 0, 0, 0, 0], // the end of PARAMS
          ...[1, 5, 0, 1, 0, 0, 0, 0] // the end of STDIN
        )
      )
    }))

  it.effect("sends a request at once where a connection carries one, and those of one turn together where it carries more", () =>
    Effect.gen(function*() {
      for (const { atOnce, maxRequests } of [{ maxRequests: 1, atOnce: 1 }, { maxRequests: 2, atOnce: 0 }]) {
        const app = yield* Application.make()
        let writes = 0
        const onWrite = () => {
          writes++
        }
        const connect = Effect.map(app.connect, (transport) => FastCgiTransport.tap(transport, { onWrite }))
        const client = yield* FastCgiClient.make({ connect, maxRequests })
        for (let i = 1; i <= maxRequests; i++) yield* client.request({ params, stdin: bytesOf("body") })
        assert.strictEqual(writes, atOnce)
        yield* app.until((record) => record._tag === "Stdin" && record.content.length === 0, maxRequests)
        assert.strictEqual(writes, 1)
      }
    }))

  it.effect("delivers STDOUT, STDERR and the end", () =>
    Effect.gen(function*() {
      const app = yield* Application.make()
      const client = yield* FastCgiClient.make(app)
      const response = yield* client.request({ params })
      yield* app.send(
        Record.stdout(1, bytesOf("hello ")),
        Record.stderr(1, bytesOf("oops")),
        Record.stdout(1, bytesOf("world")),
        Record.stderr(1),
        Record.stdout(1),
        Record.endRequest(1, 938)
      )
      assert.strictEqual(yield* textOfStream(response.stdout), "hello world")
      assert.strictEqual(yield* textOfStream(response.stderr), "oops")
      assert.deepStrictEqual(yield* response.end, { appStatus: 938, protocolStatus: 0 })
      assert.isTrue(client.openUnsafe())
    }))

  it.effect("does without the empty STDOUT record", () =>
    Effect.gen(function*() {
      const app = yield* Application.make()
      const client = yield* FastCgiClient.make(app)
      const response = yield* client.request({ params })
      yield* app.send(Record.stdout(1, bytesOf("a")), Record.endRequest(1))
      assert.strictEqual(yield* textOfStream(response.stdout), "a")
    }))

  it.effect("carries many requests over one kept connection, one after the other, always with id 1", () =>
    Effect.gen(function*() {
      const app = yield* Application.make()
      const client = yield* FastCgiClient.make(app)
      for (let i = 1; i <= 20; i++) {
        yield* Effect.gen(function*() {
          const response = yield* client.request({ params: [["N", String(i)]], stdin: bytesOf(`body ${i}`) })
          yield* app.until((record) => record._tag === "Stdin" && record.content.length === 0, i)
          yield* app.send(...answer(1, `answer ${i}`))
          assert.strictEqual(yield* textOfStream(response.stdout), `answer ${i}`)
        }).pipe(Effect.scoped)
      }
      assert.strictEqual(app.received.filter((record) => record._tag === "BeginRequest").length, 20)
    }))

  it.effect("sends a second request only when the first has ended", () =>
    Effect.gen(function*() {
      const app = yield* Application.make()
      const client = yield* FastCgiClient.make(app)
      yield* client.request({ params })
      const second = yield* Effect.forkScoped(client.request({ params }))
      yield* app.untilTag("Stdin")
      yield* Effect.yieldNow
      assert.strictEqual(app.received.filter((record) => record._tag === "BeginRequest").length, 1)
      assert.isUndefined(second.pollUnsafe())
      yield* app.send(...answer(1, "x"))
      yield* Fiber.join(second)
      yield* app.untilTag("Stdin", 2)
      assert.strictEqual(app.received.filter((record) => record._tag === "BeginRequest").length, 2)
    }))

  it.effect("interleaves 64 requests, each with its own body and answer", () =>
    Effect.gen(function*() {
      const app = yield* Application.make()
      const client = yield* FastCgiClient.make({ ...app, maxRequests: 64 })
      const gate = Deferred.makeUnsafe<void>()
      const bodies = Array.from({ length: 64 }, (_, i) => `first ${i}, `)
      const fibers = yield* Effect.forEach(bodies, (body, i) =>
        Effect.forkScoped(Effect.gen(function*() {
          const stdin = Stream.concat(
            Stream.make(bytesOf(body)),
            Stream.fromEffect(Effect.as(Deferred.await(gate), bytesOf(`second ${i}`)))
          )
          const response = yield* client.request({ params: [["N", String(i)]], stdin })
          return { id: response.requestId, text: yield* textOfStream(response.stdout) }
        })))
      yield* app.until((record) => record._tag === "Stdin", 64)
      assert.strictEqual(client.activeUnsafe(), 64)
      yield* Deferred.done(gate, Exit.void)
      yield* app.until((record) => record._tag === "Stdin" && record.content.length === 0, 64)
      const ids = Array.from({ length: 64 }, (_, i) => i + 1)
      // Answered in halves, the second halves in reverse order.
      yield* app.send(...ids.map((id) => Record.stdout(id, bytesOf(`${id}:`))))
      yield* app.send(...ids.reverse().flatMap((id) => answer(id, textOf(app.stdin(id)))))
      const answers = yield* Effect.forEach(fibers, Fiber.join)
      answers.forEach(({ id, text }, i) => {
        assert.strictEqual(app.params(id).get("N"), String(i))
        assert.strictEqual(text, `${id}:first ${i}, second ${i}`)
      })
      assert.strictEqual(client.activeUnsafe(), 0)
    }))

  it.effect("gives the smallest free id, and none before its END_REQUEST", () =>
    Effect.gen(function*() {
      const app = yield* Application.make()
      const client = yield* FastCgiClient.make({ ...app, maxRequests: 10 })
      const scope = yield* Scope.make()
      const begin = Effect.map(client.request({ params }), (response) => response.requestId)
      assert.strictEqual(yield* begin, 1)
      assert.strictEqual(yield* Scope.provide(begin, scope), 2)
      assert.strictEqual(yield* begin, 3)
      yield* Scope.close(scope, Exit.void)
      yield* app.untilTag("AbortRequest")
      assert.strictEqual(yield* begin, 4)
      yield* app.send(Record.endRequest(2), Record.endRequest(1))
      yield* app.send(Record.getValuesResult(new Uint8Array(0)))
      yield* client.getValues([]).pipe(Effect.forkScoped)
      yield* app.untilTag("GetValues")
      yield* app.send(Record.getValuesResult(new Uint8Array(0)))
      assert.strictEqual(yield* begin, 1)
      assert.strictEqual(yield* begin, 2)
      assert.strictEqual(yield* begin, 5)
    }))

  it.effect("sends the body while the answer is read, and the answer arrives while the body is sent", () =>
    Effect.gen(function*() {
      const app = yield* Application.make()
      const client = yield* FastCgiClient.make(app)
      const turns = 10
      // Each part of the body is sent only when the answer to the part before it has been read.
      let turn = Deferred.makeUnsafe<void>()
      const stdin = Stream.concat(
        Stream.make(bytesOf("0")),
        Stream.fromIterable(Array.from({ length: turns - 1 }, (_, i) => i + 1)).pipe(
          Stream.mapEffect((i) => Effect.as(Effect.suspend(() => Deferred.await(turn)), bytesOf(String(i))))
        )
      )
      const response = yield* client.request({ params, stdin })
      const pull = yield* Stream.toPull(response.stdout)
      for (let i = 0; i < turns; i++) {
        yield* app.until((record) => record._tag === "Stdin" && record.content.length > 0, i + 1)
        yield* app.send(Record.stdout(1, bytesOf(`got ${i}`)))
        assert.strictEqual(textOf(concat(yield* pull)), `got ${i}`)
        const done = turn
        turn = Deferred.makeUnsafe<void>()
        yield* Deferred.done(done, Exit.void)
      }
      yield* app.until((record) => record._tag === "Stdin" && record.content.length === 0)
      assert.strictEqual(textOf(app.stdin(1)), "0123456789")
    }))

  it.effect("splits a large body into records of at most 65535 bytes", () =>
    Effect.gen(function*() {
      const app = yield* Application.make()
      const client = yield* FastCgiClient.make(app)
      const body = Uint8Array.from({ length: 300_001 }, (_, i) => i % 251)
      yield* client.request({ params, stdin: body })
      yield* app.until((record) => record._tag === "Stdin" && record.content.length === 0)
      assert.deepStrictEqual(app.stdin(1), body)
    }))

  it.effect("sends STDIN and then DATA to a Filter, and no STDIN to an Authorizer", () =>
    Effect.gen(function*() {
      const app = yield* Application.make()
      const client = yield* FastCgiClient.make(app)
      yield* client.request({
        role: Record.Role.Filter,
        params,
        stdin: bytesOf("in"),
        data: Stream.make(bytesOf("the "), bytesOf("file"))
      })
      yield* app.until((record) => record._tag === "Data" && record.content.length === 0)
      assert.deepStrictEqual(
        app.received.filter((record) => record._tag === "Stdin" || record._tag === "Data").map((record) =>
          `${record._tag} ${textOf((record as Record.Stdin).content)}`
        ),
        ["Stdin in", "Stdin ", "Data the file", "Data "]
      )
      yield* app.send(Record.endRequest(1))
      yield* client.request({ role: Record.Role.Authorizer, params, stdin: bytesOf("never sent") })
      yield* app.untilTag("BeginRequest", 2)
      yield* app.until((record) => record._tag === "Params" && record.content.length === 0, 2)
      const at = app.received.findLastIndex((record) => record._tag === "BeginRequest")
      assert.deepStrictEqual(app.received.slice(at).map((record) => record._tag), ["BeginRequest", "Params", "Params"])
    }))

  it.effect("announces the data of a Filter by the params that it is given", () =>
    Effect.gen(function*() {
      const app = yield* Application.make()
      const client = yield* FastCgiClient.make(app)
      yield* client.request({
        role: Record.Role.Filter,
        params: [["CONTENT_LENGTH", "2"], ["FCGI_DATA_LENGTH", "8"], ["FCGI_DATA_LAST_MOD", "1000000000"]],
        stdin: bytesOf("in"),
        data: bytesOf("the file")
      })
      yield* app.until((record) => record._tag === "Data" && record.content.length === 0)
      assert.deepStrictEqual([...app.params(1)], [
        ["CONTENT_LENGTH", "2"],
        ["FCGI_DATA_LENGTH", "8"],
        ["FCGI_DATA_LAST_MOD", "1000000000"]
      ])
    }))

  it.effect("cuts PARAMS between pairs, and only a pair that fits no record inside", () =>
    Effect.gen(function*() {
      const app = yield* Application.make({ capacity: 1024 * 1024 })
      const client = yield* FastCgiClient.make(app)
      const entries: Array<readonly [string, string]> = []
      for (let i = 0; i < 100; i++) entries.push([`NAME_${i}`, "v".repeat(i * 40)])
      entries.push(["HUGE", "h".repeat(150_000)], ["LAST", "l"])
      yield* client.request({ params: entries })
      yield* app.untilTag("Stdin")
      assert.deepStrictEqual(Array.from(app.params(1)), entries)
      // Each record that does not belong to HUGE decodes by itself.
      const contents = recordContents(concat(app.bytes), Record.RecordType.Params)
      assert.isAbove(contents.length, 4)
      const alone = contents.filter((content) => "bytes" in FastCgiParams.fromBytes(content))
      const names = alone.flatMap((content) =>
        Array.from(FastCgiParams.fromBytes(content) as FastCgiParams.FastCgiParams, ([name]) => name)
      )
      for (let i = 0; i < 100; i++) assert.include(names, `NAME_${i}`)
      assert.strictEqual(contents.length - alone.length, 3)
      for (const content of contents) assert.isAtMost(content.length, 65535)
    }))

  it.effect("ignores records of unknown ids and types, and those that only a web server sends", () =>
    Effect.gen(function*() {
      const app = yield* Application.make()
      const client = yield* FastCgiClient.make(app)
      const response = yield* client.request({ params })
      yield* app.send(
        Record.stdout(2, bytesOf("wrong")),
        Record.endRequest(7),
        Record.unrecognized(99),
        Record.unrecognized(99, 1),
        Record.beginRequest(1, 1),
        Record.abortRequest(1),
        Record.stdin(1, bytesOf("wrong")),
        Record.getValuesResult(new Uint8Array(0)),
        Record.unknownType(9),
        ...answer(1, "right")
      )
      assert.strictEqual(yield* textOfStream(response.stdout), "right")
      assert.isTrue(client.openUnsafe())
    }))

  for (
    const [status, reason] of [
      [Record.ProtocolStatus.CantMpxConn, "CantMultiplex"],
      [Record.ProtocolStatus.Overloaded, "Overloaded"],
      [Record.ProtocolStatus.UnknownRole, "UnknownRole"],
      [200, "ProtocolError"]
    ] as const
  ) {
    it.effect(`fails with ${reason} when END_REQUEST says so (protocolStatus ${status})`, () =>
      Effect.gen(function*() {
        const app = yield* Application.make()
        const client = yield* FastCgiClient.make(app)
        const response = yield* client.request({ params })
        yield* app.send(Record.endRequest(1, 0, status))
        assert.strictEqual(reasonOf(yield* Effect.exit(response.end)), reason)
        assert.strictEqual(reasonOf(yield* Effect.exit(Stream.runDrain(response.stdout))), reason)
        assert.isTrue(client.openUnsafe())
      }))
  }

  it.effect("reports a protocolStatus that comes after output in `end` only", () =>
    Effect.gen(function*() {
      const app = yield* Application.make()
      const client = yield* FastCgiClient.make(app)
      const response = yield* client.request({ params })
      yield* app.send(Record.stdout(1, bytesOf("out")), Record.endRequest(1, 3, Record.ProtocolStatus.Overloaded))
      assert.strictEqual(yield* textOfStream(response.stdout), "out")
      assert.deepStrictEqual(yield* response.end, { appStatus: 3, protocolStatus: 2 })
    }))

  it.effect("fails with ProtocolError when the peer does not speak FastCGI", () =>
    Effect.gen(function*() {
      const app = yield* Application.make()
      const client = yield* FastCgiClient.make(app)
      const response = yield* client.request({ params })
      yield* app.sendBytes(bytesOf("HTTP/1.1 400 Bad Request\r\n\r\n"))
      const exit = yield* Effect.exit(response.end)
      assert.strictEqual(reasonOf(exit), "ProtocolError")
      yield* app.untilEnd
      assert.isFalse(client.openUnsafe())
    }))

  it.effect("fails with ConnectFailed when there is no connection", () =>
    Effect.gen(function*() {
      const exit = yield* Effect.exit(
        FastCgiClient.make({ connect: Effect.fail({ _tag: "Nope", message: "no socket" }) })
      )
      assert.strictEqual(reasonOf(exit), "ConnectFailed")
      assert.include(String(Exit.isFailure(exit) && Cause.squash(exit.cause)), "no socket")
    }))

  describe("a lost connection", () => {
    const reply = concat([
      FastCgiEncoder.encode(Record.stdout(1, bytesOf("Status: 200 OK\r\n\r\nhello"))),
      FastCgiEncoder.encode(Record.stderr(1, bytesOf("log"))),
      FastCgiEncoder.encode(Record.stdout(1)),
      FastCgiEncoder.encode(Record.endRequest(1))
    ])
    const contentAt = Record.headerLength

    for (const how of ["close", "reset"] as const) {
      it.effect(`${how} at every byte of an answer is a typed error, and leaves nothing open`, () =>
        Effect.gen(function*() {
          for (let cut = 0; cut < reply.length; cut++) {
            yield* Effect.gen(function*() {
              const app = yield* Application.make()
              const client = yield* FastCgiClient.make(app)
              const response = yield* client.request({ params, stdin: Stream.never })
              const values = yield* Effect.forkScoped(client.getValues(["FCGI_MAX_CONNS"]), { startImmediately: true })
              const end = yield* Effect.forkScoped(Effect.exit(response.end), { startImmediately: true })
              yield* app.untilTag("GetValues")
              if (cut > 0) yield* app.sendBytes(reply.subarray(0, cut))
              if (cut > contentAt && how === "reset") yield* Stream.runDrain(Stream.take(response.stdout, 1))
              yield* app[how]
              const reason = reasonOf(yield* Fiber.join(end))
              assert.strictEqual(
                reason,
                how === "reset" || cut <= contentAt ? "ConnectionLost" : "Truncated",
                `cut at ${cut}`
              )
              assert.isTrue(Exit.isFailure(yield* Fiber.await(values)))
              yield* client.closed
              assert.isFalse(client.openUnsafe())
              assert.strictEqual(client.activeUnsafe(), 0)
              assert.isTrue(app.client.closedUnsafe())
              assert.strictEqual(reasonOf(yield* Effect.exit(client.request({ params }))), "Closed")
            }).pipe(Effect.scoped)
          }
        }))
    }

    it.effect("delivers what had arrived before the failure", () =>
      Effect.gen(function*() {
        const app = yield* Application.make()
        const client = yield* FastCgiClient.make(app)
        const response = yield* client.request({ params })
        yield* app.send(Record.stdout(1, bytesOf("part")))
        yield* app.close
        const pull = yield* Stream.toPull(response.stdout)
        assert.strictEqual(textOf(concat(yield* pull)), "part")
        assert.strictEqual(
          reasonOf(yield* Effect.exit(pull as Effect.Effect<unknown, FastCgiClientError>)),
          "Truncated"
        )
      }))

    it.effect("is the end of an answer with endAtClose", () =>
      Effect.gen(function*() {
        const app = yield* Application.make()
        const client = yield* FastCgiClient.make(app)
        const response = yield* client.request({ params, endAtClose: true })
        yield* app.send(Record.stdout(1, bytesOf("all")))
        yield* app.close
        assert.strictEqual(yield* textOfStream(response.stdout), "all")
        assert.deepStrictEqual(yield* response.end, { appStatus: 0, protocolStatus: 0 })
      }))

    it.effect("is no end of an answer with endAtClose when nothing, or half a record, had come", () =>
      Effect.gen(function*() {
        for (const bytes of [new Uint8Array(0), reply.subarray(0, 12)]) {
          const app = yield* Application.make()
          const client = yield* FastCgiClient.make(app)
          const response = yield* client.request({ params, endAtClose: true })
          if (bytes.length > 0) yield* app.sendBytes(bytes)
          yield* app.close
          assert.strictEqual(
            reasonOf(yield* Effect.exit(response.end)),
            bytes.length === 0 ? "ConnectionLost" : "Truncated"
          )
        }
      }))

    it.effect("fails all requests of the connection, and those that wait for it", () =>
      Effect.gen(function*() {
        const app = yield* Application.make()
        const client = yield* FastCgiClient.make({ ...app, maxRequests: 2 })
        const first = yield* client.request({ params })
        const second = yield* client.request({ params })
        const third = yield* Effect.forkScoped(Effect.exit(client.request({ params })), { startImmediately: true })
        yield* app.send(Record.stdout(2, bytesOf("x")))
        yield* app.close
        assert.strictEqual(reasonOf(yield* Effect.exit(first.end)), "ConnectionLost")
        assert.strictEqual(reasonOf(yield* Effect.exit(second.end)), "Truncated")
        assert.strictEqual(reasonOf(yield* Fiber.join(third)), "Closed")
      }))
  })

  describe("without KEEP_CONN", () => {
    it.effect("closes the connection when the request has ended", () =>
      Effect.gen(function*() {
        const app = yield* Application.make()
        const client = yield* FastCgiClient.make({ ...app, keepConnection: false })
        const response = yield* client.request({ params })
        const begin = yield* app.untilTag("BeginRequest")
        assert.isFalse(Record.keepConnection(begin as Record.BeginRequest))
        assert.isFalse(client.openUnsafe())
        yield* app.send(...answer(1, "a"))
        assert.strictEqual(yield* textOfStream(response.stdout), "a")
        yield* app.untilEnd
        assert.strictEqual(reasonOf(yield* Effect.exit(client.request({ params }))), "Closed")
      }))
  })

  describe("a request whose scope is closed", () => {
    it.effect("closes the connection when it is alone on it, and stops the body", () =>
      Effect.gen(function*() {
        const app = yield* Application.make()
        const client = yield* FastCgiClient.make(app)
        const stopped = Deferred.makeUnsafe<void>()
        const scope = yield* Scope.make()
        const response = yield* Scope.provide(
          client.request({ params, stdin: Stream.never.pipe(Stream.ensuring(Deferred.done(stopped, Exit.void))) }),
          scope
        )
        yield* app.untilTag("BeginRequest")
        yield* Scope.close(scope, Exit.void)
        yield* Deferred.await(stopped)
        yield* app.untilEnd
        assert.strictEqual(reasonOf(yield* Effect.exit(response.end)), "Aborted")
        assert.isFalse(app.received.some((record) => record._tag === "AbortRequest"))
      }))

    it.effect("sends ABORT_REQUEST while others are active, and leaves those alone", () =>
      Effect.gen(function*() {
        const app = yield* Application.make()
        const client = yield* FastCgiClient.make({ ...app, maxRequests: 4 })
        const other = yield* client.request({ params })
        const scope = yield* Scope.make()
        const given = yield* Scope.provide(client.request({ params, stdin: Stream.never }), scope)
        yield* app.untilTag("BeginRequest", 2)
        yield* app.send(Record.stdout(2, bytesOf("half")))
        yield* Scope.close(scope, Exit.void)
        const abort = yield* app.untilTag("AbortRequest")
        assert.strictEqual(abort.requestId, 2)
        assert.strictEqual(reasonOf(yield* Effect.exit(given.end)), "Aborted")
        yield* app.send(Record.stdout(2, bytesOf("late")), Record.endRequest(2, 1), ...answer(1, "fine"))
        assert.strictEqual(yield* textOfStream(other.stdout), "fine")
        assert.isTrue(client.openUnsafe())
      }))

    it.effect("closes the connection when its own end has not come a second after that of the last of the others", () =>
      Effect.gen(function*() {
        const app = yield* Application.make()
        const client = yield* FastCgiClient.make({ ...app, maxRequests: 4 })
        const other = yield* client.request({ params })
        yield* Effect.scoped(client.request({ params }))
        yield* app.untilTag("AbortRequest")
        // An application that ignores ABORT_REQUEST would keep the id for ever.
        yield* app.send(...answer(1, "fine"))
        assert.strictEqual(yield* textOfStream(other.stdout), "fine")
        yield* other.end
        yield* TestClock.adjust("999 millis")
        assert.isTrue(client.openUnsafe())
        yield* TestClock.adjust("1 millis")
        yield* app.untilEnd
        assert.isFalse(client.openUnsafe())
      }))

    it.effect("leaves the connection open when its own end comes in that second", () =>
      Effect.gen(function*() {
        const app = yield* Application.make()
        const client = yield* FastCgiClient.make({ ...app, maxRequests: 4 })
        const other = yield* client.request({ params })
        yield* Effect.scoped(client.request({ params }))
        yield* app.untilTag("AbortRequest")
        yield* app.send(...answer(1, "fine"))
        yield* other.end
        yield* TestClock.adjust("999 millis")
        yield* app.send(Record.endRequest(2, 1))
        // The next one is on it, and has a second of its own.
        const next = yield* client.request({ params })
        yield* Effect.scoped(client.request({ params }))
        yield* app.untilTag("AbortRequest", 2)
        yield* app.send(...answer(1, "next"))
        yield* next.end
        yield* TestClock.adjust("999 millis")
        assert.isTrue(client.openUnsafe())
        assert.isFalse(app.client.closedUnsafe())
      }))

    it.effect("does nothing after the end of the request", () =>
      Effect.gen(function*() {
        const app = yield* Application.make()
        const client = yield* FastCgiClient.make(app)
        yield* Effect.scoped(Effect.gen(function*() {
          const response = yield* client.request({ params })
          yield* app.send(...answer(1, "unread"))
          yield* response.end
        }))
        assert.isTrue(client.openUnsafe())
        assert.isFalse(app.client.closedUnsafe())
      }))

    it.effect("leaves the queue when it was still waiting", () =>
      Effect.gen(function*() {
        const app = yield* Application.make()
        const client = yield* FastCgiClient.make(app)
        const first = yield* client.request({ params })
        const waiting = yield* Effect.forkScoped(client.request({ params: [["N", "2"]] }), { startImmediately: true })
        const third = yield* Effect.forkScoped(client.request({ params: [["N", "3"]] }), { startImmediately: true })
        yield* Fiber.interrupt(waiting)
        yield* app.send(...answer(1, "a"))
        yield* first.end
        yield* Fiber.join(third)
        yield* app.untilTag("Stdin", 2)
        assert.strictEqual(app.received.filter((record) => record._tag === "BeginRequest").length, 2)
      }))
  })

  it.effect("aborts a request whose body fails, with the body's error as the cause", () =>
    Effect.gen(function*() {
      const app = yield* Application.make()
      const client = yield* FastCgiClient.make(app)
      const response = yield* client.request({
        params,
        stdin: Stream.concat(Stream.make(bytesOf("half")), Stream.fail(new Error("disk on fire")))
      })
      const exit = yield* Effect.exit(response.end)
      assert.strictEqual(reasonOf(exit), "BodyFailed")
      assert.include(String(Exit.isFailure(exit) && Cause.squash(exit.cause)), "disk on fire")
      yield* app.untilEnd
      // The half of a body must not look like a whole one.
      assert.isFalse(app.received.some((record) => record._tag === "Stdin" && record.content.length === 0))
    }))

  it.effect("stops the body when the answer ends before it, and does not reuse the connection", () =>
    Effect.gen(function*() {
      const app = yield* Application.make()
      const client = yield* FastCgiClient.make(app)
      const stopped = Deferred.makeUnsafe<void>()
      const response = yield* client.request({
        params,
        stdin: Stream.never.pipe(Stream.ensuring(Deferred.done(stopped, Exit.void)))
      })
      yield* app.untilTag("BeginRequest")
      yield* app.send(...answer(1, "413"))
      assert.strictEqual(yield* textOfStream(response.stdout), "413")
      yield* Deferred.await(stopped)
      yield* app.untilEnd
      assert.isFalse(client.openUnsafe())
    }))

  it.effect("closing the client's scope fails what is active and closes the connection", () =>
    Effect.gen(function*() {
      const app = yield* Application.make()
      const scope = yield* Scope.make()
      const client = yield* Scope.provide(FastCgiClient.make(app), scope)
      const response = yield* client.request({ params })
      yield* Scope.close(scope, Exit.void)
      assert.strictEqual(reasonOf(yield* Effect.exit(response.end)), "Closed")
      yield* app.untilEnd
    }))
})

// The contents of all records of a type, as they were cut on the wire.
const recordContents = (bytes: Uint8Array, type: number): Array<Uint8Array> => {
  const contents: Array<Uint8Array> = []
  for (let at = 0; at < bytes.length;) {
    const length = bytes[at + 4] << 8 | bytes[at + 5]
    if (bytes[at + 1] === type && length > 0) contents.push(bytes.subarray(at + 8, at + 8 + length))
    at += 8 + length + bytes[at + 6]
  }
  return contents
}
