/**
 * The conformance suite: plays the web server against a FastCGI server, a case for every row of the specification's
 * checklist that can be seen from outside, and says what came.
 *
 * It depends on bytes and time only: whatever makes a `FastCgiTransport` can be tried, a socket or a pair in memory. The
 * server runs an application with the endpoints that docs/conformance.md describes.
 */
import * as Clock from "effect/Clock"
import * as Data from "effect/Data"
import * as DateTime from "effect/DateTime"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import type * as Scope from "effect/Scope"
import type { FastCgiTransport } from "../connection/FastCgiTransport.ts"
import * as FastCgiParams from "../protocol/FastCgiParams.ts"
import { RecordType, Role } from "../protocol/FastCgiRecord.ts"
import type { Case, Counters, Endpoint, Level, Subject } from "./Case.ts"
import { aborts } from "./cases/aborts.ts"
import { connections } from "./cases/connections.ts"
import { framing } from "./cases/framing.ts"
import { management } from "./cases/management.ts"
import { multiplexing } from "./cases/multiplexing.ts"
import { pairs } from "./cases/pairs.ts"
import { robustness } from "./cases/robustness.ts"
import { roles } from "./cases/roles.ts"
import { Peer, Unmet } from "./Peer.ts"
import * as Wire from "./wire.ts"

/** All cases, in the order of the specification. */
export const cases: ReadonlyArray<Case> = [
  ...framing,
  ...pairs,
  ...connections,
  ...management,
  ...multiplexing,
  ...aborts,
  ...roles,
  ...robustness
]

/**
 * What became of a case:
 *
 * - `pass`: what has to come came; for a row that the specification leaves open, the server lives
 * - `fail`: a "must" was not met, or the server died of a case
 * - `warn`: a "should" was not met
 * - `n/a`: the application lacks an endpoint, or the server says that it does not do this
 * - `skipped`: the server could not be reached any more
 */
export type Result = "pass" | "fail" | "warn" | "n/a" | "skipped"

/** One line of the report. */
export interface Line {
  /** The checklist's row. */
  readonly row: string
  /** The section of the specification. */
  readonly section: string
  readonly level: Level
  readonly title: string
  readonly result: Result
  /** What came, in a few words. */
  readonly came: string
  readonly milliseconds: number
}

/** Everything that is known after a run. */
export interface Report {
  /** What was tried: name and version, as given. */
  readonly server: string
  /** When, in UTC. */
  readonly date: string
  /** What GET_VALUES answered. */
  readonly values: Readonly<Record<string, string>>
  /** What the application can do. */
  readonly endpoints: ReadonlyArray<Endpoint>
  readonly lines: ReadonlyArray<Line>
}

/** The process of the server, where it is known. */
export interface SubjectProcess {
  /** How it has ended, in words; `undefined` while it runs. */
  readonly ended: Effect.Effect<string | undefined>
  /** Starts it again after it has ended, or is stuck. */
  readonly restart: Effect.Effect<void> | undefined
  /** Bytes of memory in use; `undefined` when the system does not tell. Starts a new measure of `peak`. */
  readonly memory: Effect.Effect<number | undefined>
  /** The most bytes of memory in use since `memory`. */
  readonly peak: Effect.Effect<number | undefined>
}

/** Options of `run`. */
export interface Options {
  /** Opens a connection to the server. */
  readonly connect: Effect.Effect<FastCgiTransport, { readonly message: string }, Scope.Scope>
  /** Default "unnamed". */
  readonly server?: string | undefined
  /** Rows to try, by the beginning of their ids. Default all. */
  readonly only?: ReadonlyArray<string> | undefined
  /** How long to wait for an expected answer. Default 2 seconds. */
  readonly deadline?: Duration.Input | undefined
  /** How long is waited to see that nothing comes. Default 100 milliseconds. */
  readonly quiet?: Duration.Input | undefined
  /** How long a server that answers nobody is waited for. Default five times the deadline. */
  readonly recovery?: Duration.Input | undefined
  readonly process?: SubjectProcess | undefined
  /** Called with every line as soon as it is known. */
  readonly onLine?: ((line: Line) => Effect.Effect<void>) | undefined
}

/** The server cannot be tried: there is no connection, or the application has no /echo. */
export class ConformanceError extends Data.TaggedError("ConformanceError")<{ readonly message: string }> {}

/**
 * Runs the cases one after the other. After each the server has to answer a request on a new connection; when it does
 * not, the case has failed, whatever came, and the server is started anew where that is possible.
 */
