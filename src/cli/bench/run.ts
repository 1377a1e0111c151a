/**
 * Runs `bench`.
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as FileSystem from "effect/FileSystem"
import * as Option from "effect/Option"
import * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import * as CgiResponse from "../../cgi/CgiResponse.ts"
import * as FastCgiClient from "../../client/FastCgiClient.ts"
import type { FastCgiClientError } from "../../client/FastCgiClientError.ts"
import * as FastCgiParams from "../../protocol/FastCgiParams.ts"
import { ValueName } from "../../protocol/FastCgiRecord.ts"
import type { BenchOptions } from "../commands/bench.ts"
import { type CommandFailure, ExitCode, fail, usage } from "../internal/failure.ts"
import * as Output from "../internal/output.ts"
import * as Target from "../internal/target.ts"
import { exchange } from "../request/answer.ts"
import { makeMessage, type Message } from "../request/message.ts"
import { Latencies } from "./latencies.ts"
import { type Measured, toJson, toText } from "./report.ts"

/** Measures, and shows the figures: also those up to ctrl-C. */
export const run = (options: BenchOptions): Effect.Effect<void, CommandFailure, FileSystem.FileSystem> =>
  Effect.gen(function*() {
    if (options.multiplex > 1 && !options.keepConn) {
      return yield* usage("--multiplex takes connections that are kept: give --keep-conn as well.")
    }
    const target = yield* Target.parse(options.address, options.timeout)
    const message = yield* toMessage(options)
    // One that fails would fail for the whole time.
    const first = yield* Effect.scoped(firstAnswer(target, message, options))
    if (options.multiplex > 1) yield* Effect.scoped(multiplexes(target))
    const measurement = new Measurement(first)
    const measuring = Effect.raceFirst(
      load(target, message, options, measurement),
      Effect.andThen(progress(measurement, options), Effect.never)
    ).pipe(
      Effect.timeoutOption(options.duration),
      Effect.onExit(() => Effect.suspend(() => show(measurement.stop(), options)))
    )
    yield* Effect.scoped(measuring)
    if (measurement.failures.size > 0) return yield* fail(ExitCode.Found)
  })

// -----------------------------------------------------------------------------
// Internal
// -----------------------------------------------------------------------------

const toMessage = Effect.fnUntraced(function*(
  options: BenchOptions
): Effect.fn.Return<Message, CommandFailure, FileSystem.FileSystem> {
  const { body, method } = options
  const message = yield* makeMessage({
    ...options,
    method: method ?? (body === undefined ? "GET" : "POST"),
    headers: [
      ...options.headers,
      ...(body === undefined ? [] : [`Content-Length: ${body}`, "Content-Type: application/octet-stream"])
    ],
    data: [],
    form: [],
    role: "responder",
    filter: undefined,
    head: false
  })
  const { params } = message.request
  return {
    ...message,
    request: {
      ...message.request,
      // Encoded once.
      params: "bytes" in params ? params : FastCgiParams.fromEntries(params),
      stdin: body === undefined ? undefined : new Uint8Array(body).fill(0x78)
    }
  }
})

const firstAnswer = (
  target: Target.Target,
  message: Message,
  options: BenchOptions
): Effect.Effect<Buffer, CommandFailure, Scope.Scope> => {
  const body: Array<Uint8Array> = []
  return exchange(target, message, {
    onHead: () => Effect.succeed(true),
    onBody: (bytes) =>
      Effect.sync(() => {
        body.push(bytes)
      }),
    onStderr: () => Effect.void
  }).pipe(
    Effect.timeoutOrElse({
      duration: options.timeout,
      orElse: () =>
        fail(ExitCode.Timeout, `The first request had no answer within ${Duration.format(options.timeout)}.`)
    }),
    Effect.flatMap(({ head }) =>
      head !== undefined && head.status >= 400
        ? fail(ExitCode.Found, `The application answers with ${head.status} ${head.statusText}: nothing to measure.`)
        : Effect.succeed(Buffer.concat(body))
    )
  )
}

