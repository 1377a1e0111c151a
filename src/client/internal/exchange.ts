/**
 * One HTTP request and its response over a pool: the response's head parsed, its body cut where HTTP says that it ends,
 * what the application writes to STDERR in the log.
 */
import * as Cause from "effect/Cause"
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type { HttpServerResponse } from "effect/http/HttpServerResponse"
import * as Pull from "effect/Pull"
import type * as Scope from "effect/Scope"
import type * as Tracer from "effect/Tracer"
import * as CgiResponse from "../../cgi/CgiResponse.ts"
import { fieldName, remembered } from "../../cgi/internal/fields.ts"
import type { Deadline, Deadlines } from "../../connection/internal/deadlines.ts"
import type { Chunks } from "../../connection/internal/inputStream.ts"
import type { FastCgiClientRequest } from "../FastCgiClient.ts"
import { FastCgiClientError } from "../FastCgiClientError.ts"
import type { FastCgiExchangeOptions } from "../FastCgiHttpClient.ts"
import { fail } from "./failures.ts"
import type { Begun, Pool } from "./pool.ts"
import { repeatsOf } from "./repeats.ts"
import { Stderr } from "./stderr.ts"
import { annotate } from "./tracing.ts"

/** What all requests of a client or a gateway have in common. */
export interface ExchangePolicy {
  readonly endAtClose: boolean
  /** How long to wait for the head once the request has been sent, and the deadlines of all that wait so long. */
  readonly headTimeout: Duration.Duration
  readonly headDeadlines: Deadlines<() => void>
  /** How long to wait for the next part of the body. */
  readonly bodyTimeout: Duration.Duration
  readonly maxHeadSize: number | undefined
  /** What is searched for in STDERR. */
  readonly catchStderr: ReadonlyArray<string>
}

export interface ExchangeOptions {
  readonly policy: ExchangePolicy
  readonly method: string
  /** What is to be told where the request has gone. */
  readonly span?: Tracer.Span | undefined
  /** Where the client would go on with another protocol: is told whether the application takes its connection. */
  readonly upgrade?: ((taken: boolean) => void) | undefined
}

/** What the options amount to. */
export const exchangePolicy = (
  pool: Pool,
  options: FastCgiExchangeOptions,
  defaultTimeout: Duration.Input
): ExchangePolicy => {
  const { catchStderr, endAtClose = false, maxHeadSize } = options
  const headTimeout = Duration.fromInputUnsafe(options.headTimeout ?? defaultTimeout)
  return {
    endAtClose,
    headTimeout,
    headDeadlines: pool.deadlines(Duration.toMillis(headTimeout)),
    bodyTimeout: Duration.fromInputUnsafe(options.bodyTimeout ?? defaultTimeout),
    maxHeadSize,
    // An empty text, which is everywhere, is none.
    catchStderr: (typeof catchStderr === "string" ? [catchStderr] : catchStderr ?? []).filter((text) => text !== "")
  }
}

export interface Exchange {
  readonly status: number
  readonly statusText: string
  /** The headers without those of one hop, names in lower case, in order. With 101, `upgrade` is among them. */
  readonly headers: ReadonlyArray<readonly [name: string, value: string]>
  /** The length of the body where the head declares it. 0 where there is none. */
  readonly contentLength: number | undefined
  /** Whether a body is allowed at all: not in the answer to HEAD, nor with 204, 205 and 304. */
  readonly hasBody: boolean
  /** The whole body, where it has come together with the head. */
  readonly whole: ReadonlyArray<Uint8Array> | undefined
  /** Everything that is left of the body, or all of it. Nothing has been dropped so far. */
  readonly pull: Pull.Pull<Chunks, FastCgiClientError>
  /** Where the client's connection is to be handed over: does that, and is the response when it is over. */
  readonly handOver?: Effect.Effect<HttpServerResponse> | undefined
}

/**
 * Sends a request and waits for the head of the response. The request is given up with the scope, unless the response
 * is complete by then.
 */
