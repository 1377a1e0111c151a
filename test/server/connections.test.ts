/**
 * Requests that share a connection, and when the connection closes.
 */
import { assert, describe, it } from "@effect/vitest"
import {
  FastCgiAdmission,
  FastCgiEncoder,
  FastCgiListener,
  FastCgiParams,
  FastCgiRecord as R,
  FastCgiResponse,
  FastCgiServer
} from "effect-fastcgi"
import { FastCgiTest } from "effect-fastcgi/testing"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as NetAddress from "effect/net/NetAddress"
import * as Pull from "effect/Pull"
import * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import * as TestClock from "effect/testing/TestClock"
import { withinMemory } from "../support/within.ts"
import { held } from "./support/memory.ts"
import {
  bodyOf,
  bytes,
  connect,
  exchange,
  observe,
  opening,
  page,
  play,
  question,
  received,
  serve,
  settle,
  tags,
  takeLogs
} from "./support/serving.ts"
import { concat } from "./support/wire.ts"

const text = (content: string) => new TextEncoder().encode(content)

const echo = serve({
  responder: (request) => Effect.map(Stream.mkUint8Array(request.stdin), (body) => FastCgiResponse.make(body))
})

describe("requests on one connection", () => {
  play(
    "are answered at once beside one that waits for ever",
    serve({
      responder: (request) => request.requestId === 1 ? Effect.never : Effect.succeed(FastCgiResponse.make("second"))
    }),
    () =>
      Effect.gen(function*() {
        const peer = yield* connect
        const [begin1, params1, end1] = opening(1)
        const [begin2, params2, end2] = opening(2)
        yield* peer.send(begin1, begin2, params2, params1, end1, end2, R.stdin(2), R.stdin(1))
        assert.deepStrictEqual(yield* peer.reply(2), {
          stdout: page("second"),
          stderr: "",
          appStatus: 0,
          protocolStatus: 0
        })
        assert.deepStrictEqual(yield* exchange(peer), [])
      })
  )

  play("64 of them, interleaved fragment by fragment, each get their own body", echo, () =>
    Effect.gen(function*() {
      const peer = yield* connect
      yield* peer.setCapacity(1 << 30)
      const ids = Array.from({ length: 64 }, (_, i) => i * 1021 + 1)
      const bodies = ids.map((id) => bytes(500 + (id % 700), id))
      for (const part of [0, 1, 2]) yield* peer.send(...ids.map((id) => opening(id)[part]))
      for (let at = 0; at < 1200; at += 100) {
        yield* peer.send(...ids.flatMap((id, i) => {
          const fragment = bodies[i].subarray(at, at + 100)
          return fragment.length === 0 ? [] : [R.stdin(id, fragment)]
        }))
      }
      yield* peer.send(...ids.toReversed().map((id) => R.stdin(id)))
      const ended = new Map<number, Array<Uint8Array>>()
      const open = new Map<number, Array<Uint8Array>>()
      while (ended.size < ids.length) {
        const record = yield* received(peer)
        if (record._tag === "Stdout") open.set(record.requestId, [...open.get(record.requestId) ?? [], record.content])
        else if (record._tag === "EndRequest") {
          assert.isFalse(ended.has(record.requestId))
          ended.set(record.requestId, open.get(record.requestId)!)
        }
      }
      for (const [i, id] of ids.entries()) {
        const stdout = Buffer.concat(ended.get(id)!)
        assert.deepStrictEqual(new Uint8Array(stdout.subarray(stdout.indexOf("\r\n\r\n") + 4)), bodies[i])
      }
      assert.deepStrictEqual(yield* exchange(peer), [])
    }))

  play(
    "are left alone by an abort of one of them",
    serve({
      responder: (request) =>
        Effect.map(Stream.mkUint8Array(request.stdin), (body) => FastCgiResponse.make(body)).pipe(
          Effect.onInterrupt(() => request.stderr("interrupted"))
        )
    }),
    () =>
      Effect.gen(function*() {
        const peer = yield* connect
        for (const id of [1, 2, 3]) yield* peer.send(...opening(id), R.stdin(id, text(`body ${id}`)))
        yield* peer.send(R.abortRequest(2))
        const aborted = yield* peer.reply(2)
        // Nobody listens to an aborted request any more.
        assert.deepStrictEqual(aborted, { stdout: "", stderr: "", appStatus: 1, protocolStatus: 0 })
        yield* peer.send(R.stdin(2, text("late")), R.stdin(2), R.stdin(1), R.stdin(3))
        assert.strictEqual(bodyOf((yield* peer.reply(1)).stdout), "body 1")
        assert.strictEqual(bodyOf((yield* peer.reply(3)).stdout), "body 3")
      })
  )

  play(
    "may be refused with CANT_MPX_CONN while another is active, when multiplexing is switched off",
    serve(
      { responder: (request) => request.stdin.pipe(Stream.runDrain, Effect.as(FastCgiResponse.make("ok"))) },
      { multiplexing: false }
    ),
    () =>
      Effect.gen(function*() {
        const peer = yield* connect
        yield* peer.send(...opening(1))
        assert.deepStrictEqual(yield* exchange(peer, ...opening(2), R.stdin(2)), [
          R.endRequest(2, 0, R.ProtocolStatus.CantMpxConn)
        ])
        yield* peer.send(R.stdin(1))
        assert.strictEqual((yield* peer.reply(1)).stdout, page("ok"))
        yield* peer.send(...opening(2), R.stdin(2))
        assert.strictEqual((yield* peer.reply(2)).stdout, page("ok"))
        yield* peer.send(R.getValues(FastCgiParams.encodePairs([["FCGI_MPXS_CONNS", ""]])))
        const values = yield* received(peer)
        assert.ok(values._tag === "GetValuesResult")
        assert.deepStrictEqual([...FastCgiParams.fromBytes(values.content) as FastCgiParams.FastCgiParams], [
          ["FCGI_MPXS_CONNS", "0"]
        ])
      })
  )

  play("may come in one write", echo, () =>
    Effect.gen(function*() {
      const peer = yield* connect
      yield* peer.send(
        ...opening(1),
        R.stdin(1, text("one")),
        R.stdin(1),
        ...opening(2),
        R.stdin(2, text("two")),
        R.stdin(2)
      )
      assert.strictEqual(bodyOf((yield* peer.reply(1)).stdout), "one")
      assert.strictEqual(bodyOf((yield* peer.reply(2)).stdout), "two")
    }))

  play(
    "may use an id again in the same write, when the first one is answered without its input",
    serve({ responder: () => Effect.succeed(FastCgiResponse.make("hello")) }),
    () =>
      Effect.gen(function*() {
        const peer = yield* connect
        yield* peer.send(...opening(1), R.stdin(1, text("one")), R.stdin(1), ...opening(1), R.stdin(1))
        assert.strictEqual(bodyOf((yield* peer.reply(1)).stdout), "hello")
        assert.strictEqual(bodyOf((yield* peer.reply(1)).stdout), "hello")
      })
  )
})