export const run = (options: Options): Effect.Effect<Report, ConformanceError> =>
  Effect.gen(function*() {
    const deadline = Duration.fromInputUnsafe(options.deadline ?? "2 seconds")
    const quiet = Duration.fromInputUnsafe(options.quiet ?? "100 millis")
    const patience = Duration.times(deadline, 5)
    const recovery = Duration.fromInputUnsafe(options.recovery ?? patience)
    const connect = Effect.mapBoth(options.connect, {
      onSuccess: (transport) => new Peer(transport, deadline),
      onFailure: () => new Unmet({ message: "no connection is accepted any more" })
    })

    const reachable = yield* Effect.result(Effect.scoped(options.connect))
    if (reachable._tag === "Failure") return yield* new ConformanceError({ message: reachable.failure.message })
    const first = yield* Effect.result(probe(connect))
    if (first._tag === "Failure") {
      return yield* new ConformanceError({
        message: `${first.failure.message}. docs/conformance.md says what the application has to do.`
      })
    }
    const endpoints = yield* survey(connect)
    const values = yield* askValues(connect)
    const subject: Subject = {
      deadline,
      quiet,
      patience,
      values,
      endpoints,
      connect,
      counters: counters(connect),
      measureMemory: measureMemory(options.process)
    }

    const lines: Array<Line> = []
    const add = (one: Case, result: Result, came: string, milliseconds: number) => {
      const { level, row, title } = one
      const line: Line = { row, section: sectionOf(row), level, title, result, came, milliseconds }
      lines.push(line)
      return options.onLine?.(line) ?? Effect.void
    }
    let lost: string | undefined
    for (const one of cases) {
      if (options.only !== undefined && !options.only.some((prefix) => one.row.startsWith(prefix))) continue
      if (lost !== undefined) {
        yield* add(one, "skipped", lost, 0)
        continue
      }
      const lacking = one.needs.find((endpoint) => !endpoints.has(endpoint))
      if (lacking !== undefined) {
        yield* add(one, "n/a", `the application has no ${lacking}`, 0)
        continue
      }
      const start = yield* Clock.currentTimeMillis
      const verdict = yield* judge(one, subject)
      const milliseconds = (yield* Clock.currentTimeMillis) - start
      const harm = yield* damage(connect, options.process, recovery)
      if (harm === undefined) {
        yield* add(one, verdict.result, verdict.came, milliseconds)
      } else {
        yield* add(one, "fail", `${verdict.came}; ${harm.came}`, milliseconds)
        if (!harm.recovered) lost = "the server is gone"
      }
    }
    return {
      server: options.server ?? "unnamed",
      date: DateTime.formatIso(yield* DateTime.now).slice(0, 16),
      values: Object.fromEntries(values),
      endpoints: [...endpoints],
      lines
    }
  })

/** How many lines of a report have each result. */
export const totals = (report: Report): Readonly<Record<Result, number>> => {
  const count = { pass: 0, fail: 0, warn: 0, "n/a": 0, skipped: 0 }
  for (const line of report.lines) count[line.result]++
  return count
}

// -----------------------------------------------------------------------------
// Internal
// -----------------------------------------------------------------------------

type Connect = Subject["connect"]

// "3.3-d" is of section 3.3, "B-1" of appendix B.
const sectionOf = (row: string): string => row.slice(0, row.indexOf("-"))

// The longest that a case may take, in deadlines: everything in a case has its own limit, this is for what was forgotten.
const caseLimit = 30

const judge = (one: Case, subject: Subject): Effect.Effect<{ readonly result: Result; readonly came: string }> =>
  Effect.suspend(() => one.run(subject)).pipe(
    Effect.scoped,
    Effect.timeoutOrElse({
      duration: Duration.times(subject.deadline, caseLimit),
      orElse: () => Effect.fail(new Unmet({ message: "the case did not come to an end" }))
    }),
    Effect.match({
      onSuccess: (came) => ({ result: "pass" as const, came }),
      onFailure: (error) =>
        error._tag === "NotApplicable"
          ? { result: "n/a" as const, came: error.message }
          : { result: one.level === "should" ? "warn" as const : "fail" as const, came: error.message }
    })
  )

// A request on a new connection is answered.
const probe = (connect: Connect): Effect.Effect<void, Unmet> =>
  Effect.scoped(Effect.gen(function*() {
    const peer = yield* connect
    yield* peer.send(Wire.request({ uri: "/echo", keep: false, stdin: Wire.utf8("probe") }))
    const reply = yield* peer.reply(1)
    if (reply.status === 404) {
      return yield* new Unmet({
        message:
          "the application has no /echo: it answers 404. The suite needs an application that goes by REQUEST_URI; " +
          "php-fpm, which runs what SCRIPT_FILENAME names, cannot be tried"
      })
    }
    if (reply.outcome !== "ended" || Wire.latin1(reply.body) !== "probe") {
      return yield* new Unmet({ message: "the server does not answer POST /echo with the body it gets" })
    }
  }))

