/**
 * Plays between a server in memory and scripted peers, and what has to be true after every one of them.
 */
import { assert, it } from "@effect/vitest"
import {
  FastCgiAdmission,
  FastCgiParams,
  FastCgiRecord,
  type FastCgiRequest,
  FastCgiServer,
  type FastCgiServerOptions
} from "effect-fastcgi"
import { FastCgiTest } from "effect-fastcgi/testing"
import * as Cause from "effect/Cause"
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import { identity } from "effect/Function"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as Metric from "effect/Metric"
import * as Pull from "effect/Pull"
import { CurrentLogAnnotations } from "effect/References"
import type * as Scope from "effect/Scope"
import * as TestClock from "effect/testing/TestClock"
import { inject } from "vitest"
import type { WayName } from "../../support/everyWay.ts"
import { isLeftOut } from "../../support/everyWay.ts"
import { arrived, isUnderWay, overStdio } from "../../support/relayed.ts"
import { carried, type Carry, overChannel, overSocket, serveChannels } from "../../support/ways.ts"
import { withinMemory } from "../../support/within.ts"

export type Record = FastCgiRecord.FastCgiRecord
export type Peer = FastCgiTest.Peer
export type Responder = FastCgiRequest.Responder

export interface ServeOptions extends FastCgiServerOptions.FastCgiServerOptions {
  readonly admission?: FastCgiAdmission.FastCgiAdmissionOptions | undefined
}

export type Handlers = FastCgiServer.Handlers<
  unknown,
  Scope.Scope | FastCgiRequest.CurrentResponder,
  unknown,
  Scope.Scope | FastCgiRequest.CurrentAuthorizer,
  unknown,
  Scope.Scope | FastCgiRequest.CurrentFilter
>

/** How a server gets its connections. */
interface Way {
  readonly serve: typeof FastCgiServer.serve
  /** Fibers of a server without connections: one accepts them. */
  readonly idleFibers: number
  /** Waits for bytes that are on their way, where that takes real time. */
  readonly arrived?: Effect.Effect<void>
}

const over = (carry: Carry): Way => ({
  serve: (handlers, options) => FastCgiServer.serve(handlers, options).pipe(Layer.provide(carried(carry))),
  idleFibers: 1
})

const ways: { readonly [Name in WayName]: Way } = {
  "over the transport": { serve: FastCgiServer.serve, idleFibers: 1 },
  "over a channel": over(overChannel),
  "over an Effect socket": over(overSocket),
  "over the stdio of a child": { ...over(overStdio), arrived },
  "as a bare channel": { serve: serveChannels, idleFibers: 2 }
}

// Every project of vitest.config.ts plays over one.
const way = ways[inject("way")]

/** Fibers of a server that has nothing to do. */
export const idleFibers = way.idleFibers

/** A server in memory. */
export const serve = (handlers: Handlers, options?: ServeOptions) =>
  way.serve(handlers, options).pipe(
    Layer.provideMerge([FastCgiTest.layerMemory, FastCgiAdmission.layer(options?.admission)])
  )

export interface Logged {
  readonly level: string
  readonly message: string
  readonly cause: string
  readonly annotations: { readonly [name: string]: unknown }
}

/** What can be seen of a server from the inside. */
export class Observed extends Context.Service<Observed, {
  /** What has been logged and not been taken. */
  readonly logs: Array<Logged>
  /** Fibers of the server that have not ended. */
  readonly fibers: () => number
}>()("effect-fastcgi/test/Observed") {}

/** What has been logged since the last time. What nobody takes fails the play. */
export const takeLogs = Effect.map(Observed, ({ logs }) => logs.splice(0))

export type PlayServices = FastCgiTest.FastCgiMemory | FastCgiAdmission.FastCgiAdmission | Observed | Scope.Scope

const turns = Effect.repeat(Effect.yieldNow, { times: 40 })

/** Lets everything run that can run without time passing. */
export const settle: Effect.Effect<void> = way.arrived === undefined
  ? turns
  // What arrives may be answered.
  : Effect.repeat(Effect.andThen(way.arrived, turns), { while: isUnderWay })

