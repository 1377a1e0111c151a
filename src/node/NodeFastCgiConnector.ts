/**
 * Connections to FastCGI applications, the way a web server opens them: over a UNIX socket or TCP.
 *
 * @since 0.1.0
 */
import * as Arr from "effect/Array"
import * as Config from "effect/Config"
import * as Data from "effect/Data"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Scope from "effect/Scope"
import type * as Net from "node:net"
import * as Tls from "node:tls"
import type { FastCgiUpstream } from "../client/FastCgiPool.ts"
import type { FastCgiTransport } from "../connection/FastCgiTransport.ts"
import { duration, flag, required, text } from "../settings/settings.ts"
import { addressForms, parseAddress } from "./internal/address.ts"
import { makePatient } from "./internal/fullBacklog.ts"
import { errorCode, errorText, formatHost, formatPath } from "./internal/listenerError.ts"
import { ReadingSocket } from "./internal/readingSocket.ts"
import { pathProblem } from "./internal/socketPath.ts"
import { fromDuplex, fromSocket } from "./internal/socketTransport.ts"
import { pem, tlsFiles } from "./internal/tlsFiles.ts"
import { parseUpstreams, upstreamForms } from "./internal/upstreamList.ts"

/**
 * Why the connection failed:
 *
 * - `Refused`: nothing listens there (any more)
 * - `BacklogFull`: a UNIX socket's backlog was full for all of `connectTimeout`
 * - `NotFound`: the path or the host does not exist
 * - `PermissionDenied`: the mode of the socket or of its directory keeps this process out
 * - `Unreachable`: the network has no route to the host
 * - `Timeout`: no answer within `connectTimeout`
 * - `TlsFailed`: TLS with the application failed: its certificate is not accepted, or it speaks no TLS
 * - `InvalidPath`: the socket path is empty, holds a NUL, or is longer than the operating system allows
 * - `Unknown`: anything else; see `cause`
 *
 * @category errors
 * @since 0.1.0
 */
export type FastCgiConnectErrorReason =
  | { readonly _tag: "Refused" }
  | { readonly _tag: "BacklogFull" }
  | { readonly _tag: "NotFound" }
  | { readonly _tag: "PermissionDenied" }
  | { readonly _tag: "Unreachable" }
  | { readonly _tag: "Timeout" }
  | { readonly _tag: "TlsFailed" }
  | { readonly _tag: "InvalidPath" }
  | { readonly _tag: "Unknown" }

/**
 * The application cannot be reached. `message` says what was tried, what failed, and what to do.
 *
 * @category errors
 * @since 0.1.0
 */
export class FastCgiConnectError extends Data.TaggedError("FastCgiConnectError")<{
  readonly reason: FastCgiConnectErrorReason
  readonly message: string
  readonly cause?: unknown
}> {}

/**
 * TLS to an application on another host, whose listener has `tls`.
 *
 * @category options
 * @since 0.1.0
 */
export interface ConnectorTlsOptions {
  /** Authorities, in PEM, one of which must have signed the application's certificate. Default those of Node. */
  readonly ca?: string | Uint8Array | undefined
  /** The certificate of this end, in PEM, for an application that asks for one. */
  readonly cert?: string | Uint8Array | undefined
  /** The key of that certificate in PEM, without a passphrase. */
  readonly key?: string | Uint8Array | undefined
  /** The name that must be in the application's certificate. Default the host. */
  readonly serverName?: string | undefined
}

/**
 * Where the application listens.
 *
 * @category options
 * @since 0.1.0
 */
export type NodeFastCgiConnectorOptions =
  & (
    | {
      /**
       * A UNIX socket path of at most 107 bytes (103 on macOS and the BSDs); on Linux a path that begins with "\0" is an
       * abstract name.
       */
      readonly path: string
    }
    | {
      /** Default "127.0.0.1". */
      readonly host?: string | undefined
      readonly port: number
    }
  )
  & {
    /** How long connecting may take. Default 10 seconds. */
    readonly connectTimeout?: Duration.Input | undefined
    /** Default no TLS. `{}` is TLS without a certificate of this end. */
    readonly tls?: ConnectorTlsOptions | undefined
  }

/**
 * Connects. The connection closes with the scope. Interrupting closes it as well.
 *
 * When the backlog of a UNIX socket is full, Linux says so at once (EAGAIN). The connector then tries again until `connectTimeout`. Of
 * several fibers that connect with the same Effect, one tries, and the others wait in order.
 *
 * **Example** (A request to an application)
 *
 * ```ts
 * import * as Effect from "effect/Effect"
 * import { FastCgiClient } from "effect-fastcgi/client"
 * import { NodeFastCgiConnector } from "effect-fastcgi/node"
 *
 * export const values = Effect.scoped(Effect.gen(function*() {
 *   const client = yield* FastCgiClient.make({ connect: NodeFastCgiConnector.connect({ path: "/run/app/app.sock" }) })
 *   return yield* client.getValues(["FCGI_MAX_REQS"])
 * }))
 * ```
 *
 * @category constructors
 * @since 0.1.0
 */
