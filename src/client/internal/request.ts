/**
 * From a connector to a connection, and from a request to what is sent for it: the part between `WebServerEnd` and the
 * Effects of the public modules.
 */
import * as Cause from "effect/Cause"
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import type { FastCgiTransport } from "../../connection/FastCgiTransport.ts"
import * as FastCgiParams from "../../protocol/FastCgiParams.ts"
import { RecordType, Role } from "../../protocol/FastCgiRecord.ts"
import type { FastCgiClientBody, FastCgiClientRequest, FastCgiClientResponse } from "../FastCgiClient.ts"
import type { FastCgiClientError } from "../FastCgiClientError.ts"
import type { BeginOptions, ClientRequest, ConnectionOptions } from "./clientRequest.ts"
import { fail, notOpen } from "./failures.ts"
import { sameWriteLimit, WebServerEnd } from "./webServerEnd.ts"

/** The defaults of `ConnectionOptions`. */
export const defaults = {
  maxRequests: 1,
  maxUnread: 256 * 1024,
  maxUnreadMultiplexed: 1024 * 1024,
  stallTimeout: 30_000
} satisfies ConnectionOptions

/** Opens a connection that is closed with the scope. */
export const open = Effect.fnUntraced(function*<E, R>(
  connect: Effect.Effect<FastCgiTransport, E, R>,
  options: ConnectionOptions
): Effect.fn.Return<WebServerEnd, FastCgiClientError, R | Scope.Scope> {
  const scope = yield* Effect.scope
  const context = yield* Effect.context<never>()
  const transport = yield* Effect.mapError(connect, connectFailed)
  const dispatcher = yield* Effect.withFiber((fiber) => Effect.succeed(fiber.cache.scheduler.makeDispatcher()))
  const connection = new WebServerEnd(transport, options, dispatcher, Effect.runForkWith(context))
  yield* Scope.addFinalizer(scope, Effect.sync(() => connection.closeUnsafe()))
  connection.start()
  return connection
})

/** Begins a request as soon as the connection has room for it, and sends its body in the background. */
export const request = <E, R>(
  connection: WebServerEnd,
  options: FastCgiClientRequest<E, R>,
  keepConnection: boolean
): Effect.Effect<ClientRequest, FastCgiClientError, R | Scope.Scope> => {
  const begin = beginOptions(options, keepConnection)
  return Effect.uninterruptibleMask((restore) => {
    const start: Effect.Effect<ClientRequest, FastCgiClientError, R | Scope.Scope> = Effect.suspend(() => {
      if (connection.available) return started(connection, connection.beginUnsafe(begin), options, begin)
      if (!connection.open) return Effect.fail(notOpen())
      return Effect.flatMap(restore(connection.untilAvailable), () => start)
    })
    return start
  })
}

/** What begins a request. */
export const beginOptions = (
  options: FastCgiClientRequest<unknown, unknown>,
  keepConnection: boolean
): BeginOptions => {
  const { params, role = Role.Responder, stdin } = options
  return {
    role,
    params: FastCgiParams.encodedText(params),
    keepConnection: options.keepConnection ?? keepConnection,
    endAtClose: options.endAtClose ?? false,
    // Of an Authorizer's request there is no STDIN at all (SPEC 6.3); a Filter's is followed by DATA (SPEC 6.4).
    body: role === Role.Authorizer
      ? "none"
      : role === Role.Filter
      ? undefined
      : stdin === undefined
      ? noBody
      : stdin instanceof Uint8Array && stdin.length <= sameWriteLimit
      ? stdin
      : undefined
  }
}