// An application that does not multiplex would read several requests as one. It says so when it is asked; libfcgi does not answer.
const multiplexes = (target: Target.Target): Effect.Effect<void, CommandFailure, Scope.Scope> =>
  FastCgiClient.make({ connect: target.connect }).pipe(
    Effect.flatMap((client) => client.getValues([ValueName.MpxsConns], { timeout: "1 second" })),
    Effect.option,
    Effect.flatMap((values) =>
      Option.isSome(values) && values.value[ValueName.MpxsConns] === "0"
        ? usage(
          "The application takes one request at a time on a connection (FCGI_MPXS_CONNS is 0): give more --connections, and " +
            "no --multiplex."
        )
        : Effect.void
    )
  )

/** The measurements so far. */
class Measurement {
  readonly latencies = new Latencies()
  readonly statuses = new Map<number, number>()
  readonly failures = new Map<string, number>()
  received = 0
  different = 0
  readonly started = performance.now()
  private readonly cpu = process.cpuUsage()
  private readonly first: Buffer

  constructor(first: Buffer) {
    this.first = first
  }

  add(milliseconds: number, status: number, body: ReadonlyArray<Uint8Array>): void {
    this.latencies.add(milliseconds)
    count(this.statuses, status)
    let at = 0
    let same = true
    for (const part of body) {
      same &&= this.first.compare(part, 0, part.length, at, Math.min(this.first.length, at + part.length)) === 0
      at += part.length
    }
    this.received += at
    if (!same || at !== this.first.length) this.different++
  }

  failed(why: string): void {
    count(this.failures, why)
  }

  stop(): Measured {
    const seconds = (performance.now() - this.started) / 1000
    const { system, user } = process.cpuUsage(this.cpu)
    const { different, failures, first, latencies, received, statuses } = this
    return {
      latencies,
      statuses,
      failures,
      received,
      different,
      bodySize: first.length,
      seconds,
      cpu: (system + user) / 1e6 / seconds
    }
  }
}

const count = <Key>(counts: Map<Key, number>, key: Key): void => {
  counts.set(key, (counts.get(key) ?? 0) + 1)
}

// Where everything fails at once, the application is not to be drowned in attempts. In milliseconds.
const pause = 20

const load = (
  target: Target.Target,
  message: Message,
  options: BenchOptions,
  measurement: Measurement
): Effect.Effect<void> => {
  const { keepConn, multiplex } = options
  const connect = FastCgiClient.make({ connect: target.connect, keepConnection: keepConn, maxRequests: multiplex })
  const one = (client: FastCgiClient.FastCgiClient, started: number) =>
    Effect.scoped(Effect.timeoutOrElse(ask(client, message, measurement, started), {
      duration: options.timeout,
      orElse: () => Effect.fail(`no answer within ${Duration.format(options.timeout)}`)
    }))
  const failed = (why: string) => {
    measurement.failed(why)
    return Effect.sleep(pause)
  }
  // Each connection for itself, and opened again when it is lost.
  const connection: Effect.Effect<void> = keepConn
    ? Effect.acquireUseRelease(
      Scope.make(),
      (scope) =>
        Effect.matchEffect(Scope.provide(connect, scope), {
          onSuccess: (client) => {
            const slot: Effect.Effect<void> = Effect.suspend(() =>
              client.openUnsafe()
                ? Effect.andThen(Effect.catch(one(client, performance.now()), failed), slot)
                : Effect.void
            )
            return Effect.all(Array.from({ length: multiplex }, () => slot), { concurrency: multiplex, discard: true })
          },
          onFailure: (error) => failed(error.message)
        }),
      (scope) => Scope.close(scope, Exit.void)
    )
    : Effect.suspend(() => {
      const started = performance.now()
      return Effect.scoped(
        Effect.flatMap(Effect.mapError(connect, ({ message }) => message), (client) => one(client, started))
      ).pipe(Effect.catch(failed))
    })
  return Effect.all(Array.from({ length: options.connections }, () => Effect.forever(connection)), {
    concurrency: "unbounded",
    discard: true
  })
}