export const exchange = <E, R>(
  pool: Pool,
  request: FastCgiClientRequest<E, R>,
  options: ExchangeOptions
): Effect.Effect<Exchange, FastCgiClientError, R | Scope.Scope> =>
  pool.run(
    request,
    repeatsOf(request, options.method),
    (begun) =>
      Effect.withFiber<Exchange, FastCgiClientError>((fiber) => {
        annotate(options.span, begun)
        const start = (log: Effect.Effect<void>) => pool.connections.fork(log, fiber.context)
        const stderr = new Stderr(begun.request, request.params, options.policy.catchStderr, start)
        return head(begun, stderr, options)
      }),
    // A connection that is handed over is nobody else's.
    options.upgrade !== undefined
  )

// Measured, an Effect for each step would cost a small answer as much as its records do.
const head = (begun: Begun, stderr: Stderr, options: ExchangeOptions): Effect.Effect<Exchange, FastCgiClientError> =>
  Effect.callback((resume) => {
    const { stdout } = begun.request
    const parser = CgiResponse.makeHeadParser({
      maxHeadSize: options.policy.maxHeadSize,
      upgrade: options.upgrade !== undefined
    })
    const stop = startDeadline(begun, options)
    let size = 0
    const push = (chunks: Chunks): Exchange | FastCgiClientError | undefined => {
      for (let i = 0; i < chunks.length; i++) {
        const result = parser.push(chunks[i])
        size += chunks[i].length
        if (result === undefined) continue
        if (result instanceof CgiResponse.CgiHeadError) {
          return givenUp(begun, badHead(`the application's answer is not a CGI response: ${result.message}`, result))
        }
        const rest = result.rest.length > 0 ? [result.rest, ...chunks.slice(i + 1)] : chunks.slice(i + 1)
        return toExchange(begun, stderr, result, size - result.rest.length, rest, options)
      }
      return undefined
    }
    const read = (): void => {
      for (let chunks = stdout.takeUnsafe(); chunks !== undefined; chunks = stdout.takeUnsafe()) {
        const answer = push(chunks)
        if (answer === undefined) continue
        stop()
        return resume(
          answer instanceof FastCgiClientError ? Effect.fail(stderr.described(answer)) : Effect.succeed(answer)
        )
      }
      if (!stdout.isReadable) return stdout.whenReadable(read)
      stop()
      resume(Effect.mapError(withoutHead(begun, parser), (error) => stderr.described(error)))
    }
    read()
    return Effect.sync(() => {
      stop()
      stdout.stopWaiting()
    })
  })

// Why there is no head of a request whose output has ended.
const withoutHead = (
  { request }: Begun,
  parser: CgiResponse.CgiHeadParser
): Effect.Effect<never, FastCgiClientError> =>
  Effect.flatMap(Deferred.await(request.end), ({ appStatus }) => {
    const error = parser.end()
    const status = appStatus === 0 ? "" : ` (appStatus ${appStatus})`
    const message = request.received === 0
      ? `the application ended the request without an answer${status}`
      : `the application ended the request inside its response head${status}: ${error.message}`
    return Effect.fail(fail({ _tag: "BadHead", appStatus }, message, error))
  })

// Gives the request up when its head does not come in time, which is what its reader then fails with.
const startDeadline = (begun: Begun, { policy, upgrade }: ExchangeOptions): () => void => {
  const { sender } = begun.request
  const { headDeadlines, headTimeout } = policy
  const expire = () => {
    const message = `the application did not answer within ${Duration.format(headTimeout)}`
    begun.connection.abortUnsafe(begun.request, fail({ _tag: "Timeout" }, message))
  }
  let deadline: Deadline<() => void> | undefined
  const begin = () => {
    deadline = headDeadlines.add(expire)
  }
  // An upload takes as long as it takes.
  const forget = sender === undefined || upgrade !== undefined ? begin() : sender.addObserver(begin)
  return () => {
    forget?.()
    headDeadlines.delete(deadline)
  }
}

// Gives the request up, for the reason that is returned.
const givenUp = ({ connection, request }: Begun, error: FastCgiClientError): FastCgiClientError => {
  connection.abortUnsafe(request, error)
  return error
}

