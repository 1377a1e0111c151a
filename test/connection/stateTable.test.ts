/**
 * What records do to a running server, by the state of their id. The table itself is walked in `requestState.test.ts`.
 */
import { assert, describe } from "@effect/vitest"
import { FastCgiAdmission, FastCgiParams, FastCgiRecord as R, FastCgiResponse } from "effect-fastcgi"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Stream from "effect/Stream"
import * as TestClock from "effect/testing/TestClock"
import {
  type ApplicationAction,
  type ApplicationRecord,
  applicationTable
} from "../../src/connection/internal/requestState.ts"
import {
  bodyOf,
  connect,
  exchange,
  getParams,
  type Handlers,
  opening,
  page,
  type Peer,
  play,
  type PlayServices,
  question,
  received,
  serve,
  settle,
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

// -----------------------------------------------------------------------------
// The walk
// -----------------------------------------------------------------------------

type Phase = keyof typeof applicationTable
type StreamName = "Stdin" | "Data"

/** What the peer of a walk sends under id 1, and what has to come of it. */
interface Cell {
  readonly phase: Phase
  readonly record: ApplicationRecord
  readonly role: number
  /** The stream of `Input` and `InputEnd`. */
  readonly stream: StreamName
}

const roles = ["", "a Responder", "an Authorizer", "a Filter"]
const { Authorizer, Filter, Responder } = R.Role

const hasStream = (role: number, stream: StreamName): boolean =>
  stream === "Stdin" ? role !== Authorizer : role === Filter

/** What a handler has been told, and what holds it. */
class Handler {
  readonly starts: Array<string> = []
  readonly started = Deferred.makeUnsafe<void>()
  readonly interrupted = Deferred.makeUnsafe<void>()
  /** A handler that has been interrupted waits for this. */
  readonly finalize = Deferred.makeUnsafe<void>()
  /** An Authorizer, which has no input, waits for this. */
  readonly decide = Deferred.makeUnsafe<void>()
  /** The other request waits for this. */
  readonly release = Deferred.makeUnsafe<void>()

  /** Answers with what came, when all of it has come. */
  echo(params: FastCgiParams.FastCgiParams, input: Effect.Effect<string, unknown>) {
    return Effect.suspend(() => {
      this.starts.push(params.get("EXTRA") ?? "")
      Deferred.doneUnsafe(this.started, Effect.void)
      return Effect.onInterrupt(
        input,
        () => Effect.andThen(Deferred.succeed(this.interrupted, undefined), Deferred.await(this.finalize))
      )
    })
  }

  readonly handlers: Handlers = {
    responder: ({ params, stdin }) => this.respond(params, textOf(stdin)),
    filter: ({ data, params, stdin }) =>
      this.respond(params, Effect.zipWith(textOf(stdin), textOf(data), (stdin, data) => `${stdin}|${data}`)),
    authorizer: ({ params }) =>
      Effect.map(
        this.respond(params, Effect.as(Deferred.await(this.decide), "")),
        (response) => FastCgiResponse.deny(response)
      )
  }

  private respond(params: FastCgiParams.FastCgiParams, input: Effect.Effect<string, unknown>) {
    switch (params.get("DO")) {
      case "answer":
        return Effect.succeed(FastCgiResponse.make("answered"))
      case "wait":
        return Effect.as(Deferred.await(this.release), FastCgiResponse.make("released"))
      case "break":
        return Effect.succeed(
          FastCgiResponse.make(Stream.concat(Stream.make(text("broken")), Stream.fail("on purpose")))
        )
      case "fill":
        return Effect.succeed(FastCgiResponse.make(new Uint8Array(filling)))
      default:
        return Effect.map(this.echo(params, input), (body) => FastCgiResponse.make(body))
    }
  }
}

const textOf = (stream: Stream.Stream<Uint8Array, unknown>) =>
  Effect.map(Stream.mkUint8Array(stream), (bytes) => new TextDecoder().decode(bytes))

const maxParamsSize = 1000
const filling = 200_000

const pairs = (...entries: ReadonlyArray<readonly [string, string]>) => FastCgiParams.encodePairs(entries)

/** Request 1 in its phase, and how it goes on. */
class Situation {
  readonly cell: Cell
  readonly handler: Handler
  readonly peer: Peer
  /** Records that have to come in the same read as the one that is looked at. */
  readonly before: Array<R.FastCgiRecord> = []
  /** What the walk has sent of the request's streams, and what its handler is to see of them. */
  readonly seen = { Stdin: "", Data: "" }
  readonly ended = { Stdin: false, Data: false }
  extra = ""
  paramsEnded = false
  /** Whether nothing is answered at present: the peer takes nothing, or the connection has failed. */
  isMute = false

  constructor(cell: Cell, handler: Handler, peer: Peer) {
    this.cell = cell
    this.handler = handler
    this.peer = peer
  }

  /** Sends records, and returns what has been answered to request 1 when they have been dispatched. */
  send(...records: ReadonlyArray<R.FastCgiRecord>): Effect.Effect<ReadonlyArray<R.FastCgiRecord>> {
    return this.isMute
      ? Effect.as(this.tell(...records), [])
      : Effect.map(exchange(this.peer, ...this.before.splice(0), ...records), (answers) => answers.filter(isOfRequest1))
  }

  /** Sends records. */
  tell(...records: ReadonlyArray<R.FastCgiRecord>): Effect.Effect<void> {
    return Effect.andThen(this.peer.send(...this.before.splice(0), ...records), this.isMute ? settle : Effect.void)
  }

  open(DO: string): ReadonlyArray<R.FastCgiRecord> {
    const [begin, , end] = opening(1, { role: this.cell.role })
    this.paramsEnded = true
    return [begin, R.params(1, pairs(["DO", DO])), end]
  }

  /** The next record of request 1. */
  get next(): Effect.Effect<R.FastCgiRecord> {
    return Effect.repeat(
      Effect.andThen(this.peer.setCapacity(1 << 20), received(this.peer)),
      { until: isOfRequest1 }
    )
  }

  /** The answer to request 1, which is to be that of a handler which has seen what `seen` says. */
  get answered(): Effect.Effect<void> {
    return Effect.gen({ self: this }, function*() {
      const { role } = this.cell
      yield* this.peer.setCapacity(1 << 20)
      const { stdout } = yield* this.peer.reply(1)
      const { Data, Stdin } = this.seen
      assert.strictEqual(bodyOf(stdout), role === Authorizer ? "" : role === Filter ? `${Stdin}|${Data}` : Stdin)
      assert.deepStrictEqual(this.handler.starts, [this.extra])
    })
  }

  /** Completes request 1, and looks at what its handler has seen. */
  get complete(): Effect.Effect<void> {
    return Effect.gen({ self: this }, function*() {
      const late: Array<R.FastCgiRecord> = this.paramsEnded ? [] : [R.params(1)]
      for (const stream of ["Stdin", "Data"] as const) {
        if (!hasStream(this.cell.role, stream)) continue
        // Behind the end of a stream nothing is input.
        late.push(inputOf(stream, "rest"), inputOf(stream, ""))
        if (!this.ended[stream]) this.seen[stream] += "rest"
      }
      yield* this.tell(...late)
      yield* Deferred.succeed(this.handler.decide, undefined)
      yield* this.answered
    })
  }

  /** The other request ends, and nothing of it is left. */
  get release(): Effect.Effect<void> {
    return Effect.gen({ self: this }, function*() {
      yield* Deferred.succeed(this.handler.release, undefined)
      assert.strictEqual(bodyOf((yield* this.peer.reply(2)).stdout), "released")
    })
  }
}

const isOfRequest1 = (record: R.FastCgiRecord): boolean => record.requestId === 1

const inputOf = (stream: StreamName, content: string) =>
  stream === "Stdin" ? R.stdin(1, text(content)) : R.data(1, text(content))

const other = (DO: string) => [...opening(2, { params: { DO } }), R.stdin(2)]

// Of a pipelined request the predecessor is one that is answered as soon as it is started.
const startOf = (it: Situation): string => it.cell.record === "Begin" ? "answer" : "echo"

/** How request 1 gets into a phase, and what becomes of it there when nothing else comes of the record. */
interface Recipe {
  readonly enter: (situation: Situation) => Effect.Effect<unknown, never, PlayServices>
  readonly leave: (situation: Situation) => Effect.Effect<unknown, never, PlayServices>
}

const recipes: { readonly [P in Phase]: Readonly<Record<string, Recipe>> } = {
  inactive: {
    // Its predecessor was answered before its input had come.
    "": {
      enter: (it) =>
        Effect.gen(function*() {
          yield* it.send(...it.open("answer"))
          if (it.cell.role === Filter) yield* it.peer.send(R.stdin(1))
          yield* it.peer.reply(1)
        }),
      // A connection whose peer owes input has thirty seconds to be closed, any other has one.
      leave: (it) =>
        Effect.gen(function*() {
          const last = it.cell.role === Filter ? "Data" : "Stdin"
          const owes = it.cell.role !== Authorizer && !it.ended[last]
          yield* it.peer.send(...opening(2, { keepConnection: false, params: { DO: "answer" } }), R.stdin(2))
          yield* it.peer.closed
          const { connectionsUnsafe } = yield* FastCgiAdmission.FastCgiAdmission
          yield* TestClock.adjust("2 seconds")
          yield* settle
          assert.strictEqual(connectionsUnsafe(), owes ? 1 : 0, "whether the server still waits for input")
        })
    }
  },
  params: {
    "": {
      enter: (it) =>
        it.send(R.beginRequest(1, it.cell.role, { keepConnection: true }), R.params(1, pairs(["DO", "echo"]))),
      leave: (it) => it.complete
    }
  },
  refused: {
    "": {
      enter: (it) =>
        Effect.andThen(
          it.send(R.beginRequest(1, it.cell.role, { keepConnection: true }), R.stdin(1, text("early"))),
          logged("refused FastCGI request 1: input came before the end of PARAMS")
        ),
      leave: (it) =>
        Effect.gen(function*() {
          yield* it.peer.send(R.params(1))
          yield* badRequest(it)
        })
    }
  },
  ready: {
    "within a read": {
      enter: (it) => Effect.sync(() => it.before.push(...it.open(startOf(it)))),
      leave: (it) => it.complete
    },
    "with the output full": {
      enter: (it) =>
        Effect.gen(function*() {
          const [begin, params, end] = it.open(startOf(it))
          yield* it.send(begin, params)
          yield* it.peer.setCapacity(0)
          it.isMute = true
          yield* it.send(...other("fill"))
          yield* it.send(end)
          assert.deepStrictEqual(it.handler.starts, [])
        }),
      leave: (it) => it.complete
    }
  },
  queued: {
    "": {
      enter: (it) => it.send(...other("wait"), ...it.open("echo")),
      leave: (it) =>
        Effect.gen(function*() {
          assert.deepStrictEqual(it.handler.starts, [])
          yield* it.release
          yield* it.complete
        })
    }
  },
  running: {
    "": {
      enter: (it) => Effect.andThen(it.send(...it.open("echo")), Deferred.await(it.handler.started)),
      leave: (it) => it.complete
    }
  },
  interrupted: {
    "": {
      enter: (it) =>
        Effect.gen(function*() {
          yield* it.send(...it.open("echo"))
          yield* it.send(R.abortRequest(1))
          yield* Deferred.await(it.handler.interrupted)
        }),
      leave: (it) => Effect.andThen(Deferred.succeed(it.handler.finalize, undefined), aborted(it))
    }
  },
  // A connection that has failed takes no record any more: its row is there for the whole of the table, and never looked up.
  abandoned: {
    "": {
      enter: (it) =>
        Effect.gen(function*() {
          yield* it.send(...it.open("echo"))
          yield* it.peer.sendBytes(Uint8Array.of(2, 1, 0, 1, 0, 0, 0, 0))
          yield* Deferred.await(it.handler.interrupted)
          yield* logged("closed a FastCGI connection: a record header starts with version 2, expected 1")
          it.isMute = true
        }),
      leave: (it) =>
        Effect.andThen(Deferred.succeed(it.handler.finalize, undefined), Effect.map(it.peer.drain, assertNone))
    }
  },
  withheld: {
    "": {
      enter: (it) =>
        Effect.gen(function*() {
          yield* it.send(...other("wait"), ...it.open("break"), ...(it.cell.role === Filter ? [R.stdin(1)] : []))
          yield* logged("a FastCGI handler failed after its response had begun or its client had gone")
          // The head, and what was there of the body.
          yield* it.send()
        }),
      // The connection ends with the other request, and END_REQUEST never comes.
      leave: (it) =>
        Effect.gen(function*() {
          yield* it.release
          assert.deepStrictEqual((yield* it.peer.drain).filter(isOfRequest1), [])
        })
    }
  }
}

const logged = (...messages: ReadonlyArray<string>) =>
  Effect.map(takeLogs, (logs) => assert.deepStrictEqual(logs.map(({ message }) => message), messages))

const assertNone = (records: ReadonlyArray<R.FastCgiRecord>) => assert.deepStrictEqual(records, [])

const badRequest = (it: Situation) =>
  Effect.gen(function*() {
    assert.match((yield* it.peer.reply(1)).stdout, /^Status: 400 Bad Request\r\n/)
    assert.deepStrictEqual(it.handler.starts, [])
  })

/** END_REQUEST of a request that was aborted. */
const aborted = (it: Situation) =>
  Effect.gen(function*() {
    // SPEC 6.2: no STDOUT before the end of PARAMS.
    if (it.paramsEnded) assert.deepStrictEqual(yield* it.next, R.stdout(1))
    assert.deepStrictEqual(yield* it.next, R.endRequest(1, 1, 0))
  })

const sample = ({ record, role, stream }: Cell): R.FastCgiRecord => {
  switch (record) {
    case "Begin":
      return R.beginRequest(1, role, { keepConnection: true })
    case "Params":
      return R.params(1, pairs(["EXTRA", "extra"]))
    case "ParamsEnd":
      return R.params(1)
    case "Input":
      return inputOf(stream, "input")
    case "InputEnd":
      return inputOf(stream, "")
    case "Abort":
      return R.abortRequest(1)
  }
}

/** What comes of a record: what the peer and the handler see. */
const outcomes: {
  readonly [A in ApplicationAction]: (
    it: Situation,
    leave: Recipe["leave"]
  ) => Effect.Effect<unknown, never, PlayServices>
} = {
  begin: (it) =>
    Effect.gen(function*() {
      assertNone(yield* it.send(sample(it.cell), R.params(1, pairs(["DO", "echo"]))))
      it.paramsEnded = false
      yield* it.complete
    }),
  retry: (it) =>
    Effect.gen(function*() {
      yield* it.tell(sample(it.cell), R.params(1, pairs(["DO", "echo"])))
      yield* it.peer.setCapacity(1 << 20)
      assert.strictEqual(bodyOf((yield* it.peer.reply(1)).stdout), "answered")
      it.paramsEnded = false
      yield* it.complete
    }),
  break: (it) =>
    Effect.gen(function*() {
      const wasRunning = it.handler.starts.length > 0
      yield* it.tell(sample(it.cell))
      assert.deepStrictEqual((yield* it.peer.drain).filter(isOfRequest1), [])
      yield* logged("closed a FastCGI connection: BEGIN_REQUEST for request 1, which has not ended")
      if (wasRunning) yield* Deferred.await(it.handler.interrupted)
      else assert.deepStrictEqual(it.handler.starts, [])
    }),
  decode: (it, leave) =>
    Effect.gen(function*() {
      assertNone(yield* it.send(sample(it.cell)))
      it.extra = "extra"
      yield* leave(it)
    }),
  admit: (it, leave) =>
    Effect.gen(function*() {
      assertNone(yield* it.send(sample(it.cell)))
      yield* Deferred.await(it.handler.started)
      it.paramsEnded = true
      yield* leave(it)
    }),
  count: (it) =>
    Effect.gen(function*() {
      const { length } = pairs(["EXTRA", "extra"])
      assertNone(yield* it.send(sample(it.cell), R.params(1, new Uint8Array(2 * maxParamsSize - length))))
      yield* logged()
      yield* it.peer.send(R.params(1, new Uint8Array(1)))
      assertNone(yield* it.peer.drain)
      yield* logged(
        `closed a FastCGI connection: PARAMS of request 1 go on after ${2 * maxParamsSize + 1} bytes (maxParamsSize)`
      )
    }),
  answer: (it) => Effect.andThen(it.peer.send(sample(it.cell)), badRequest(it)),
  refuse: (it) =>
    Effect.gen(function*() {
      assertNone(yield* it.send(sample(it.cell)))
      yield* logged("refused FastCGI request 1: input came before the end of PARAMS")
      yield* recipes.refused[""].leave(it)
    }),
  offer: (it, leave) =>
    Effect.gen(function*() {
      assertNone(yield* it.send(sample(it.cell)))
      const { role, stream } = it.cell
      if (hasStream(role, stream)) it.seen[stream] += "input"
      yield* leave(it)
    }),
  complete: (it, leave) =>
    Effect.gen(function*() {
      // It may be answered at once.
      yield* it.tell(sample(it.cell))
      it.ended[it.cell.stream] = true
      yield* leave(it)
    }),
  forget: (it, leave) =>
    Effect.gen(function*() {
      assertNone(yield* it.send(sample(it.cell)))
      it.ended[it.cell.stream] = true
      yield* leave(it)
    }),
  abort: (it) =>
    Effect.gen(function*() {
      const { phase } = it.cell
      yield* it.tell(sample(it.cell))
      yield* aborted(it)
      if (phase === "queued" || phase === "withheld") yield* it.release
      // A response that broke off takes the connection with it all the same, when it is idle.
      if (phase === "withheld") return yield* it.peer.closed
      yield* it.send(...it.open("answer"))
      assert.strictEqual(bodyOf((yield* it.peer.reply(1)).stdout), "answered")
      assert.deepStrictEqual(it.handler.starts, [])
    }),
  interrupt: (it) =>
    Effect.gen(function*() {
      assertNone(yield* it.send(sample(it.cell)))
      yield* Deferred.await(it.handler.interrupted)
      yield* recipes.interrupted[""].leave(it)
    }),
  ignore: (it, leave) =>
    Effect.gen(function*() {
      assertNone(yield* it.send(sample(it.cell)))
      yield* leave(it)
    })
}

const records = Object.keys(applicationTable.inactive) as ReadonlyArray<ApplicationRecord>

/** The cells of a row: input in every stream of every role. */
const cellsOf = (phase: Phase): ReadonlyArray<Cell> =>
  records.flatMap((record) =>
    (record === "Input" || record === "InputEnd" ? inputs : [[Responder, "Stdin"] as const]).map(([role, stream]) => ({
      phase,
      record,
      role,
      stream
    }))
  )

const inputs: ReadonlyArray<readonly [role: number, stream: StreamName]> = [
  [Responder, "Stdin"],
  [Responder, "Data"],
  [Authorizer, "Stdin"],
  [Filter, "Stdin"],
  [Filter, "Data"]
]

describe("a record of a request does what the table says", () => {
  for (const phase of Object.keys(applicationTable) as ReadonlyArray<Phase>) {
    for (const [how, recipe] of Object.entries(recipes[phase])) {
      for (const cell of cellsOf(phase)) {
        const { record, role, stream } = cell
        const action: ApplicationAction = applicationTable[phase][record]
        const handler = new Handler()
        const what = record === "Input" || record === "InputEnd" ? `${record} (${stream}, ${roles[role]})` : record
        play(
          `${what} | ${phase}${how === "" ? "" : `, ${how}`} | ${action}`,
          serve(handler.handlers, { maxParamsSize, admission: phase === "queued" ? { concurrency: 1 } : undefined }),
          () =>
            Effect.gen(function*() {
              const situation = new Situation(cell, handler, yield* connect)
              yield* recipe.enter(situation)
              yield* outcomes[action](situation, recipe.leave)
            }).pipe(Effect.ensuring(Effect.sync(() => {
              Deferred.doneUnsafe(handler.finalize, Effect.void)
              Deferred.doneUnsafe(handler.release, Effect.void)
            })))
        )
      }
    }
  }
})