/** The clock, which moves when nothing is on its way. */
const settled = (clock: Clock.Clock): Clock.Clock => {
  const testClock = clock as TestClock.TestClock
  return Object.create(testClock, {
    adjust: { value: (duration: Duration.Input) => Effect.andThen(settle, testClock.adjust(duration)) },
    setTime: { value: (timestamp: number) => Effect.andThen(settle, testClock.setTime(timestamp)) }
  }) as TestClock.TestClock
}

/** A server's layer, observed. */
export const observe = <A, E, R>(layer: Layer.Layer<A, E, R>): Layer.Layer<A | Observed, E, R> => {
  const logs: Array<Logged> = []
  let fibers = 0
  const logger = Logger.make(({ cause, fiber, logLevel, message }) => {
    const text = (Array.isArray(message) ? message : [message]).map(String).join(" ")
    // TestClock's own remark about a test that takes longer than a second of real time, as on a busy machine.
    if (text.startsWith("A test is using time")) return
    logs.push({
      level: logLevel,
      message: text,
      cause: cause.reasons.length === 0 ? "" : Cause.pretty(cause),
      annotations: fiber.getRef(CurrentLogAnnotations)
    })
  })
  return Layer.provideMerge(
    layer.pipe(
      Layer.provide([
        Logger.layer([logger]),
        Layer.succeed(Metric.FiberRuntimeMetrics)({
          recordFiberStart: () => {
            fibers++
          },
          recordFiberEnd: () => {
            fibers--
          }
        })
      ])
    ),
    Layer.succeed(Observed, { logs, fibers: () => fibers })
  )
}

/**
 * How many fibers the server has when nothing is left to do. The timer of connections that close, which is shared and left to
 * ring, rings a second after the last of them.
 */
export const fibersAtRest = Effect.gen(function*() {
  const { fibers } = yield* Observed
  yield* settle
  if (fibers() > idleFibers) {
    yield* TestClock.adjust("1 second")
    yield* settle
  }
  return fibers()
})

/** Fails unless the server is as if nothing had ever happened. */
export const assertIdle = Effect.gen(function*() {
  yield* settle
  const admission = yield* FastCgiAdmission.FastCgiAdmission
  const observed = yield* Observed
  if (way.arrived !== undefined) {
    // That the last peer has gone is told by processes, whose end nobody sees coming.
    const gone = Effect.repeat(settle, { while: () => admission.connectionsUnsafe() > 0 })
    yield* withinMemory("the end of the server's connections")(gone)
  }
  assert.deepStrictEqual(observed.logs, [], "logged")
  assert.strictEqual(admission.requestsUnsafe(), 0, "open requests")
  assert.strictEqual(admission.connectionsUnsafe(), 0, "open connections")
  assert.strictEqual(yield* fibersAtRest, idleFibers, "fibers of the server")
  assert.deepStrictEqual(observed.logs, [], "logged")
})

/**
 * A test with a server. When the play has ended and its peers have closed, nothing may be left of it: no request, no
 * connection, no fiber (and so no timer), and nothing logged that the play has not taken. A play that hangs says what one of its
 * peers waits for, or what the server is busy with.
 */
export const play = <E>(
  name: string,
  server: Layer.Layer<FastCgiTest.FastCgiMemory | FastCgiAdmission.FastCgiAdmission>,
  body: () => Effect.Effect<unknown, E, PlayServices>
): void => {
  if (isLeftOut(name, inject("way"))) return it.skip(name, () => {})
  it.effect(name, () =>
    Effect.gen(function*() {
      const memory = yield* FastCgiTest.FastCgiMemory
      const admission = yield* FastCgiAdmission.FastCgiAdmission
      const observed = yield* Observed
      const state = () =>
        `the end of the play. The server has ${admission.connectionsUnsafe()} connections, ${admission.requestsUnsafe()} ` +
        `requests and ${observed.fibers()} fibers, ${idleFibers} of them when it is idle; logged: ` +
        JSON.stringify(observed.logs)
      yield* Effect.suspend(body).pipe(
        Effect.scoped,
        way.arrived === undefined ? identity : Effect.updateService(Clock.Clock, settled),
        Effect.provideService(FastCgiTest.FastCgiMemory, limited(memory)),
        withinMemory(state, 100, 6)
      )
      yield* assertIdle
    }).pipe(Effect.provide(observe(server))), 110_000)
}