describe("requests that end without the end of STDIN", () => {
  play(
    "may use an id again in the same write",
    serve({ authorizer: () => Effect.succeed(FastCgiResponse.allow()) }),
    () =>
      Effect.gen(function*() {
        const peer = yield* connect
        const { Authorizer } = R.Role
        yield* peer.send(...opening(1, { role: Authorizer }), ...opening(1, { role: Authorizer }))
        for (let i = 0; i < 2; i++) assert.match((yield* peer.reply(1)).stdout, /^Status: 200 /)
        assert.deepStrictEqual(yield* exchange(peer), [])
      })
  )
})

describe("GET_VALUES", () => {
  const asked = FastCgiParams.encodePairs([["FCGI_MAX_CONNS", ""], ["FCGI_MAX_REQS", ""], ["FCGI_MPXS_CONNS", ""]])

  for (
    const [name, admission, expected] of [
      ["the limits that are enforced", { maxConnections: 3, maxRequests: 7 }, [
        ["FCGI_MAX_CONNS", "3"],
        ["FCGI_MAX_REQS", "7"],
        ["FCGI_MPXS_CONNS", "1"]
      ]],
      ["no number for what has no limit", { maxRequests: "unbounded" }, [["FCGI_MPXS_CONNS", "1"]]],
      ["as many connections as requests where only those are limited", { maxRequests: 5 }, [
        ["FCGI_MAX_CONNS", "5"],
        ["FCGI_MAX_REQS", "5"],
        ["FCGI_MPXS_CONNS", "1"]
      ]]
    ] as const
  ) {
    play(
      `is answered with ${name}`,
      serve({ responder: () => Effect.never }, { admission }),
      () =>
        Effect.gen(function*() {
          const peer = yield* connect
          yield* peer.send(R.getValues(asked))
          const record = yield* received(peer)
          assert.ok(record._tag === "GetValuesResult")
          const values = FastCgiParams.fromBytes(record.content)
          assert.ok(!("_tag" in values))
          assert.deepStrictEqual([...values].sort(), expected as unknown as Array<[string, string]>)
        })
    )
  }

  play("whose content is no name-value pairs is a connection error", echo, () =>
    Effect.gen(function*() {
      const peer = yield* connect
      yield* peer.send(R.getValues(Uint8Array.of(5, 0, 65)))
      yield* peer.closed
      assert.match((yield* takeLogs)[0].message, /GET_VALUES content/)
    }))

  play("is answered ten thousand times to a peer that reads", echo, () =>
    Effect.gen(function*() {
      const peer = yield* connect
      yield* peer.setCapacity(1 << 30)
      const flood = Array.from({ length: 5000 }, () => question)
      for (let i = 0; i < 2; i++) {
        yield* peer.send(...flood)
        for (let n = 0; n < flood.length; n++) assert.strictEqual((yield* received(peer))._tag, "GetValuesResult")
      }
    }))

  play(
    "holds a peer up that floods with it and reads nothing, and answers it to the last when it reads",
    echo,
    () =>
      Effect.gen(function*() {
        const peer = yield* connect
        yield* peer.setCapacity(0)
        const before = held()
        const flood = concat(Array.from({ length: 1000 }, () => FastCgiEncoder.encode(question)))
        for (let i = 0; i < 20; i++) {
          yield* peer.sendBytes(flood)
          yield* settle
        }
        const pending = yield* peer.pending
        assert.isAbove(pending, 5 * flood.length)
        assert.isBelow(held() - before - 20 * flood.length, 512 * 1024)
        yield* peer.setCapacity(1 << 30)
        for (let n = 0; n < 20_000; n++) assert.strictEqual((yield* received(peer))._tag, "GetValuesResult")
        assert.deepStrictEqual(yield* exchange(peer), [])
      })
  )

  play(
    "is answered as often as the last has been answered, beside a download that is read steadily",
    serve({ responder: () => Effect.succeed(FastCgiResponse.make(Stream.forever(Stream.make(bytes(1000))))) }),
    () =>
      Effect.gen(function*() {
        const peer = yield* connect
        yield* peer.setCapacity(4096)
        yield* peer.send(...opening(1), R.stdin(1))
        // More than 256 KiB of answers.
        for (let n = 0; n < 40_000;) {
          yield* peer.send(...Array.from({ length: 1000 }, () => question))
          for (let answered = 0; answered < 1000;) {
            if ((yield* received(peer))._tag === "GetValuesResult") answered++
          }
          n += 1000
        }
        yield* peer.send(R.abortRequest(1))
        yield* peer.reply()
      })
  )

  play(
    "is answered behind a large response that the peer has not read yet",
    serve({ responder: () => Effect.succeed(FastCgiResponse.make(bytes(1024 * 1024))) }),
    () =>
      Effect.gen(function*() {
        const peer = yield* connect
        yield* peer.setCapacity(0)
        yield* peer.request()
        yield* settle
        yield* peer.send(question)
        yield* settle
        yield* peer.setCapacity(1 << 30)
        assert.strictEqual((yield* peer.reply()).appStatus, 0)
        assert.strictEqual((yield* received(peer))._tag, "GetValuesResult")
      })
  )
})