// What the case did to the server; nothing when it still answers.
const damage = (
  connect: Connect,
  process: SubjectProcess | undefined,
  recovery: Duration.Duration
): Effect.Effect<{ readonly came: string; readonly recovered: boolean } | undefined> =>
  Effect.gen(function*() {
    const hasEnded = process === undefined ? Effect.succeed(undefined) : process.ended
    if ((yield* hasEnded) === undefined && (yield* Effect.result(probe(connect)))._tag === "Success") return undefined
    // Until it answers, or has ended: that may be known a little later than that nobody listens.
    const again: Effect.Effect<string | undefined> = Effect.flatMap(hasEnded, (how) =>
      how !== undefined ? Effect.succeed(how) : Effect.matchEffect(probe(connect), {
        onSuccess: () =>
          Effect.succeed(undefined),
        onFailure: () => Effect.andThen(Effect.sleep(50), again)
      }))
    const found = yield* Effect.timeoutOption(again, recovery)
    if (Option.isSome(found) && found.value === undefined) {
      return { came: "then the server answered nobody for a while", recovered: true }
    }
    const came = Option.isSome(found)
      ? `then the server was gone (${found.value})`
      : "then the server answered nobody any more"
    if (process?.restart !== undefined) {
      yield* process.restart
    }
    const answers: Effect.Effect<void> = Effect.catch(
      probe(connect),
      () =>
        Effect.andThen(Effect.sleep(50), answers)
    )
    return { came, recovered: Option.isSome(yield* Effect.timeoutOption(answers, recovery)) }
  })

const requests: ReadonlyArray<readonly [Endpoint, Wire.RequestOptions, Uint8Array]> = [
  ["/echo", { uri: "/echo" }, Wire.nothing],
  ["/length", { uri: "/length" }, Wire.nothing],
  ["/params", { uri: "/params" }, Wire.nothing],
  ["/sleep", { uri: "/sleep?ms=0" }, Wire.nothing],
  ["/large", { uri: "/large?n=1" }, Wire.nothing],
  ["/counters", { uri: "/counters" }, Wire.nothing],
  ["/stderr", { uri: "/stderr" }, Wire.nothing],
  ["/appstatus", { uri: "/appstatus?n=0" }, Wire.nothing],
  ["/nothing", { uri: "/nothing" }, Wire.nothing],
  ["authorizer", { uri: "/allow", role: Role.Authorizer }, Wire.nothing],
  [
    "filter",
    { uri: "/filter", role: Role.Filter, params: { FCGI_DATA_LENGTH: "0", FCGI_DATA_LAST_MOD: "0" } },
    Wire.record(RecordType.Data, 1)
  ]
]

// Which endpoints the application has: those that it does not answer with 404, or with UNKNOWN_ROLE.
const survey = (connect: Connect): Effect.Effect<ReadonlySet<Endpoint>> =>
  Effect.gen(function*() {
    const found = new Set<Endpoint>()
    for (const [endpoint, request, more] of requests) {
      const has = yield* Effect.scoped(Effect.gen(function*() {
        const peer = yield* connect
        yield* peer.send(Wire.request({ ...request, keep: false }), more)
        const reply = yield* peer.reply(1)
        return reply.protocolStatus === 0 && reply.outcome === "ended" &&
          (endpoint === "/nothing" ? reply.status !== 404 : reply.status === 200)
      })).pipe(Effect.catch(() => Effect.succeed(false)))
      if (has) found.add(endpoint)
    }
    return found
  })

// The request behind the query is for servers that answer it only when something follows.
const askValues = (connect: Connect): Effect.Effect<ReadonlyMap<string, string>> =>
  Effect.scoped(Effect.gen(function*() {
    const peer = yield* connect
    yield* peer.send(
      Wire.getValues(["FCGI_MAX_CONNS", "FCGI_MAX_REQS", "FCGI_MPXS_CONNS"]),
      Wire.request({ keep: false })
    )
    yield* peer.reply(1)
    const record = peer.log.find((record) => record.type === RecordType.GetValuesResult)
    if (record === undefined) return new Map<string, string>()
    const params = FastCgiParams.fromBytes(record.content)
    return "_tag" in params ? new Map<string, string>() : new Map(params)
  })).pipe(Effect.catch(() => Effect.succeed(new Map<string, string>())))

const decimal = /^\d+$/

const counters = (connect: Connect): Effect.Effect<Counters, Unmet> =>
  Effect.scoped(Effect.gen(function*() {
    const peer = yield* connect
    yield* peer.send(Wire.request({ uri: "/counters", keep: false }))
    const reply = yield* peer.reply(1)
    const text = Wire.latin1(reply.body)
    const lines = text.split("\n")
    const count = (name: string): number => {
      const value = lines.find((line) => line.startsWith(`${name} `))?.slice(name.length + 1).trimEnd() ?? ""
      return decimal.test(value) ? Number(value) : NaN
    }
    const result = { started: count("started"), ended: count("ended"), aborted: count("aborted") }
    return Number.isNaN(result.started + result.ended + result.aborted)
      ? yield* new Unmet({ message: "/counters does not answer with its three lines" })
      : result
  }))

const measureMemory = (process: SubjectProcess | undefined): Subject["measureMemory"] => (effect) =>
  process === undefined
    ? Effect.map(effect, (result) => [result, undefined] as const)
    : Effect.gen(function*() {
      const before = yield* process.memory
      const result = yield* effect
      const peak = yield* process.peak
      return [result, before === undefined || peak === undefined ? undefined : Math.max(0, peak - before)] as const
    })