const badHead = (message: string, cause?: unknown): FastCgiClientError => fail({ _tag: "BadHead" }, message, cause)

const decimal = /^\d{1,15}$/

// Headers that are no lists: two lines of one would be joined to a value that is none. The first counts, as with nginx. Each
// has a bit of its own.
const single: ReadonlyMap<string, number> = new Map(
  ("age content-disposition content-location content-range content-type date etag expires last-modified location " +
    "retry-after server").split(" ").map((name, at) => [name, 1 << at])
)

// What of an answer's header depends on its name.
const answerField = remembered((name) => {
  const { lower } = fieldName(name)
  return { lower, bit: single.get(lower) ?? 0 }
})

// FastCGI carries no transfer coding. Of an application that writes chunks all the same the body passes as it is, but one
// that is compressed would arrive without a sign of it.
const isCoded = (headers: CgiResponse.CgiHead["headers"]): boolean =>
  headers.some(([name, value]) =>
    name.toLowerCase() === "transfer-encoding" &&
    value.split(",").some((coding) => !["", "chunked", "identity"].includes(coding.trim().toLowerCase()))
  )

const toExchange = (
  begun: Begun,
  stderr: Stderr,
  head: CgiResponse.CgiHead,
  headSize: number,
  first: ReadonlyArray<Uint8Array>,
  options: ExchangeOptions
): Exchange | FastCgiClientError => {
  if (head.status === 101 && options.upgrade !== undefined) return handedOver(begun, stderr, head, first, options)
  options.upgrade?.(false)
  const headers: Array<readonly [string, string]> = []
  let length: string | undefined
  let seen = 0
  const endToEnd = CgiResponse.endToEndHeaders(head.headers)
  for (const header of endToEnd) {
    const [name, value] = header
    const { bit, lower } = answerField(name)
    if (lower === "content-length") {
      if (!decimal.test(value) || (length !== undefined && length !== value)) {
        return givenUp(
          begun,
          badHead("the application's answer has a Content-Length that is no length, or two of them")
        )
      }
      if (length !== undefined) continue
      length = value
    }
    if ((seen & bit) !== 0) continue
    seen |= bit
    headers.push(lower === name ? header : [lower, value])
  }
  if (endToEnd.length < head.headers.length && isCoded(head.headers)) {
    return givenUp(begun, badHead("the application's answer has a Transfer-Encoding, which FastCGI does not have"))
  }
  const { status } = head
  begun.headUnsafe()
  if (status < 200 || status > 599) {
    return givenUp(begun, badHead(`the application answered with status ${status}, which is none for a final response`))
  }
  const hasBody = options.method !== "HEAD" && status !== 204 && status !== 205 && status !== 304
  const contentLength = hasBody ? length === undefined ? undefined : Number(length) : 0
  const failure = stderr.failureBefore(headSize + (contentLength ?? Infinity))
  if (failure !== undefined) return givenUp(begun, failure)
  const whole = wholeOf(begun, first, contentLength)
  return {
    status,
    statusText: head.statusText,
    headers,
    contentLength,
    hasBody,
    whole,
    pull: whole === undefined ? bodyPull(begun, stderr, first, contentLength, options.policy) : wholePull(begun, whole)
  }
}

// Where the application says no length, the end of the request is the end of the body. What was read together is dispatched
// together, so the end of a small answer is known when its head is.
const wholeOf = (
  { request }: Begun,
  first: ReadonlyArray<Uint8Array>,
  contentLength: number | undefined
): ReadonlyArray<Uint8Array> | undefined => {
  const { outcome, stdout } = request
  if (contentLength === undefined) {
    return stdout.unread === 0 && outcome !== undefined && !("reason" in outcome) ? first : undefined
  }
  let size = 0
  for (const chunk of first) size += chunk.length
  return size === contentLength ? first : undefined
}

const wholePull = (begun: Begun, whole: ReadonlyArray<Uint8Array>): Pull.Pull<Chunks, FastCgiClientError> => {
  begun.leaveUnsafe()
  let pending: ReadonlyArray<Uint8Array> | undefined = whole.length === 0 ? undefined : whole
  return Effect.suspend(() => {
    const chunks = pending
    pending = undefined
    return chunks === undefined ? Cause.done() : Effect.succeed(chunks as unknown as Chunks)
  })
}