describe("KEEP_CONN", () => {
  const hello = serve({ responder: () => Effect.succeed(FastCgiResponse.make("hello")) })

  play("set: the connection stays open", hello, () =>
    Effect.gen(function*() {
      const peer = yield* connect
      for (let i = 0; i < 3; i++) {
        yield* peer.request({ keepConnection: true })
        yield* peer.reply()
      }
      yield* TestClock.adjust("1 day")
      assert.deepStrictEqual(yield* exchange(peer), [])
    }))

  play("not set: the connection closes, at once, after END_REQUEST", hello, () =>
    Effect.gen(function*() {
      const peer = yield* connect
      yield* peer.request({ keepConnection: false })
      assert.deepStrictEqual(tags(yield* peer.drain), ["Stdout 1", "Stdout 1", "EndRequest 1"])
      yield* peer.end
      yield* settle
      const admission = yield* FastCgiAdmission.FastCgiAdmission
      assert.strictEqual(admission.connectionsUnsafe(), 0)
    }))

  play("not set: other flag bits mean nothing", hello, () =>
    Effect.gen(function*() {
      const peer = yield* connect
      yield* peer.send({ ...R.beginRequest(1, 1), flags: 0xfe }, ...opening(1).slice(1), R.stdin(1))
      yield* peer.closed
    }))

  play(
    "not set: the connection closes when no other request is active any more",
    serve({ responder: (request) => request.stdin.pipe(Stream.runDrain, Effect.as(FastCgiResponse.make("ok"))) }),
    () =>
      Effect.gen(function*() {
        const peer = yield* connect
        yield* peer.send(...opening(1, { keepConnection: true }), ...opening(2, { keepConnection: false }))
        yield* peer.send(R.stdin(2))
        assert.strictEqual((yield* peer.reply(2)).stdout, page("ok"))
        assert.deepStrictEqual(yield* exchange(peer), [])
        yield* peer.send(R.stdin(1))
        assert.strictEqual((yield* peer.reply(1)).stdout, page("ok"))
        yield* peer.closed
      })
  )

  for (const role of [1, 2]) {
    play(
      `not set: a refused role closes the connection as well (role ${role + 5})`,
      hello,
      () =>
        Effect.gen(function*() {
          const peer = yield* connect
          yield* peer.send(...opening(1, { role: role + 5, keepConnection: false }), R.stdin(1))
          assert.deepStrictEqual(yield* peer.drain, [R.endRequest(1, 0, R.ProtocolStatus.UnknownRole)])
        })
    )
  }

  play(
    "not set: every byte of a large response is out before the connection closes",
    serve({ responder: () => Effect.succeed(FastCgiResponse.make(bytes(300_000))) }),
    () =>
      Effect.gen(function*() {
        const peer = yield* connect
        yield* peer.setCapacity(1000)
        yield* peer.request({ keepConnection: false })
        yield* settle
        const records = yield* peer.drain
        const size = records.reduce((size, record) => size + (record._tag === "Stdout" ? record.content.length : 0), 0)
        assert.strictEqual(size, 300_000 + "Status: 200 OK\r\n\r\n".length)
        assert.strictEqual(records.at(-1)?._tag, "EndRequest")
      })
  )

  play(
    "not set: a peer that takes its time gets all of it, one that takes nothing is given up after lingerTimeout",
    serve(
      { responder: () => Effect.succeed(FastCgiResponse.make(bytes(10_000))) },
      { lingerTimeout: "10 seconds" }
    ),
    () =>
      Effect.gen(function*() {
        const peer = yield* connect
        yield* peer.setCapacity(0)
        yield* peer.request({ keepConnection: false })
        yield* settle
        for (let i = 0; i < 5; i++) {
          yield* TestClock.adjust("9 seconds")
          yield* peer.setCapacity(1000)
          yield* peer.receiveBytes
          yield* peer.setCapacity(0)
        }
        const admission = yield* FastCgiAdmission.FastCgiAdmission
        assert.strictEqual(admission.connectionsUnsafe(), 1)
        yield* TestClock.adjust("20 seconds")
        assert.strictEqual(admission.connectionsUnsafe(), 0)
      })
  )
})

