/**
 * What a case is: a row of the specification's checklist, what is done, and what has to come.
 */
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import { ProtocolStatus, Role } from "../protocol/FastCgiRecord.ts"
import { describe, NotApplicable, type Peer, type Reply, Unmet } from "./Peer.ts"
import * as Wire from "./wire.ts"

/**
 * How much a row binds:
 *
 * - `must`: the specification says so
 * - `should`: the specification recommends it, or all front ends rely on it
 * - `open`: the specification leaves it open; anything passes that neither hangs nor kills the server, and what came is told
 */
export type Level = "must" | "should" | "open"

/** The parts of an application that a case may need; see docs/conformance.md. */
export type Endpoint =
  | "/echo"
  | "/length"
  | "/params"
  | "/sleep"
  | "/large"
  | "/counters"
  | "/stderr"
  | "/appstatus"
  | "/nothing"
  | "authorizer"
  | "filter"

/** What handlers have done so far, as /counters tells. */
export interface Counters {
  readonly started: number
  readonly ended: number
  readonly aborted: number
}

/** The server under test, for cases. */
export interface Subject {
  /** How long to wait for an expected answer. */
  readonly deadline: Duration.Duration
  /** How long what takes long may take: five times the deadline. */
  readonly patience: Duration.Duration
  /** How long is waited to see that nothing comes. */
  readonly quiet: Duration.Duration
  /** What the server answered to GET_VALUES; nothing when it did not. */
  readonly values: ReadonlyMap<string, string>
  readonly endpoints: ReadonlySet<Endpoint>
  /** Opens a connection, which is closed with the case. */
  readonly connect: Effect.Effect<Peer, Unmet, Scope.Scope>
  readonly counters: Effect.Effect<Counters, Unmet>
  /**
   * Runs the effect, and tells by how many bytes the server's memory has grown meanwhile, at most; `undefined` when its
   * process is not known.
   */
  readonly measureMemory: <A, E, R>(
    effect: Effect.Effect<A, E, R>
  ) => Effect.Effect<readonly [result: A, growth: number | undefined], E, R>
}

/** Succeeds with what came. */
export type Run = (subject: Subject) => Effect.Effect<string, Unmet | NotApplicable, Scope.Scope>

/** One case. */
export interface Case {
  /** The checklist's row. */
  readonly row: string
  readonly level: Level
  /** What is done and has to come, in a sentence. */
  readonly title: string
  readonly needs: ReadonlyArray<Endpoint>
  readonly run: Run
}

type Steps = (subject: Subject) => Generator<Effect.Effect<unknown, Unmet | NotApplicable, Scope.Scope>, string, never>

const makeCase =
  (level: Level) => (row: string, title: string, needs: ReadonlyArray<Endpoint>, steps: Steps): Case => ({
    row,
    level,
    title,
    needs,
    run: (subject) => Effect.gen(() => steps(subject))
  })

export const must = makeCase("must")
export const should = makeCase("should")
export const open = makeCase("open")

/** Fails with what came unless the condition holds. */
export const expect = (condition: boolean, message: string): Effect.Effect<void, Unmet> =>
  condition ? Effect.void : Effect.fail(new Unmet({ message }))

/** What a reply has to be. */
export interface Expected {
  /** Default 200. */
  readonly status?: number | undefined
  /** The body. Default any. */
  readonly body?: Uint8Array | string | undefined
  /** Default 0. */
  readonly appStatus?: number | undefined
}

/** Fails unless the reply is complete and as expected. */
export const answered = (reply: Reply, expected?: Expected, what?: string): Effect.Effect<string, Unmet> => {
  const prefix = what === undefined ? "" : `${what}: `
  const came = describe(reply)
  const body = typeof expected?.body === "string" ? Wire.utf8(expected.body) : expected?.body
  if (
    reply.outcome !== "ended" || reply.protocolStatus !== ProtocolStatus.RequestComplete ||
    reply.status !== (expected?.status ?? 200) || reply.appStatus !== (expected?.appStatus ?? 0)
  ) {
    return Effect.fail(new Unmet({ message: prefix + came }))
  }
  if (body !== undefined && !Wire.equal(reply.body, body)) {
    return Effect.fail(
      new Unmet({
        message: reply.body.length === body.length
          ? `${prefix}${came}, other bytes than expected`
          : `${prefix}${came}, ${body.length} expected`
      })
    )
  }
  return Effect.succeed(prefix + came)
}

/** Sends a request with a body on the connection and expects the echo. */
export const serves = (peer: Peer, id = 1, what = "the next request"): Effect.Effect<string, Unmet> => {
  const body = Wire.utf8(`request ${id}`)
  return Effect.andThen(
    peer.send(Wire.request({ id, stdin: body })),
    Effect.flatMap(peer.reply(id), (reply) => answered(reply, { body }, what))
  )
}

/** Opens another connection and expects an answer there. */
export const servesElsewhere = (subject: Subject, what = "another connection"): Effect.Effect<string, Unmet> =>
  Effect.scoped(Effect.flatMap(subject.connect, (peer) => serves(peer, 1, what)))

/** Says what became of bytes that are no good, or that the specification says nothing about. */
export const aftermath = (peer: Peer, id: number): Effect.Effect<string> => Effect.map(peer.reply(id), describe)

/** The lines of /params: name and value, as one character a byte. */
export const paramsOf = (reply: Reply): ReadonlyMap<string, string> => {
  const params = new Map<string, string>()
  for (const line of Wire.latin1(reply.body).split("\n")) {
    const pair = /^([0-9a-f]*)=([0-9a-f]*)$/i.exec(line.trim())
    if (pair !== null) params.set(unhex(pair[1]), unhex(pair[2]))
  }
  return params
}

/** Fails unless /params has told these values, one character a byte. */
export const expectParams = (
  reply: Reply,
  expected: Iterable<readonly [name: string, value: string]>
): Effect.Effect<string, Unmet> =>
  Effect.andThen(
    answered(reply),
    Effect.suspend(() => {
      const params = paramsOf(reply)
      let count = 0
      for (const [name, value] of expected) {
        count++
        const came = params.get(name)
        const wanted = `${brief(name)} = ${brief(value)}`
        if (came === undefined) return Effect.fail(new Unmet({ message: `${wanted} is missing` }))
        if (came !== value) return Effect.fail(new Unmet({ message: `${wanted} came as ${brief(came)}` }))
      }
      return Effect.succeed(`${count} ${count === 1 ? "param" : "params"} as sent`)
    })
  )

/** Whether the server says that it multiplexes; `undefined` when it does not say. */
export const multiplexes = (subject: Subject): boolean | undefined => {
  const value = subject.values.get("FCGI_MPXS_CONNS")
  return value === undefined ? undefined : value !== "0"
}

/** Not applicable unless the server takes several requests at a time on a connection. */
export const requireMultiplexing = (subject: Subject): Effect.Effect<void, NotApplicable> =>
  multiplexes(subject) === false
    ? Effect.fail(new NotApplicable({ message: "FCGI_MPXS_CONNS is 0" }))
    : Effect.void

/** The roles of SPEC 8. */
export { Role }

const unhex = (hex: string): string => hex.replace(/../g, (pair) => String.fromCharCode(Number.parseInt(pair, 16)))

const brief = (text: string): string => {
  // oxlint-disable-next-line no-control-regex -- everything that a terminal would not show
  const printable = text.replace(/[^\x20-\x7e]/g, ".")
  return printable.length <= 24 ? `"${printable}"` : `"${printable.slice(0, 16)}…" (${text.length} bytes)`
}