export const connect = (
  options: NodeFastCgiConnectorOptions
): Effect.Effect<FastCgiTransport, FastCgiConnectError, Scope.Scope> => {
  const isPath = "path" in options
  const { tls } = options
  const name = isPath ? formatPath(options.path) : `${formatHost(options.host ?? "127.0.0.1")}:${options.port}`
  const timeout = Duration.fromInputUnsafe(options.connectTimeout ?? "10 seconds")
  const timedOut = () =>
    new FastCgiConnectError({
      reason: { _tag: "Timeout" },
      message: `Cannot connect to ${name}: no answer within ${Duration.format(timeout)}. ` +
        "Check the address and the firewall, and whether the application hangs."
    })
  const stillFull = () =>
    new FastCgiConnectError({
      reason: { _tag: "BacklogFull" },
      message: `Cannot connect to ${name}: its backlog was full for ${Duration.format(timeout)}. ` +
        "The application accepts too few connections: it hangs, or needs more workers."
    })
  const problem = isPath ? pathProblem(options.path) : undefined
  if (problem !== undefined) {
    const where = problem.reason === "Empty" ? "Cannot connect" : `Cannot connect to ${name}`
    return Effect.fail(
      new FastCgiConnectError({ reason: { _tag: "InvalidPath" }, message: `${where}: ${problem.message}` })
    )
  }
  const attempt = Effect.uninterruptibleMask((restore) =>
    Effect.gen(function*() {
      const scope = yield* Effect.scope
      const to: { path: string } | { host: string; port: number } = isPath
        ? { path: options.path }
        : { host: options.host ?? "127.0.0.1", port: options.port }
      const { socket, transport } = yield* Effect.try({
        // The transport is made before it is connected, so bytes that the application sends at once are not lost.
        try: () => {
          if (tls === undefined) {
            const socket = new ReadingSocket().connect(to)
            return { socket, transport: fromSocket(socket) }
          }
          const secure: Tls.ConnectionOptions & { readonly allowHalfOpen: true } = {
            ...secureOptions(tls),
            ...to,
            allowHalfOpen: true
          }
          const socket = Tls.connect(secure)
          socket.setNoDelay(true)
          return { socket, transport: fromDuplex(socket, socket) }
        },
        catch: (cause) => connectError(name, isPath, tls !== undefined, cause)
      })
      const close = Effect.sync(() => socket.destroy())
      yield* restore(connected(socket, name, isPath, tls !== undefined)).pipe(Effect.onError(() => close))
      yield* Scope.addFinalizer(scope, close)
      return transport
    })
  )
  const patient = makePatient(attempt, ({ reason }) => reason._tag === "BacklogFull")
  return Effect.suspend(() => {
    let full = false
    const opened = patient(() => {
      full = true
    })
    return Effect.timeoutOrElse(opened, {
      duration: timeout,
      orElse: () => Effect.fail(full ? stillFull() : timedOut())
    })
  })
}

// What the settings say of every connection, wherever it goes.
const how = Config.map(
  Config.all([
    duration("FASTCGI_UPSTREAM_CONNECT_TIMEOUT"),
    flag("FASTCGI_UPSTREAM_TLS"),
    tlsFiles("FASTCGI_UPSTREAM_TLS"),
    text("FASTCGI_UPSTREAM_TLS_SERVER_NAME")
  ]),
  ([connectTimeout, secure, files, serverName]) => {
    const tls = { ...files, serverName }
    const isSecure = secure ?? Object.values(tls).some((value) => value !== undefined)
    return { connectTimeout, ...isSecure ? { tls } : undefined }
  }
)

/**
 * Where the application listens, from settings of the environment. `FASTCGI_UPSTREAM` must be set: a UNIX socket path, `HOST:PORT`,
 * `:PORT` or `PORT`. `FASTCGI_UPSTREAM_CONNECT_TIMEOUT` is `connectTimeout`. `FASTCGI_UPSTREAM_TLS` turns TLS on or off.
 * `FASTCGI_UPSTREAM_TLS_CA`, `_CERT` and `_KEY` (files in PEM) and `FASTCGI_UPSTREAM_TLS_SERVER_NAME` turn it on as well. See
 * `FastCgiHttpClient.layerConfig`.
 *
 * @category configuration
 * @since 0.1.0
 */