describe("a closing connection", () => {
  const early = serve(
    { responder: () => Effect.succeed(FastCgiResponse.make("too large", { status: 413 })) },
    { lingerTimeout: "10 seconds" }
  )

  const begin = (keepConnection: boolean) => [...opening(1, { keepConnection }), R.stdin(1, bytes(1000))]

  play("lingers while the peer still sends, so that an early answer is not lost", early, () =>
    Effect.gen(function*() {
      const peer = yield* connect
      yield* peer.send(...begin(false))
      // The server's half of the connection is closed, and it goes on to take what comes.
      assert.deepStrictEqual(tags(yield* peer.drain), ["Stdout 1", "Stdout 1", "EndRequest 1"])
      for (let i = 0; i < 100; i++) {
        yield* peer.send(R.stdin(1, bytes(60_000)))
        yield* settle
        assert.strictEqual(yield* peer.pending, 0)
      }
      const admission = yield* FastCgiAdmission.FastCgiAdmission
      assert.strictEqual(admission.connectionsUnsafe(), 1)
      yield* peer.end
      yield* settle
      assert.strictEqual(admission.connectionsUnsafe(), 0)
    }))

  play("lingers no longer than lingerTimeout", early, () =>
    Effect.gen(function*() {
      const admission = yield* FastCgiAdmission.FastCgiAdmission
      const peer = yield* connect
      yield* peer.send(...begin(false))
      yield* peer.closed
      yield* TestClock.adjust("9999 millis")
      assert.strictEqual(admission.connectionsUnsafe(), 1)
      yield* TestClock.adjust("1 millis")
      yield* settle
      assert.strictEqual(admission.connectionsUnsafe(), 0)
    }))

  play(
    "that lingers gives a slow peer the time to take a large answer",
    serve(
      { responder: () => Effect.succeed(FastCgiResponse.make(bytes(100_000), { status: 413 })) },
      { lingerTimeout: "10 seconds" }
    ),
    () =>
      Effect.gen(function*() {
        const peer = yield* connect
        yield* peer.setCapacity(5000)
        yield* peer.send(...begin(false))
        yield* settle
        let size = 0
        for (let i = 0; i < 6; i++) {
          yield* TestClock.adjust("8 seconds")
          size += (yield* peer.receiveBytes).length
        }
        yield* peer.setCapacity(1 << 30)
        yield* Pull.catchDone(
          Effect.forever(Effect.map(peer.receiveBytes, (chunk) => {
            size += chunk.length
          })),
          () => Effect.void
        )
        assert.isAbove(size, 100_000)
      })
  )

  play(
    "waits a second for a peer that has taken everything, and not lingerTimeout",
    serve(
      { responder: () => Effect.succeed(FastCgiResponse.make(bytes(100_000))) },
      { lingerTimeout: "10 seconds" }
    ),
    () =>
      Effect.gen(function*() {
        const admission = yield* FastCgiAdmission.FastCgiAdmission
        const peer = yield* connect
        yield* peer.setCapacity(5000)
        yield* peer.send(...opening(1, { keepConnection: false }), R.stdin(1))
        yield* settle
        yield* peer.setCapacity(1 << 30)
        yield* settle
        yield* TestClock.adjust("999 millis")
        assert.strictEqual(admission.connectionsUnsafe(), 1)
        yield* TestClock.adjust("1 millis")
        yield* settle
        assert.strictEqual(admission.connectionsUnsafe(), 0, "waits on")
      })
  )

  play("closes when the body of a request that was answered early has come", early, () =>
    Effect.gen(function*() {
      const peer = yield* connect
      yield* peer.send(...begin(true))
      assert.match((yield* peer.reply()).stdout, /^Status: 413/)
      // Kept: the rest of the body is skipped and the connection goes on.
      yield* peer.send(R.stdin(1, bytes(60_000)))
      assert.deepStrictEqual(yield* exchange(peer, R.stdin(1)), [])
      yield* peer.request({ requestId: 1, keepConnection: false })
      yield* peer.closed
      yield* peer.end
      yield* settle
      const admission = yield* FastCgiAdmission.FastCgiAdmission
      assert.strictEqual(admission.connectionsUnsafe(), 0)
    }))

  play(
    "waits for the DATA of a Filter that was answered early",
    serve({ filter: () => Effect.succeed(FastCgiResponse.make("cached")) }),
    () =>
      Effect.gen(function*() {
        const admission = yield* FastCgiAdmission.FastCgiAdmission
        const peer = yield* connect
        yield* peer.send(
          ...opening(1, { role: 3, keepConnection: true }),
          R.stdin(1),
          ...opening(2, { role: 3, keepConnection: false }),
          R.stdin(2)
        )
        yield* peer.closed
        assert.strictEqual(admission.connectionsUnsafe(), 1)
        yield* peer.send(R.data(1, bytes(1000)), R.data(1), R.data(2, bytes(1000)), R.data(2))
        yield* peer.end
        yield* settle
        assert.strictEqual(admission.connectionsUnsafe(), 0)
      })
  )

  const lingering = serve({
    authorizer: () => Effect.succeed(FastCgiResponse.allow()),
    responder: () => Effect.succeed(FastCgiResponse.make("too large", { status: 413 }))
  }, { lingerTimeout: "10 seconds" })
  for (
    const [what, role, last] of [
      ["the STDIN of a request that was refused by a protocol status", 7, R.stdin(1)],
      ["the DATA of a Filter that was refused by a protocol status", R.Role.Filter, R.data(1)],
      ["the STDIN that lighttpd sends for an Authorizer", R.Role.Authorizer, R.stdin(1)]
    ] as const
  ) {
    play(`lingers for ${what}`, lingering, () =>
      Effect.gen(function*() {
        const admission = yield* FastCgiAdmission.FastCgiAdmission
        const peer = yield* connect
        const filter = role === R.Role.Filter
        yield* peer.send(...opening(1, { role, keepConnection: filter }))
        yield* peer.reply()
        // Of a Filter's input the end of STDIN is not the end.
        if (filter) yield* peer.send(R.stdin(1), ...opening(2, { keepConnection: false }), R.stdin(2))
        yield* peer.closed
        yield* TestClock.adjust("9999 millis")
        assert.strictEqual(admission.connectionsUnsafe(), 1, "closed before all of the request had come")
        yield* peer.send(last)
        yield* peer.end
        yield* settle
        assert.strictEqual(admission.connectionsUnsafe(), 0)
      }))
  }

  play(
    "does not linger for the old input of an id that has been used again, and whose input has come",
    lingering,
    () =>
      Effect.gen(function*() {
        const admission = yield* FastCgiAdmission.FastCgiAdmission
        const peer = yield* connect
        yield* peer.send(...begin(true))
        yield* peer.reply()
        yield* peer.send(...opening(1, { keepConnection: false }), R.stdin(1))
        yield* peer.reply()
        yield* peer.closed
        yield* TestClock.adjust("1 second")
        yield* settle
        assert.strictEqual(admission.connectionsUnsafe(), 0, "waits for input that will not come")
      })
  )

  play("drops what comes after it has been told to close", early, () =>
    Effect.gen(function*() {
      const peer = yield* connect
      yield* peer.send(...begin(false), ...opening(2))
      // In the same read: the second request has begun before the first one closes the connection.
      assert.strictEqual((yield* peer.reply(1)).protocolStatus, 0)
      assert.strictEqual((yield* peer.reply(2)).protocolStatus, 0)
      yield* peer.closed
      yield* peer.send(...opening(3), R.stdin(3))
      yield* settle
      const admission = yield* FastCgiAdmission.FastCgiAdmission
      assert.strictEqual(admission.requestsUnsafe(), 0)
    }))
})

