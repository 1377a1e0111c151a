/**
 * What records do to a running server, by the state of their id. The table itself is walked in `requestState.test.ts`.
 */
import { assert, describe } from "@effect/vitest"
import { FastCgiParams, FastCgiRecord as R, FastCgiResponse } from "effect-fastcgi"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Stream from "effect/Stream"
import {
  connect,
  exchange,
  getParams,
  opening,
  page,
  play,
  question,
  received,
  serve,
  tags,
  takeLogs
} from "../server/support/serving.ts"

const hello = serve({ responder: () => Effect.succeed(FastCgiResponse.make("hello")) })

const waiting = serve({ responder: () => Effect.never })

const echo = serve({
  responder: (request) =>
    Stream.mkUint8Array(request.stdin).pipe(Effect.map((body) => FastCgiResponse.make(new TextDecoder().decode(body)))),
  authorizer: () => Effect.never,
  filter: (request) =>
    Effect.zipWith(
      Stream.mkUint8Array(request.stdin),
      Stream.mkUint8Array(request.data),
      (stdin, data) => FastCgiResponse.make(`${new TextDecoder().decode(stdin)}|${new TextDecoder().decode(data)}`)
    )
})

const text = (content: string) => new TextEncoder().encode(content)

describe("the state table of a connection", () => {
  play("BEGIN_REQUEST | inactive | admit, or refuse", hello, () =>
    Effect.gen(function*() {
      const peer = yield* connect
      yield* peer.send(...opening(1), R.stdin(1))
      assert.deepStrictEqual(yield* peer.reply(), {
        stdout: page("hello"),
        stderr: "",
        appStatus: 0,
        protocolStatus: 0
      })
      // The same id again: END_REQUEST has freed it.
      yield* peer.send(...opening(1), R.stdin(1))
      assert.strictEqual((yield* peer.reply()).stdout, page("hello"))
      yield* peer.send(R.beginRequest(2, R.Role.Filter, { keepConnection: true }))
      assert.deepStrictEqual(yield* received(peer), R.endRequest(2, 0, R.ProtocolStatus.UnknownRole))
    }))

  play(
    "BEGIN_REQUEST | active | connection error: close (SPEC 3.3, the id was still ours)",
    waiting,
    () =>
      Effect.gen(function*() {
        const peer = yield* connect
        yield* peer.send(...opening(1), R.beginRequest(1, R.Role.Responder, { keepConnection: true }))
        yield* peer.closed
        assert.deepStrictEqual((yield* takeLogs).map(({ level, message }) => [level, message]), [
          ["Warn", "closed a FastCGI connection: BEGIN_REQUEST for request 1, which has not ended"]
        ])
      })
  )

  play("BEGIN_REQUEST | active, in PARAMS | connection error: close", waiting, () =>
    Effect.gen(function*() {
      const peer = yield* connect
      yield* peer.send(R.beginRequest(1, 1, { keepConnection: true }), R.beginRequest(1, 1, { keepConnection: true }))
      assert.deepStrictEqual(yield* peer.drain, [])
      assert.strictEqual((yield* takeLogs).length, 1)
    }))

  play("PARAMS, STDIN, DATA | inactive | ignore (SPEC 3.3)", hello, () =>
    Effect.gen(function*() {
      const peer = yield* connect
      assert.deepStrictEqual(
        yield* exchange(
          peer,
          R.params(3, getParams),
          R.params(3),
          R.stdin(3, text("a")),
          R.stdin(3),
          R.data(3, text("b")),
          R.data(3)
        ),
        []
      )
      // Neither are they kept for a request that begins later.
      yield* peer.send(...opening(3))
      assert.strictEqual((yield* peer.reply(3)).stdout, page("hello"))
    }))

  for (
    const [name, role, record] of [
      ["STDIN", R.Role.Responder, R.stdin(1, text("early"))],
      ["the end of STDIN", R.Role.Responder, R.stdin(1)],
      ["DATA", R.Role.Filter, R.data(1, text("early"))]
    ] as const
  ) {
    play(
      `STDIN, DATA | active, in PARAMS | the request is refused with 400 (${name})`,
      echo,
      () =>
        Effect.gen(function*() {
          const peer = yield* connect
          const [begin, params, end] = opening(1, { role })
          // SPEC 6.2: the refusal waits for the end of PARAMS as every other answer.
          assert.deepStrictEqual(yield* exchange(peer, begin, params, record), [])
          yield* peer.send(end)
          const reply = yield* peer.reply()
          assert.match(reply.stdout, /^Status: 400 Bad Request\r\n/)
          assert.strictEqual(reply.protocolStatus, 0)
          assert.deepStrictEqual((yield* takeLogs).map(({ message }) => message), [
            "refused FastCGI request 1: input came before the end of PARAMS"
          ])
          yield* peer.send(...opening(2), R.stdin(2, text("next")), R.stdin(2))
          assert.strictEqual((yield* peer.reply(2)).stdout, page("next"))
        })
    )
  }

  play("PARAMS, STDIN, DATA | after its end | ignore", echo, () =>
    Effect.gen(function*() {
      const peer = yield* connect
      yield* peer.send(
        ...opening(1, { role: R.Role.Filter }),
        R.params(1, getParams),
        R.params(1),
        R.stdin(1, text("a")),
        R.stdin(1),
        R.stdin(1, text("never")),
        R.stdin(1),
        R.data(1, text("b")),
        R.data(1),
        R.data(1, text("never")),
        R.data(1)
      )
      assert.strictEqual((yield* peer.reply()).stdout, page("a|b"))
    }))

  play("DATA to a non-Filter, STDIN to an Authorizer | active | ignore", echo, () =>
    Effect.gen(function*() {
      const peer = yield* connect
      yield* peer.send(
        ...opening(1),
        R.data(1, text("no")),
        R.stdin(1, text("yes")),
        R.data(1),
        R.data(1, text("no")),
        R.stdin(1)
      )
      assert.strictEqual((yield* peer.reply()).stdout, page("yes"))
      const ignored = yield* exchange(
        peer,
        ...opening(2, { role: R.Role.Authorizer }),
        R.stdin(2, text("no")),
        R.stdin(2),
        R.data(2, text("no")),
        R.data(2)
      )
      assert.deepStrictEqual(ignored, [])
    }))

  play("ABORT_REQUEST | in PARAMS | END_REQUEST at once", hello, () =>
    Effect.gen(function*() {
      const peer = yield* connect
      yield* peer.send(R.beginRequest(1, 1, { keepConnection: true }), R.abortRequest(1))
      // HAProxy sends exactly this for a request that it cannot encode.
      assert.deepStrictEqual(yield* received(peer), R.endRequest(1, 1, 0))
      const [begin, params] = opening(1)
      yield* peer.send(begin, params, R.abortRequest(1))
      assert.deepStrictEqual(yield* received(peer), R.endRequest(1, 1, 0))
    }))

  const started = Deferred.makeUnsafe<void>()
  const finalize = Deferred.makeUnsafe<void>()
  const slowToEnd = serve({
    responder: () =>
      Deferred.succeed(started, undefined).pipe(
        Effect.andThen(Effect.never),
        Effect.onInterrupt(() => Deferred.await(finalize))
      )
  })

  play(
    "ABORT_REQUEST | running | interrupt; END_REQUEST when the handler has ended (SPEC 5.4)",
    slowToEnd,
    () =>
      Effect.gen(function*() {
        const peer = yield* connect
        yield* peer.send(...opening(1), R.stdin(1))
        yield* Deferred.await(started)
        assert.deepStrictEqual(yield* exchange(peer, R.abortRequest(1), R.abortRequest(1)), [])
        yield* Deferred.succeed(finalize, undefined)
        assert.deepStrictEqual(yield* received(peer), R.stdout(1))
        assert.deepStrictEqual(yield* received(peer), R.endRequest(1, 1, 0))
        assert.deepStrictEqual(yield* exchange(peer), [])
      })
  )

  play("ABORT_REQUEST | inactive | ignore", hello, () =>
    Effect.gen(function*() {
      const peer = yield* connect
      assert.deepStrictEqual(yield* exchange(peer, R.abortRequest(7), R.abortRequest(0), R.abortRequest(65535)), [])
      yield* peer.request()
      yield* peer.reply()
      assert.deepStrictEqual(yield* exchange(peer, R.abortRequest(1)), [])
    }))

  play(
    "GET_VALUES | id 0 | GET_VALUES_RESULT with the names asked that are known",
    waiting,
    () =>
      Effect.gen(function*() {
        const peer = yield* connect
        const ask = (...names: ReadonlyArray<string>) =>
          Effect.gen(function*() {
            yield* peer.send(R.getValues(FastCgiParams.encodePairs(names.map((name) => [name, ""]))))
            const record = yield* received(peer)
            assert.ok(record._tag === "GetValuesResult" && record.requestId === 0)
            const values = FastCgiParams.fromBytes(record.content)
            assert.ok(!("_tag" in values))
            return [...values]
          })
        assert.deepStrictEqual(yield* ask("FCGI_MPXS_CONNS"), [["FCGI_MPXS_CONNS", "1"]])
        assert.deepStrictEqual(yield* ask("FCGI_MAX_REQS", "UNHEARD_OF", "FCGI_MAX_CONNS"), [
          ["FCGI_MAX_REQS", "1024"],
          ["FCGI_MAX_CONNS", "1024"]
        ])
        assert.deepStrictEqual(yield* ask("UNHEARD_OF"), [])
        assert.deepStrictEqual(yield* ask(), [])
        assert.deepStrictEqual(yield* ask("FCGI_MAX_REQS", "FCGI_MAX_REQS"), [["FCGI_MAX_REQS", "1024"]])
        // SPEC 4.1: at any time, as well beside a handler that waits.
        yield* peer.send(...opening(1))
        assert.deepStrictEqual(yield* ask("FCGI_MPXS_CONNS"), [["FCGI_MPXS_CONNS", "1"]])
      })
  )

  play("unknown type | id 0 | UNKNOWN_TYPE", hello, () =>
    Effect.gen(function*() {
      const peer = yield* connect
      yield* peer.send(R.unrecognized(12), R.unrecognized(255), R.unrecognized(0))
      assert.deepStrictEqual(yield* received(peer), R.unknownType(12))
      assert.deepStrictEqual(yield* received(peer), R.unknownType(255))
      assert.deepStrictEqual(yield* received(peer), R.unknownType(0))
      // With content and padding, all of which is skipped.
      yield* peer.sendBytes(Uint8Array.of(1, 100, 0, 0, 0, 9, 7, 0, ...new Uint8Array(16).fill(1)))
      assert.deepStrictEqual(yield* received(peer), R.unknownType(100))
      assert.deepStrictEqual(yield* exchange(peer), [])
    }))

  play("unknown type, GET_VALUES | id not 0 | ignore: not a management record", waiting, () =>
    Effect.gen(function*() {
      const peer = yield* connect
      yield* peer.send(...opening(1))
      assert.deepStrictEqual(
        yield* exchange(
          peer,
          R.unrecognized(12, 1),
          R.unrecognized(12, 2),
          { ...question, requestId: 1 },
          { ...question, requestId: 2 }
        ),
        []
      )
    }))

  play(
    "END_REQUEST, STDOUT, STDERR, UNKNOWN_TYPE, GET_VALUES_RESULT | any | ignore: never answer an answer",
    waiting,
    () =>
      Effect.gen(function*() {
        const peer = yield* connect
        yield* peer.send(...opening(1))
        for (const id of [0, 1, 2]) {
          assert.deepStrictEqual(
            yield* exchange(
              peer,
              R.endRequest(id),
              R.stdout(id, text("a")),
              R.stdout(id),
              R.stderr(id, text("a")),
              R.stderr(id),
              { ...R.unknownType(3), requestId: id },
              { ...R.getValuesResult(question.content), requestId: id }
            ),
            []
          )
        }
        yield* peer.send(R.abortRequest(1))
        assert.deepStrictEqual(tags([yield* received(peer), yield* received(peer)]), ["Stdout 1", "EndRequest 1"])
      })
  )

  play("not a record | - | decode error: close", waiting, () =>
    Effect.gen(function*() {
      const peer = yield* connect
      yield* peer.send(...opening(1))
      assert.deepStrictEqual(yield* exchange(peer), [])
      yield* peer.sendBytes(Uint8Array.of(2, 1, 0, 1, 0, 8, 0, 0))
      yield* peer.closed
      assert.deepStrictEqual((yield* takeLogs).map(({ message }) => message), [
        "closed a FastCGI connection: a record header starts with version 2, expected 1"
      ])
    }))
})