// The body is the other protocol's, and has no end but that of the connection.
const handedOver = (
  begun: Begun,
  stderr: Stderr,
  head: CgiResponse.CgiHead,
  first: ReadonlyArray<Uint8Array>,
  options: ExchangeOptions
): Exchange | FastCgiClientError => {
  const headers = head.headers.map(([name, value]) => [name.toLowerCase(), value] as const).filter(([name]) =>
    name === "upgrade" || !(CgiResponse.isHopByHop(name) || name === "content-length" || name.startsWith("x-accel-"))
  )
  if (!headers.some(([name]) => name === "upgrade")) {
    return givenUp(begun, badHead("the application answered with status 101, and does not say to which protocol"))
  }
  return {
    status: 101,
    statusText: head.statusText,
    headers,
    contentLength: undefined,
    hasBody: true,
    whole: undefined,
    pull: bodyPull(begun, stderr, first, undefined, { ...options.policy, bodyTimeout: Duration.infinity })
  }
}

// The body up to its declared length. What the application sends beyond is dropped, as nginx does it; and where it
// ends, the response is complete, whatever becomes of the connection.
const bodyPull = (
  begun: Begun,
  stderr: Stderr,
  first: ReadonlyArray<Uint8Array>,
  contentLength: number | undefined,
  { bodyTimeout, endAtClose }: ExchangePolicy
): Pull.Pull<Chunks, FastCgiClientError> => {
  const { leaveUnsafe: completeUnsafe, request } = begun
  let left = contentLength ?? Infinity
  const take = (chunks: ReadonlyArray<Uint8Array>): Chunks | undefined => {
    let size = 0
    for (let i = 0; i < chunks.length; i++) {
      size += chunks[i].length
      if (size > left) {
        const cut = chunks[i].subarray(0, chunks[i].length - (size - left))
        chunks = cut.length === 0 ? chunks.slice(0, i) : [...chunks.slice(0, i), cut]
        size = left
        break
      }
    }
    left -= size
    if (left === 0) completeUnsafe()
    return size === 0 ? undefined : chunks as unknown as Chunks
  }
  // What is there already takes no timer.
  const next = Duration.isFinite(bodyTimeout)
    ? Effect.suspend(() =>
      request.stdout.unread > 0 ? request.stdout.pull : Effect.timeoutOrElse(request.stdout.pull, {
        duration: bodyTimeout,
        orElse: () => {
          const message = `the application sent nothing of its answer's body for ${Duration.format(bodyTimeout)}`
          return Effect.fail(givenUp(begun, fail({ _tag: "Timeout" }, message)))
        }
      })
    )
    : request.stdout.pull
  let pending: Chunks | undefined = take(first)
  const pull: Pull.Pull<Chunks, FastCgiClientError> = Effect.suspend(() => {
    if (pending !== undefined) {
      const chunks = pending
      pending = undefined
      return Effect.succeed(chunks)
    }
    if (left === 0) return Cause.done()
    return Pull.matchEffect(next, {
      onSuccess: (chunks): Pull.Pull<Chunks, FastCgiClientError> => {
        const taken = take(chunks)
        return taken === undefined ? pull : Effect.succeed(taken)
      },
      onFailure: (cause) => Effect.failCause(Cause.map(cause, (error) => stderr.described(error))),
      onDone: (): Pull.Pull<Chunks, FastCgiClientError> => {
        const failure = stderr.failureBefore(Infinity)
        if (failure !== undefined) return Effect.fail(failure)
        if (left === Infinity || endAtClose) {
          completeUnsafe()
          return Cause.done()
        }
        const received = contentLength! - left
        return Effect.fail(stderr.described(fail(
          { _tag: "Truncated", received: request.received },
          `the application's answer ended after ${received} of ${contentLength} bytes (Content-Length)`
        )))
      }
    })
  })
  return pull
}