describe("the peer's half-close", () => {
  const interrupted: Array<string> = []
  const gate = Deferred.makeUnsafe<void>()

  play(
    "aborts what is active",
    serve({ responder: () => Effect.onInterrupt(Effect.never, () => Effect.sync(() => interrupted.push("yes"))) }),
    () =>
      Effect.gen(function*() {
        const peer = yield* connect
        yield* peer.request()
        yield* peer.end
        yield* peer.closed
        assert.deepStrictEqual(interrupted, ["yes"])
      })
  )

  play(
    "does not keep an answer from leaving that was ready at once",
    serve({ responder: () => Effect.succeed(FastCgiResponse.make("hello")) }),
    () =>
      Effect.gen(function*() {
        const peer = yield* connect
        yield* peer.request()
        yield* peer.end
        assert.strictEqual((yield* peer.reply()).stdout, page("hello"))
        yield* peer.closed
      })
  )

  play(
    "leaves complete requests alone with allowHalfOpen, and closes after the last",
    serve(
      {
        responder: (request) =>
          request.stdin.pipe(
            Stream.runDrain,
            Effect.andThen(Deferred.await(gate)),
            Effect.as(FastCgiResponse.make("late"))
          )
      },
      { allowHalfOpen: true }
    ),
    () =>
      Effect.gen(function*() {
        const peer = yield* connect
        yield* peer.request({ stdin: "body", keepConnection: true })
        yield* peer.end
        yield* settle
        yield* Deferred.succeed(gate, undefined)
        assert.strictEqual((yield* peer.reply()).stdout, page("late"))
        yield* peer.closed
      })
  )

  play(
    "ends incomplete input with ConnectionClosed with allowHalfOpen, after what had come",
    serve(
      {
        responder: (request) =>
          Effect.gen(function*() {
            yield* Deferred.await(request.requestId === 1 ? gate : halfClosed)
            let size = 0
            const exit = yield* Effect.exit(
              Stream.runForEach(request.stdin, (chunk) =>
                Effect.sync(() => {
                  size += chunk.length
                }))
            )
            const reason = Exit.isFailure(exit) ? "failed" : "complete"
            const error = yield* Effect.flip(Effect.failCause(Exit.isFailure(exit) ? exit.cause : never))
            return FastCgiResponse.make(`${reason} ${error.reason._tag} ${size}`)
          })
      },
      { allowHalfOpen: true }
    ),
    () =>
      Effect.gen(function*() {
        const peer = yield* connect
        yield* peer.send(...opening(2), R.stdin(2, bytes(100)))
        yield* exchange(peer)
        yield* peer.end
        yield* settle
        yield* Deferred.succeed(halfClosed, undefined)
        assert.strictEqual((yield* peer.reply(2)).stdout, page("failed ConnectionClosed 100"))
        yield* peer.closed
      })
  )

  play(
    "forgets requests whose PARAMS are not complete with allowHalfOpen",
    serve({ responder: () => Effect.never }, { allowHalfOpen: true }),
    () =>
      Effect.gen(function*() {
        const peer = yield* connect
        yield* peer.send(...opening(1).slice(0, 2))
        yield* peer.end
        assert.deepStrictEqual(yield* peer.drain, [])
      })
  )

  play(
    "inside a record is an end like every other, and nothing to warn about",
    serve({ responder: () => Effect.never }),
    () =>
      Effect.gen(function*() {
        const peer = yield* connect
        // nginx gives an upload up in this way when its client has gone.
        yield* peer.send(...opening(1))
        yield* peer.sendBytes(Uint8Array.of(1, 5, 0, 1, 0x20, 0, 0, 0, 1, 2, 3))
        yield* peer.end
        yield* peer.closed
      })
  )
})

const halfClosed = Deferred.makeUnsafe<void>()
const never = undefined as never