// One request, checked. Fails with what is wrong.
const ask = Effect.fnUntraced(function*(
  client: FastCgiClient.FastCgiClient,
  { method, request }: Message,
  measurement: Measurement,
  started: number
): Effect.fn.Return<void, string, Scope.Scope> {
  const response = yield* Effect.mapError(client.request(request), reasonOf)
  const parser = CgiResponse.makeHeadParser()
  let head: CgiResponse.CgiHead | undefined
  let problem: string | undefined
  const body: Array<Uint8Array> = []
  let size = 0
  const keep = (bytes: Uint8Array) => {
    size += bytes.length
    if (bytes.length > 0) body.push(bytes)
  }
  yield* Stream.runForEachArray(response.stdout, (chunks) =>
    Effect.sync(() => {
      for (const chunk of chunks) {
        if (head !== undefined) keep(chunk)
        else if (problem === undefined) {
          const parsed = parser.push(chunk)
          if (parsed?._tag === "CgiHeadError") problem = `no CGI response: ${parsed.message}`
          else if (parsed !== undefined) {
            head = parsed
            keep(parsed.rest)
          }
        }
      }
    })).pipe(Effect.mapError(reasonOf))
  const end = yield* Effect.mapError(response.end, reasonOf)
  const took = performance.now() - started
  if (problem !== undefined) return yield* Effect.fail(problem)
  if (head === undefined) return yield* Effect.fail("no answer")
  if (end.protocolStatus !== 0) return yield* Effect.fail(`protocolStatus ${end.protocolStatus}`)
  if (end.appStatus !== 0) return yield* Effect.fail(`appStatus ${end.appStatus}`)
  if (head.status >= 400) return yield* Effect.fail(`status ${head.status}`)
  const length = head.headers.find(([name]) => name.toLowerCase() === "content-length")?.[1]
  if (length !== undefined && Number(length) !== size && method !== "HEAD") {
    return yield* Effect.fail(`${size} bytes of body where Content-Length says ${length}`)
  }
  measurement.add(took, head.status, body)
})

const reasonOf = (error: FastCgiClientError): string => error.message

const show = (measured: Measured, options: BenchOptions): Effect.Effect<void> =>
  Effect.andThen(
    process.stderr.isTTY ? Output.writeError(clearLine) : Effect.void,
    options.json
      ? Output.line(Output.json(toJson(measured), 2))
      : Output.write(toText(measured, Output.painter(process.stdout)))
  )

const clearLine = "\r\x1b[K"

// In milliseconds, and columns.
const redraw = 200
const barWidth = 30

const progress = (measurement: Measurement, options: BenchOptions): Effect.Effect<void> => {
  if (!process.stderr.isTTY) return Effect.void
  const paint = Output.painter(process.stderr)
  let before = { count: 0, at: measurement.started }
  const draw = Effect.suspend(() => {
    const now = performance.now()
    const { count } = measurement.latencies
    const rate = Math.round((count - before.count) / Math.max(1, now - before.at) * 1000)
    before = { count, at: now }
    const share = Math.min(1, (now - measurement.started) / Duration.toMillis(options.duration))
    const done = Math.round(share * barWidth)
    const bar = paint("good", "━".repeat(done)) + paint("dim", "━".repeat(barWidth - done))
    const failed = measurement.failures.size === 0
      ? ""
      : paint("bad", `, ${Array.from(measurement.failures.values()).reduce((a, b) => a + b, 0)} failed`)
    const time = `${((now - measurement.started) / 1000).toFixed(0)} of ${Duration.format(options.duration)}`
    return Output.writeError(`${clearLine}${bar} ${time}, ${count} requests, ${rate} a second${failed}`)
  })
  return Effect.forever(Effect.andThen(draw, Effect.sleep(redraw)))
}