/** Ties a request that has just begun to the scope, and sends what `begin` has not sent. To be run uninterruptibly. */
export const started = <E, R>(
  connection: WebServerEnd,
  request: ClientRequest,
  options: FastCgiClientRequest<E, R>,
  begin: BeginOptions
): Effect.Effect<ClientRequest, never, R | Scope.Scope> =>
  Effect.flatMap(Effect.scope, (scope) => {
    const release = Scope.addFinalizer(scope, Effect.sync(() => connection.releaseUnsafe(request)))
    if (begin.body !== undefined) return Effect.as(release, request)
    const sender = Effect.catchCause(sendBody(connection, request, options, begin.role), (cause) =>
      Effect.sync(() => {
        if (Cause.hasInterruptsOnly(cause)) return
        const error = Cause.squash(cause)
        const message = `the request's body failed: ${text(error)}`
        connection.abortUnsafe(request, fail({ _tag: "BodyFailed" }, message, error))
      }))
    return release.pipe(
      Effect.andThen(Effect.forkIn(Effect.interruptible(sender), scope, { startImmediately: true })),
      Effect.map((fiber) => {
        connection.sendBy(request, fiber)
        return request
      })
    )
  })

const sendBody = <E, R>(
  connection: WebServerEnd,
  request: ClientRequest,
  { data, sendTimeout, stdin }: FastCgiClientRequest<E, R>,
  role: number
): Effect.Effect<void, E, R> => {
  const timeout = Duration.fromInputUnsafe(sendTimeout ?? Duration.infinity)
  // An answer that has begun goes on without the rest of the body: the application may have decided without it.
  const notTaken = () => {
    if (request.received === 0) {
      const message = `the application took nothing of the request's body for ${Duration.format(timeout)}`
      connection.abortUnsafe(request, fail({ _tag: "Timeout" }, message))
    }
    return Effect.never
  }
  // Where there is room already, no timer is worth its while.
  const timed = (room: Effect.Effect<void>) =>
    room === Effect.void || !Duration.isFinite(timeout)
      ? room
      : Effect.timeoutOrElse(room, { duration: timeout, orElse: notTaken })
  const send = (type: RecordType, body: FastCgiClientBody<E, R> = noBody, last: boolean) => {
    const write = (chunks: ReadonlyArray<Uint8Array>) => connection.send(request, type, chunks, timed)
    return Effect.andThen(
      body instanceof Uint8Array ? write([body]) : Stream.runForEachArray(body, write),
      Effect.sync(() => connection.sendEndUnsafe(request, type, last))
    )
  }
  return role === Role.Filter
    ? Effect.andThen(send(RecordType.Stdin, stdin, false), send(RecordType.Data, data, true))
    : send(RecordType.Stdin, stdin, true)
}

// How long END_REQUEST may take, in milliseconds, once the answer is complete (by its Content-Length, say): a program may
// have things to do behind its answer.
const endTimeout = 30_000

/** Leaves a request whose answer is complete to end by itself: one that never did would keep a connection for ever. */
export const leave = (
  connection: WebServerEnd,
  request: ClientRequest,
  fork: (effect: Effect.Effect<unknown>) => void
): void => {
  if (!connection.leaveUnsafe(request)) return
  const message = `the application did not end the request within ${endTimeout / 1000} seconds of its whole answer`
  fork(Effect.timeoutOrElse(Effect.exit(Deferred.await(request.end)), {
    duration: endTimeout,
    orElse: () => Effect.sync(() => connection.abortUnsafe(request, fail({ _tag: "Timeout" }, message)))
  }))
}

/** The public view of a request. */
export const toResponse = (request: ClientRequest): FastCgiClientResponse => ({
  requestId: request.requestId,
  stdout: Stream.fromPull(Effect.succeed(request.stdout.pull)),
  stderr: Stream.fromPull(Effect.succeed(request.stderr.pull)),
  end: Deferred.await(request.end)
})

/** A connector's failure as a client error. */
export const connectFailed = (cause: unknown): FastCgiClientError =>
  fail(
    { _tag: "ConnectFailed" },
    hasMessage(cause) ? cause.message : `cannot connect to the application: ${text(cause)}`,
    cause
  )

/** What a person can read of an error. */
export const text = (error: unknown): string =>
  hasMessage(error)
    ? error.message
    : typeof error === "object" && error !== null && "_tag" in error
    ? String(error._tag)
    : String(error)

const hasMessage = (error: unknown): error is { readonly message: string } =>
  typeof error === "object" && error !== null && "message" in error && typeof error.message === "string" &&
  error.message !== ""

const noBody = new Uint8Array(0)