describe("ABORT_REQUEST", () => {
  const ends: Array<string> = []

  const abortable = serve(
    {
      responder: (request) =>
        Effect.gen(function*() {
          switch (request.params.get("DO")) {
            case "wait":
              return yield* Effect.never
            case "read":
              yield* Stream.runDrain(request.stdin)
              return FastCgiResponse.make("read")
            case "write":
              return FastCgiResponse.make(Stream.forever(Stream.make(bytes(10_000))))
            default:
              return FastCgiResponse.make("hello")
          }
        }).pipe(
          Effect.onExit((exit) =>
            Effect.sync(() => {
              ends.push(`${request.params.get("DO")} ${Exit.hasInterrupts(exit) ? "interrupted" : exit._tag}`)
            })
          )
        )
    },
    { admission: { concurrency: 1 } }
  )

  play("interrupts a handler that waits, and one that reads", abortable, () =>
    Effect.gen(function*() {
      const peer = yield* connect
      for (const what of ["wait", "read"]) {
        ends.length = 0
        yield* peer.send(...opening(1, { params: { DO: what } }), R.stdin(1, bytes(10)))
        yield* exchange(peer)
        yield* peer.send(R.abortRequest(1))
        assert.strictEqual((yield* peer.reply()).appStatus, 1)
        assert.deepStrictEqual(ends, [`${what} interrupted`])
      }
    }))

  play("ends one that waits for a permit, which then is never started", abortable, () =>
    Effect.gen(function*() {
      ends.length = 0
      const peer = yield* connect
      yield* peer.send(...opening(1, { params: { DO: "wait" } }), ...opening(2, { params: { DO: "wait" } }))
      yield* peer.send(R.abortRequest(2))
      assert.strictEqual((yield* peer.reply(2)).appStatus, 1)
      yield* peer.send(R.abortRequest(1))
      yield* peer.reply(1)
      assert.deepStrictEqual(ends, ["wait interrupted"])
      yield* peer.send(...opening(3, { params: { DO: "hello" } }), R.stdin(3))
      assert.strictEqual((yield* peer.reply(3)).stdout, page("hello"))
    }))

  const closed: Array<string> = []
  play(
    "interrupts one that writes, while it waits for room",
    serve({
      responder: (request) =>
        Effect.gen(function*() {
          yield* Effect.addFinalizer((exit) =>
            Effect.sync(() => {
              closed.push(`${request.requestId} ${Exit.hasInterrupts(exit) ? "interrupted" : exit._tag}`)
            })
          )
          return FastCgiResponse.make(Stream.forever(Stream.make(bytes(10_000))))
        })
    }),
    () =>
      Effect.gen(function*() {
        const peer = yield* connect
        yield* peer.setCapacity(0)
        yield* peer.send(...opening(1), R.stdin(1))
        yield* settle
        yield* peer.send(R.abortRequest(1))
        yield* settle
        assert.deepStrictEqual(closed, ["1 interrupted"])
        yield* peer.setCapacity(1 << 30)
        const reply = yield* peer.reply()
        assert.strictEqual(reply.appStatus, 1)
        assert.deepStrictEqual(yield* exchange(peer), [])
      })
  )

  const started = Deferred.makeUnsafe<void>()
  const release = Deferred.makeUnsafe<void>()
  play(
    "waits for a handler that cannot be interrupted, and drops its answer",
    serve({
      responder: (request) =>
        Deferred.succeed(started, undefined).pipe(
          Effect.andThen(Deferred.await(release)),
          Effect.andThen(request.stderr("finished")),
          Effect.as(FastCgiResponse.make("finished")),
          Effect.uninterruptible
        )
    }),
    () =>
      Effect.gen(function*() {
        const peer = yield* connect
        yield* peer.send(...opening(1))
        yield* Deferred.await(started)
        // Twice is once.
        assert.deepStrictEqual(yield* exchange(peer, R.abortRequest(1), R.abortRequest(1)), [])
        yield* Deferred.succeed(release, undefined)
        assert.deepStrictEqual(yield* peer.reply(), { stdout: "", stderr: "", appStatus: 1, protocolStatus: 0 })
        assert.deepStrictEqual(yield* exchange(peer, R.stdin(1)), [])
      })
  )

  play(
    "lets a handler that cannot be interrupted know through its input",
    serve({
      responder: (request) =>
        Stream.runDrain(request.stdin).pipe(
          Effect.exit,
          Effect.andThen((exit) => Effect.sync(() => closed.push(String(Exit.isFailure(exit))))),
          Effect.as(FastCgiResponse.make("")),
          Effect.uninterruptible
        )
    }),
    () =>
      Effect.gen(function*() {
        closed.length = 0
        const peer = yield* connect
        yield* peer.send(...opening(1), R.stdin(1, bytes(10)))
        yield* exchange(peer)
        yield* peer.send(R.abortRequest(1))
        yield* peer.reply()
        assert.deepStrictEqual(closed, ["true"])
      })
  )

  play("closes the connection without KEEP_CONN, as every other end", abortable, () =>
    Effect.gen(function*() {
      const peer = yield* connect
      yield* peer.send(R.beginRequest(1, 1), R.abortRequest(1))
      assert.deepStrictEqual(tags(yield* peer.drain), ["EndRequest 1"])
    }))
})