/** The same with peers that do not wait for ever. */
const limited = (memory: FastCgiTest.FastCgiMemory["Service"]): FastCgiTest.FastCgiMemory["Service"] => ({
  ...memory,
  peer: Effect.map(memory.peer, limitedPeer),
  peerFrom: (address) => Effect.map(memory.peerFrom(address), limitedPeer)
})

const limitedPeer = (peer: Peer): Peer => {
  let last = "nothing"
  const what = () => `a record or the end of the connection from the server, after ${last}`
  const receive = Effect.tap(withinMemory(what)(peer.receive), (record) =>
    Effect.sync(() => {
      last = `${record._tag} of request ${"requestId" in record ? record.requestId : 0}`
    }))
  // The other methods, which wait by these two.
  return Object.create(peer, {
    receive: { value: receive },
    receiveBytes: { value: withinMemory("bytes or the end of the connection from the server")(peer.receiveBytes) },
    drain: { value: drained(receive) }
  }) as Peer
}

const drained = (receive: Peer["receive"]): Peer["drain"] =>
  Effect.suspend(() => {
    const all: Array<Record> = []
    return Effect.forever(Effect.map(receive, (record) => all.push(record))).pipe(
      Pull.catchDone(() => Effect.succeed(all))
    )
  })

/** Connects a peer. */
export const connect = Effect.flatMap(FastCgiTest.FastCgiMemory, (memory) => memory.peer)

/**
 * GET_VALUES for a name that nobody knows: what is sent to know that everything before it has been dispatched. Its answer
 * is empty, and so not to be mistaken for what a server says unasked.
 */
export const question = FastCgiRecord.getValues(FastCgiParams.encodePairs([["QUESTION", ""]]))

/** Everything that the server sends up to the answer to a question that is asked now. */
export const untilAnswered = (peer: Peer): Effect.Effect<ReadonlyArray<Record>> =>
  Effect.gen(function*() {
    yield* peer.send(question)
    const records: Array<Record> = []
    for (;;) {
      const record = yield* received(peer)
      if (record._tag === "GetValuesResult" && record.content.length === 0) return records
      records.push(record)
    }
  })

/** Sends, and returns everything that the server sends up to the point where it has dispatched it. */
export const exchange = (peer: Peer, ...records: ReadonlyArray<Record>): Effect.Effect<ReadonlyArray<Record>> =>
  Effect.andThen(peer.send(...records), untilAnswered(peer))

/** The next record; dies when the server has closed. */
export const received = (peer: Peer): Effect.Effect<Record> =>
  Pull.catchDone(peer.receive, () => Effect.die(new Error("the server has closed")))

/** The params of a GET of `/`. */
export const getParams = FastCgiParams.encodePairs([
  ["REQUEST_METHOD", "GET"],
  ["REQUEST_URI", "/"],
  ["SERVER_PROTOCOL", "HTTP/1.1"]
])

export interface Opening {
  readonly role?: number
  readonly keepConnection?: boolean
  readonly params?: Readonly<globalThis.Record<string, string>>
}

/** BEGIN_REQUEST and PARAMS, complete. */
export const opening = (id: number, options: Opening = {}): ReadonlyArray<Record> => [
  FastCgiRecord.beginRequest(id, options.role ?? FastCgiRecord.Role.Responder, {
    keepConnection: options.keepConnection ?? true
  }),
  FastCgiRecord.params(
    id,
    options.params === undefined ? getParams : FastCgiParams.encodePairs(Object.entries(options.params))
  ),
  FastCgiRecord.params(id)
]

export const tags = (records: ReadonlyArray<Record>): ReadonlyArray<string> =>
  records.map((record) => `${record._tag} ${record.requestId}`)

export const bytes = (length: number, seed = 0): Uint8Array => {
  const content = new Uint8Array(length)
  for (let i = 0; i < length; i++) content[i] = (i * 31 + (i >>> 8) * 7 + seed) & 0xff
  return content
}

/** What a response of `FastCgiResponse.make(text)` looks like on STDOUT. */
export const page = (text: string): string => `Status: 200 OK\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n${text}`

/** The body behind the header block. */
export const bodyOf = (stdout: string): string => stdout.slice(stdout.indexOf("\r\n\r\n") + 4)