export const config: Config.Config<NodeFastCgiConnectorOptions> = Config.map(
  Config.all([how, required("FASTCGI_UPSTREAM", addressForms, parseAddress)]),
  ([how, to]) => ({ ...to, ...how })
)

/**
 * Where several applications that do the same listen: `FASTCGI_UPSTREAM` with more than one address, separated by commas, each of
 * which may have a `weight` and `max_conns` behind it, as a `server` of nginx has. The other settings are those of `config`, and
 * count for all of them. Where there are several, each has its address as its name, in the log and in metrics.
 *
 * **Example** (A client of the applications that the environment names)
 *
 * ```ts
 * import { FastCgiHttpClient } from "effect-fastcgi/client"
 * import { NodeFastCgiConnector } from "effect-fastcgi/node"
 * import * as Effect from "effect/Effect"
 * import * as Layer from "effect/Layer"
 *
 * // FASTCGI_UPSTREAM="10.0.0.1:9000 weight=2, 10.0.0.2:9000 max_conns=4"
 * export const Client = Layer.unwrap(
 *   Effect.map(NodeFastCgiConnector.upstreams, (connect) => FastCgiHttpClient.layerConfig({ connect }))
 * )
 * ```
 *
 * @category configuration
 * @since 0.1.0
 */
export const upstreams: Config.Config<Arr.NonEmptyReadonlyArray<FastCgiUpstream<FastCgiConnectError, Scope.Scope>>> =
  Config.map(
    Config.all([how, required("FASTCGI_UPSTREAM", upstreamForms, parseUpstreams)]),
    ([how, upstreams]) =>
      Arr.map(upstreams, ({ to, ...upstream }) => ({ ...upstream, connect: connect({ ...to, ...how }) }))
  )

// -----------------------------------------------------------------------------
// Internal
// -----------------------------------------------------------------------------

const connected = (
  socket: Net.Socket,
  name: string,
  isPath: boolean,
  isSecure: boolean
): Effect.Effect<void, FastCgiConnectError> =>
  Effect.callback((resume) => {
    // This handler stays: an error after this wait, or after an interruption, must not become an uncaught exception.
    socket.on(
      "error",
      (cause) => resume(Effect.suspend(() => Effect.fail(connectError(name, isPath, isSecure, cause))))
    )
    socket.on(isSecure ? "secureConnect" : "connect", () => resume(Effect.void))
  })

const secureOptions = ({ ca, cert, key, serverName }: ConnectorTlsOptions): Tls.ConnectionOptions => ({
  ...ca === undefined ? undefined : { ca: pem(ca) },
  ...cert === undefined ? undefined : { cert: pem(cert) },
  ...key === undefined ? undefined : { key: pem(key) },
  ...serverName === undefined ? undefined : { servername: serverName }
})

const connectError = (name: string, isPath: boolean, isSecure: boolean, cause: unknown): FastCgiConnectError => {
  const error = (tag: FastCgiConnectErrorReason["_tag"], why: string) =>
    new FastCgiConnectError({ reason: { _tag: tag }, message: `Cannot connect to ${name}: ${why}`, cause })
  switch (errorCode(cause)) {
    case "ECONNREFUSED":
      return error(
        "Refused",
        isPath
          ? "nothing listens on it. Start the application, or correct the path."
          : "nothing listens there. Start the application, or correct the port."
      )
    case "ENOENT":
      return error("NotFound", "there is no such socket. Start the application, or correct the path.")
    case "ENOTSOCK":
    case "ENOTDIR":
      return error("NotFound", "the path is not a socket. Correct it.")
    case "ENOTFOUND":
    case "EAI_AGAIN":
    case "EAI_NODATA":
    case "EAI_NONAME":
      return error("NotFound", "the host name is not known. Correct it, or give an address.")
    case "EACCES":
    case "EPERM":
      return error(
        "PermissionDenied",
        "this process's user has no permission. It must be able to write to the socket and to enter its " +
          "directories: see the option mode of the listener."
      )
    case "EAGAIN":
      return error("BacklogFull", "the application accepts nothing, and its backlog is full.")
    case "EPROTOTYPE":
      return error("NotFound", "the path is a socket of another kind. Correct it.")
    case "EHOSTUNREACH":
    case "ENETUNREACH":
    case "EADDRNOTAVAIL":
      return error("Unreachable", "there is no route to the host. Check the address and the network.")
    case "ETIMEDOUT":
      return error("Timeout", "no answer. Check the address and the firewall.")
    default:
      return isSecure
        ? error(
          "TlsFailed",
          `${errorText(cause)}. Check the certificates of both ends, and whether the listener has tls.`
        )
        : error("Unknown", `${errorText(cause)}.`)
  }
}