describe("a server that drains", () => {
  /** A server with a scope of its own, which the play closes. */
  const draining = (
    name: string,
    handlers: Parameters<typeof serve>[0],
    options: Parameters<typeof serve>[1],
    body: (close: Effect.Effect<Fiber.Fiber<void>>) => Effect.Effect<
      unknown,
      unknown,
      FastCgiTest.FastCgiMemory | FastCgiAdmission.FastCgiAdmission | Scope.Scope
    >
  ) =>
    it.effect(name, () =>
      Effect.gen(function*() {
        const around = observe(Layer.mergeAll(FastCgiTest.layerMemory, FastCgiAdmission.layer(options?.admission)))
        const scope = yield* Scope.make()
        const context = yield* Layer.build(around)
        yield* Layer.buildWithScope(FastCgiServer.serve(handlers, options), scope).pipe(Effect.provideContext(context))
        yield* body(Effect.tap(Effect.forkChild(Scope.close(scope, Exit.void)), () => settle)).pipe(
          Effect.scoped,
          withinMemory("what the server has to send or close, or its end"),
          Effect.provideContext(context)
        )
        yield* settle
        const admission = yield* Effect.provideContext(FastCgiAdmission.FastCgiAdmission, context)
        assert.strictEqual(admission.connectionsUnsafe(), 0)
        assert.strictEqual(admission.requestsUnsafe(), 0)
      }))

  const release = Deferred.makeUnsafe<void>()
  const gated = { responder: () => Effect.as(Deferred.await(release), FastCgiResponse.make("finished")) }
  const never = { responder: () => Effect.never, authorizer: () => Effect.never }

  draining("closes idle connections, and takes no new ones", never, {}, (close) =>
    Effect.gen(function*() {
      const peer = yield* connect
      yield* exchange(peer)
      yield* Fiber.join(yield* close)
      assert.deepStrictEqual(yield* peer.drain, [])
      const late = yield* connect
      yield* late.request()
      assert.deepStrictEqual(yield* late.drain, [])
    }))

  draining(
    "closes kept connections at once whose requests left input behind",
    {
      responder: () => Effect.succeed(FastCgiResponse.make("early")),
      authorizer: () => Effect.succeed(FastCgiResponse.allow())
    },
    {},
    (close) =>
      Effect.gen(function*() {
        // Apache sends no STDIN for an Authorizer, HAProxy none for what it aborts.
        const apache = yield* connect
        yield* apache.send(...opening(1, { role: 2 }))
        yield* apache.reply()
        const haproxy = yield* connect
        yield* haproxy.send(R.beginRequest(1, 1, { keepConnection: true }), R.abortRequest(1))
        yield* haproxy.reply()
        yield* Fiber.join(yield* close)
        yield* apache.closed
        yield* haproxy.closed
      })
  )

  draining(
    "does not wait longer than its deadline for a connection that lingers",
    {
      responder: () => Effect.succeed(FastCgiResponse.make("early", { status: 413 }))
    },
    { gracefulShutdownTimeout: "5 seconds", lingerTimeout: "1 hour" },
    (close) =>
      Effect.gen(function*() {
        const peer = yield* connect
        yield* peer.send(...opening(1, { keepConnection: false }), R.stdin(1, bytes(10)))
        yield* peer.closed
        const closing = yield* close
        yield* TestClock.adjust("5 seconds")
        yield* Fiber.join(closing)
      })
  )

  draining("finishes what runs, then closes", gated, {}, (close) =>
    Effect.gen(function*() {
      const peer = yield* connect
      yield* peer.send(...opening(1), R.stdin(1))
      yield* exchange(peer)
      const closing = yield* close
      yield* settle
      assert.isUndefined(closing.pollUnsafe())
      yield* Deferred.succeed(release, undefined)
      assert.strictEqual((yield* peer.reply()).stdout, page("finished"))
      yield* peer.closed
      yield* peer.close
      yield* Fiber.join(closing)
    }))

  const besides = Deferred.makeUnsafe<void>()
  draining(
    "asks a web server that multiplexes for other connections, and serves what it sends all the same",
    { responder: () => Effect.as(Deferred.await(besides), FastCgiResponse.make("finished")) },
    {},
    (close) =>
      Effect.gen(function*() {
        const peer = yield* connect
        yield* exchange(peer, ...opening(1), R.stdin(1), ...opening(3), R.stdin(3))
        const closing = yield* close
        yield* settle
        const said = yield* received(peer)
        assert.deepStrictEqual(said, R.getValuesResult(FastCgiParams.encodePairs([["FCGI_MPXS_CONNS", "0"]])))
        assert.deepStrictEqual(yield* exchange(peer, ...opening(5), R.stdin(5)), [])
        yield* Deferred.succeed(besides, undefined)
        for (const id of [1, 3, 5]) assert.strictEqual((yield* peer.reply(id)).stdout, page("finished"))
        assert.deepStrictEqual(yield* peer.drain, [])
        yield* peer.close
        yield* Fiber.join(closing)
      })
  )

  const unavailable = /^Status: 503 Service Unavailable\r\n/

  draining(
    "interrupts what still runs after gracefulShutdownTimeout, and answers it with 503",
    never,
    { gracefulShutdownTimeout: "5 seconds" },
    (close) =>
      Effect.gen(function*() {
        const peer = yield* connect
        yield* peer.send(...opening(1), R.stdin(1), ...opening(2, { role: 2 }))
        yield* exchange(peer)
        const closing = yield* close
        yield* TestClock.adjust("4999 millis")
        yield* settle
        assert.isUndefined(closing.pollUnsafe())
        yield* TestClock.adjust("1 millis")
        yield* Fiber.join(closing)
        assert.match((yield* peer.reply(1)).stdout, unavailable)
        assert.match((yield* peer.reply(2)).stdout, unavailable)
        yield* peer.closed
      })
  )

  draining(
    "answers what waits for a permit with 503, too, an Authorizer not less",
    never,
    { gracefulShutdownTimeout: "5 seconds", admission: { concurrency: 1 } },
    (close) =>
      Effect.gen(function*() {
        const peer = yield* connect
        yield* peer.send(...opening(1), R.stdin(1), ...opening(2, { role: 2 }), ...opening(3), R.stdin(3))
        yield* exchange(peer)
        const closing = yield* close
        yield* TestClock.adjust("5 seconds")
        yield* Fiber.join(closing)
        for (const id of [1, 2, 3]) assert.match((yield* peer.reply(id)).stdout, unavailable)
      })
  )

  draining(
    "does not end a request whose PARAMS have not come with nothing: that would allow what an Authorizer guards",
    never,
    { gracefulShutdownTimeout: "5 seconds" },
    (close) =>
      Effect.gen(function*() {
        const peer = yield* connect
        yield* peer.send(...opening(2, { role: 2 }).slice(0, 2))
        yield* exchange(peer)
        const closing = yield* close
        yield* TestClock.adjust("5 seconds")
        yield* Fiber.join(closing)
        assert.deepStrictEqual(yield* peer.drain, [])
      })
  )

  const slow = Deferred.makeUnsafe<void>()
  draining(
    "refuses what begins after the deadline, while a handler that cannot be interrupted ends",
    {
      responder: (request) =>
        request.requestId === 1
          ? Effect.uninterruptible(Effect.as(Deferred.await(slow), FastCgiResponse.make("slow")))
          : Effect.never
    },
    { gracefulShutdownTimeout: "5 seconds" },
    (close) =>
      Effect.gen(function*() {
        const peer = yield* connect
        yield* peer.send(...opening(1), R.stdin(1))
        yield* exchange(peer)
        const closing = yield* close
        yield* TestClock.adjust("5 seconds")
        yield* peer.send(...opening(2), R.stdin(2))
        assert.match((yield* peer.reply(2)).stdout, unavailable)
        yield* Deferred.succeed(slow, undefined)
        // It has been interrupted all the same, as soon as that was possible.
        assert.match((yield* peer.reply(1)).stdout, unavailable)
        yield* peer.close
        yield* Fiber.join(closing)
      })
  )

  draining(
    "is done at once with disablePreemptiveShutdown, and leaves the listener to who has it",
    never,
    { disablePreemptiveShutdown: true },
    (close) =>
      Effect.gen(function*() {
        const peer = yield* connect
        yield* peer.send(...opening(1), R.stdin(1))
        yield* exchange(peer)
        yield* Fiber.join(yield* close)
        assert.match((yield* peer.reply(1)).stdout, unavailable)
      })
  )

  draining(
    "destroys connections that were held back",
    never,
    { admission: { maxConnections: 1 } },
    (close) =>
      Effect.gen(function*() {
        const first = yield* connect
        yield* exchange(first)
        const second = yield* connect
        yield* Fiber.join(yield* close)
        yield* first.closed
        yield* second.closed
      })
  )

  const runs = Deferred.makeUnsafe<void>()
  draining(
    "destroys connections that were held back while it waits for requests that run",
    { responder: () => Effect.as(Deferred.await(runs), FastCgiResponse.make("finished")) },
    { admission: { maxConnections: 1 } },
    (close) =>
      Effect.gen(function*() {
        const first = yield* connect
        yield* exchange(first, ...opening(1), R.stdin(1))
        const second = yield* connect
        const closing = yield* close
        yield* withinMemory("the end of the connection that was held back")(second.closed)
        assert.isUndefined(closing.pollUnsafe())
        yield* Deferred.succeed(runs, undefined)
        assert.strictEqual((yield* first.reply()).stdout, page("finished"))
        yield* first.close
        yield* withinMemory("the end of the server")(Fiber.join(closing))
      })
  )

  draining(
    "answers what had come before, and had to wait until its peer reads",
    { responder: () => Effect.succeed(FastCgiResponse.make("answered")) },
    { outputHighWaterMark: 10 },
    (close) =>
      Effect.gen(function*() {
        const peer = yield* connect
        yield* peer.setCapacity(0)
        yield* peer.send(...[1, 2, 3].flatMap((id) => [...opening(id), R.stdin(id)]))
        yield* settle
        const closing = yield* close
        yield* peer.setCapacity(1 << 20)
        for (const id of [1, 2, 3]) assert.strictEqual((yield* peer.reply(id)).stdout, page("answered"))
        yield* peer.close
        yield* Fiber.join(closing)
      })
  )

  draining(
    "goes on to take what a peer sends that it has held up, so that closing costs it no answer",
    { responder: () => Effect.never },
    { gracefulShutdownTimeout: "5 seconds", outputHighWaterMark: 100 },
    (close) =>
      Effect.gen(function*() {
        const admission = yield* FastCgiAdmission.FastCgiAdmission
        const peer = yield* connect
        yield* peer.setCapacity(0)
        yield* peer.send(...Array.from({ length: 100 }, () => question))
        for (let i = 0; i < 4; i++) yield* peer.send(R.stdin(9, bytes(60_000)))
        yield* settle
        assert.isAbove(yield* peer.pending, 0, "held up")
        const closing = yield* close
        yield* TestClock.adjust("5 seconds")
        yield* settle
        assert.strictEqual(yield* peer.pending, 0, "still held up")
        yield* peer.setCapacity(1 << 20)
        yield* peer.end
        yield* settle
        assert.strictEqual(admission.connectionsUnsafe(), 0, "has not seen that the peer has ended")
        yield* Fiber.join(closing)
      })
  )

  draining(
    "drops what a peer does not take of its answer when the deadline is over, a second later at the most",
    {
      responder: () => Effect.succeed(FastCgiResponse.make(bytes(500_000)))
    },
    { gracefulShutdownTimeout: "5 seconds", lingerTimeout: "10 seconds" },
    (close) =>
      Effect.gen(function*() {
        const peer = yield* connect
        yield* peer.setCapacity(0)
        yield* peer.send(...opening(1), R.stdin(1))
        yield* settle
        const closing = yield* close
        yield* TestClock.adjust("5999 millis")
        assert.isUndefined(closing.pollUnsafe())
        yield* TestClock.adjust("1 millis")
        yield* Fiber.join(closing)
      })
  )
})

describe("a listener", () => {
  play("whose connections have closed before they were accepted is none the worse", echo, () =>
    Effect.gen(function*() {
      const listener = yield* FastCgiTest.FastCgiMemory
      const peer = yield* listener.peer
      yield* peer.close
      yield* settle
    }))

  it.effect("that fails is logged, and leaves the server to be closed as any other", () =>
    Effect.gen(function*() {
      const failing = Layer.succeed(FastCgiListener.FastCgiListener, {
        address: NetAddress.unixPathAddress("failing"),
        addresses: [NetAddress.unixPathAddress("failing")],
        run: () =>
          Effect.fail(
            new FastCgiListener.FastCgiListenerError({ reason: { _tag: "Unknown" }, message: "the socket is gone" })
          ),
        stopAccepting: Effect.void
      })
      const server = FastCgiServer.serve({ responder: () => Effect.never }).pipe(
        Layer.provide([failing, FastCgiAdmission.layer()])
      )
      const logs = yield* Effect.scoped(Effect.gen(function*() {
        const context = yield* Layer.build(observe(server))
        yield* settle
        return yield* Effect.provideContext(takeLogs, context)
      }))
      assert.deepStrictEqual(logs.map(({ level, message }) => [level, message]), [[
        "Error",
        "the FastCGI listener failed"
      ]])
      assert.include(logs[0].cause, "the socket is gone")
    }))

  it.effect("serves what connected, or connected and closed, before the server accepted", () =>
    Effect.gen(function*() {
      const context = yield* Layer.build(
        observe(Layer.mergeAll(FastCgiTest.layerMemory, FastCgiAdmission.layer({ maxConnections: 1 })))
      )
      const memory = yield* Effect.provideContext(FastCgiTest.FastCgiMemory, context)
      const gone = yield* memory.peer
      yield* gone.close
      const lost = yield* memory.peer
      yield* lost.reset
      const waiting = yield* memory.peer
      yield* waiting.request({ stdin: "body", keepConnection: false })
      yield* Effect.scoped(Effect.gen(function*() {
        yield* Layer.build(
          FastCgiServer.serve({
            responder: (request) => Effect.map(Stream.mkUint8Array(request.stdin), (body) => FastCgiResponse.make(body))
          })
        ).pipe(Effect.provideContext(context))
        assert.strictEqual(bodyOf((yield* waiting.reply()).stdout), "body")
        yield* waiting.close
        yield* settle
        const admission = yield* Effect.provideContext(FastCgiAdmission.FastCgiAdmission, context)
        assert.strictEqual(admission.connectionsUnsafe(), 0)
      }))
    }))
})
