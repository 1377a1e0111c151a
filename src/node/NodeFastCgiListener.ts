/**
 * Listening sockets of the operating system: the socket on file descriptor 0 with which web servers and spawn-fcgi start an
 * application (SPEC 2.2), sockets that systemd passes, a UNIX socket path, a TCP port, or several of these.
 *
 * @since 0.1.0
 */
import * as Arr from "effect/Array"
import * as Config from "effect/Config"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Result from "effect/Result"
import type * as Scope from "effect/Scope"
import type * as Net from "node:net"
import * as CgiProgram from "../server/CgiProgram.ts"
import * as FastCgiLimits from "../server/FastCgiLimits.ts"
import { FastCgiListener, type FastCgiListenerError } from "../server/FastCgiListener.ts"
import { accessList, isSetToNothing, limits, warnOfUnknown } from "../server/internal/settings.ts"
import { checked, setting, settingError } from "../settings/settings.ts"
import { acceptor, type AcceptorOptions } from "./internal/acceptor.ts"
import { asAccountName } from "./internal/accounts.ts"
import { listenForms, parseListenAddress } from "./internal/address.ts"
import { cgiProcess } from "./internal/cgiProcess.ts"
import { bindInCluster, isClusterWorker } from "./internal/clusterSocket.ts"
import { bindInet } from "./internal/inetSocket.ts"
import { bindFd } from "./internal/inheritedSocket.ts"
import { formatHost, formatPath, listenerError } from "./internal/listenerError.ts"
import type {
  FdOptions,
  NodeFastCgiListenerOptions,
  SystemdOptions,
  TcpOptions,
  UnixOptions
} from "./internal/listenerOptions.ts"
import { systemdSockets } from "./internal/systemdSockets.ts"
import { tlsFiles, tlsRenewals } from "./internal/tlsFiles.ts"
import { bindUnix } from "./internal/unixSocket.ts"
import { onFd, onPath, onPort } from "./internal/workers/messages.ts"
import { workerEnd } from "./internal/workers/workerEnd.ts"

export type * from "./internal/listenerOptions.ts"

/**
 * Listens on a socket, or on several as one, until the scope is closed. Without options it listens on file descriptor 0.
 *
 * **Details**
 *
 * Connections that arrive before the listener is run, or after its run has been interrupted, are accepted and wait. They are not
 * read, except for the 64 KiB that Node buffers for each.
 *
 * A socket that a dead program has left at a UNIX path is replaced. A socket on which a live server listens is not replaced, nor is
 * any other file. Nobody can connect before the mode and the owner are set. Closing removes the socket only when it is still this
 * one.
 *
 * The listener obeys FCGI_WEB_SERVER_ADDRS (SPEC 3.2). Where that is set, in the `ConfigProvider` or in the environment, only peers
 * with one of its IPv4 addresses may connect, and nobody over a UNIX socket. A list that does not parse is an error. Listening
 * without a list on an address that other hosts can reach logs a warning.
 *
 * Fails with `FastCgiListenerError`, whose message says what to do. Listening on file descriptor 0 makes `process.stdin` an empty
 * stream, because reading the socket as stdin would throw.
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = (
  options: NodeFastCgiListenerOptions | ReadonlyArray<NodeFastCgiListenerOptions> = {}
): Effect.Effect<FastCgiListener["Service"], FastCgiListenerError, Scope.Scope> => {
  const made = isSeveral(options)
    ? Effect.flatMap(
      Effect.forEach(options, makeOne),
      (listeners) =>
        isNonEmpty(listeners)
          ? Effect.succeed(merge(listeners))
          : Effect.fail(listenerError("Unknown", "Cannot listen: the list of listeners is empty."))
    )
    : makeOne(options)
  return Effect.map(made, (listener) => workerEnd()?.watched(listener) ?? listener)
}

/**
 * Makes one listener of several: it has the addresses of all, accepts from all, and stops all.
 *
 * @category combinators
 * @since 0.1.0
 */
export const merge = (
  listeners: Arr.NonEmptyReadonlyArray<FastCgiListener["Service"]>
): FastCgiListener["Service"] =>
  FastCgiListener.of({
    address: listeners[0].address,
    addresses: Arr.flatMap(listeners, ({ addresses }) => addresses),
    run: (onConnection) =>
      Effect.andThen(
        Effect.forEach(listeners, (listener) => listener.run(onConnection), {
          concurrency: "unbounded",
          discard: true
        }),
        Effect.never
      ),
    stopAccepting: Effect.forEach(listeners, (listener) => listener.stopAccepting, {
      concurrency: "unbounded",
      discard: true
    })
  })

/**
 * Provides a listener on a socket, or on several: see `make`.
 *
 * **Example** (Listening on a UNIX socket for nginx, and on a port for tests)
 *
 * ```ts
 * import { NodeFastCgiListener } from "effect-fastcgi/node"
 *
 * export const Listener = NodeFastCgiListener.layer([{ path: "/run/app/app.sock", mode: 0o660 }, { port: 9000 }])
 * ```
 *
 * @category layers
 * @since 0.1.0
 */
export const layer = (
  options?: NodeFastCgiListenerOptions | ReadonlyArray<NodeFastCgiListenerOptions>
): Layer.Layer<FastCgiListener, FastCgiListenerError> => Layer.effect(FastCgiListener, make(options))

/**
 * Provides a listener on a socket that the process was started with, by default on file descriptor 0 (SPEC 2.2).
 *
 * @category layers
 * @since 0.1.0
 */
export const layerFd = (options: FdOptions = {}): Layer.Layer<FastCgiListener, FastCgiListenerError> => layer(options)

/**
 * Provides the one request of a process that a web server has started as a plain CGI program (RFC 3875), as a connection. Ends the
 * process when the request has been answered.
 *
 * **When to use**
 *
 * Seldom. Without options a listener does the same by itself, when file descriptor 0 is no listening socket and GATEWAY_INTERFACE is
 * set, so one program runs both ways. CGI is slow, because every request starts Node anew.
 *
 * **Details**
 *
 * The environment becomes PARAMS, and CONTENT_LENGTH bytes of standard input become STDIN. STDOUT goes to standard output, STDERR to
 * standard error. Everything above sees a FastCGI connection. From then on, loggers and `console.log` print to standard error, so
 * build the listener before anything prints. HTTP_PROXY is removed from `process.env`, because in a CGI program it is a header
 * `Proxy` of the client.
 *
 * When the connection has closed, the handlers of SIGTERM are called without a signal: `NodeFastCgiRuntime.runMain` and similar
 * functions then interrupt the program and close its layers. A program without a handler for SIGTERM is ended. The exit status is
 * the request's appStatus, at most 255, or 1 when it has none.
 *
 * Fails with `FastCgiListenerError` when GATEWAY_INTERFACE is not set. Access lists do not apply, because nobody connects.
 *
 * @category layers
 * @since 0.1.0
 */
export const layerCgi = (): Layer.Layer<FastCgiListener, FastCgiListenerError> =>
  Layer.effect(
    FastCgiListener,
    Effect.suspend(() =>
      CgiProgram.isCgi(process.env)
        ? cgiProcess
        : Effect.fail(listenerError(
          "Unknown",
          "This process was not started as a CGI program: GATEWAY_INTERFACE is not set. Let a web server start it, or, to " +
            "try it: GATEWAY_INTERFACE=CGI/1.1 REQUEST_METHOD=GET REQUEST_URI=/ node app.js"
        ))
    )
  )

/**
 * Provides a listener on a UNIX socket path.
 *
 * @category layers
 * @since 0.1.0
 */
export const layerUnix = (options: UnixOptions): Layer.Layer<FastCgiListener, FastCgiListenerError> => layer(options)

/**
 * Provides a listener on a TCP port, by default of the loopback address only.
 *
 * @category layers
 * @since 0.1.0
 */
export const layerTcp = (options: TcpOptions): Layer.Layer<FastCgiListener, FastCgiListenerError> => layer(options)

/**
 * Provides a listener on the sockets that systemd has passed, all of them unless told otherwise.
 *
 * **Details**
 *
 * systemd itself holds the sockets. Connections that arrive while the program is not running wait until it accepts them, for instance
 * between the old and the new process of a restart. The names and the count come from the environment (LISTEN_FDS, LISTEN_PID,
 * LISTEN_FDNAMES). The listener removes these variables.
 *
 * Fails with `FastCgiListenerError` and the reason `NotASocket` when the process was not started by socket activation, when another
 * program stands between systemd and this process, and when no socket has the name.
 *
 * **Example** (The socket of the unit that says FileDescriptorName=fastcgi)
 *
 * ```ts
 * import { NodeFastCgiListener } from "effect-fastcgi/node"
 *
 * export const Listener = NodeFastCgiListener.layerSystemd({ systemd: "fastcgi" })
 * ```
 *
 * @category layers
 * @since 0.1.0
 */
export const layerSystemd = (
  options: SystemdOptions = { systemd: true }
): Layer.Layer<FastCgiListener, FastCgiListenerError> => layer(options)

/**
 * Where to listen, from settings of the environment, each of which may be left out.
 *
 * | setting               | what it says                                                                                  |
 * | --------------------- | --------------------------------------------------------------------------------------------- |
 * | `FASTCGI_LISTEN`      | `/run/app.sock`, `127.0.0.1:9000`, `9000`, `fd:0`, `systemd`, `systemd:NAME`; several, with commas between. Default `fd:0` |
 * | `FASTCGI_SOCKET_MODE` | the file mode of UNIX sockets, octal: `660`                                                   |
 * | `FASTCGI_SOCKET_USER` | the owner of UNIX sockets, a name or an id                                                    |
 * | `FASTCGI_SOCKET_GROUP` | the group of UNIX sockets                                                                    |
 * | `FASTCGI_BACKLOG`     | a whole number                                                                                |
 * | `FASTCGI_ALLOW`       | who may connect over TCP: addresses and networks, with commas between                         |
 * | `FASTCGI_PROXY_PROTOCOL` | which peers send PROXY headers: addresses and networks with commas between, or `yes` for all |
 * | `FASTCGI_TLS_CERT`, `FASTCGI_TLS_KEY` | files with the certificate and its key, in PEM                               |
 * | `FASTCGI_TLS_CA`      | a file with authorities; every peer must present a certificate of one of them                 |
 * | `FASTCGI_HANDSHAKE_TIMEOUT` | a duration, such as `10 seconds`                                                        |
 *
 * Logs a warning for each variable that begins with `FASTCGI_` and is no setting of this package, and for a setting that says
 * nothing about the sockets of `FASTCGI_LISTEN`: a file mode or an owner of a port, an access list of a path.
 *
 * @category configuration
 * @since 0.1.0
 */
export const config: Config.Config<ReadonlyArray<NodeFastCgiListenerOptions>> = Config.mapEffect(
  Config.all({
    listen: checked("FASTCGI_LISTEN", listenForms, (text) => {
      const addresses = text.split(",").map((one) => one.trim())
      const twice = addresses.find((one, at) => addresses.indexOf(one) !== at)
      if (twice !== undefined) return Result.fail({ message: `${JSON.stringify(twice)} is there twice` })
      return Result.all(
        addresses.map((one) =>
          Result.fromNullishOr(parseListenAddress(one), () => ({ message: `${JSON.stringify(one)} is none of them` }))
        )
      )
    }),
    mode: setting(
      "FASTCGI_SOCKET_MODE",
      "three octal digits, such as 660",
      (text) => /^0?[0-7]{3}$/.test(text) ? Number.parseInt(text, 8) : undefined
    ),
    user: setting("FASTCGI_SOCKET_USER", "a user's name or id", asAccountName),
    group: setting("FASTCGI_SOCKET_GROUP", "a group's name or id", asAccountName),
    limits: limits(FastCgiLimits.listener),
    allow: accessList("FASTCGI_ALLOW"),
    proxyProtocol: Config.map(
      accessList("FASTCGI_PROXY_PROTOCOL", "addresses and networks, with commas between, or yes", ["yes"]),
      (list): true | ReadonlyArray<string> | undefined => list?.[0] === "yes" ? true : list
    ),
    tls: tlsFiles("FASTCGI_TLS"),
    renewals: tlsRenewals("FASTCGI_TLS")
  }),
  Effect.fnUntraced(
    function*(
      { allow, group, limits: { backlog, handshakeTimeout }, listen, mode, proxyProtocol, renewals, tls, user }
    ) {
      yield* warnOfUnknown
      // An empty list lets nobody in, and is an error when it is used. A `ConfigProvider` takes an empty list for none.
      const owner = user === undefined && group === undefined ? undefined : { user, group }
      const { ca, cert, key } = tls
      if ((cert === undefined) !== (key === undefined) || (ca !== undefined && cert === undefined)) {
        const message = "FASTCGI_TLS_CERT and FASTCGI_TLS_KEY go together, and FASTCGI_TLS_CA goes with them"
        return yield* Effect.fail(settingError(message))
      }
      const front = {
        backlog,
        handshakeTimeout,
        proxyProtocol,
        tls: cert === undefined || key === undefined ? undefined : { ca, cert, key, renewals }
      }
      const more = { ...front, allow: allow ?? ((yield* isSetToNothing("FASTCGI_ALLOW")) ? [] : undefined) }
      const listens = listen ?? [{ fd: 0 }]
      if (listens.every(({ path }) => path === undefined)) {
        const why = "names no path of a UNIX socket"
        yield* warnOfIgnored({ FASTCGI_SOCKET_MODE: mode, FASTCGI_SOCKET_USER: user, FASTCGI_SOCKET_GROUP: group }, why)
      } else if (listens.every(({ path }) => path !== undefined)) {
        const why = "names nothing but paths of UNIX sockets, where the file mode says who may connect"
        yield* warnOfIgnored({ FASTCGI_ALLOW: allow }, why)
      }
      return listens.map((options): NodeFastCgiListenerOptions =>
        options.path === undefined ? { ...options, ...more } : { ...options, ...front, mode, owner }
      )
    }
  )
)

/**
 * Provides a listener on what `config` says, or another `Config` value.
 *
 * @category layers
 * @since 0.1.0
 */
export const layerConfig = (
  options: Config.Config<NodeFastCgiListenerOptions | ReadonlyArray<NodeFastCgiListenerOptions>> = config
): Layer.Layer<FastCgiListener, FastCgiListenerError | Config.ConfigError> =>
  Layer.unwrap(Effect.map(options, (options) => layer(options)))

// -----------------------------------------------------------------------------
// Internal
// -----------------------------------------------------------------------------

const warnOfIgnored = (given: Readonly<Record<string, unknown>>, why: string): Effect.Effect<void> =>
  Effect.forEach(
    Object.keys(given).filter((name) => given[name] !== undefined),
    (name) => Effect.logWarning(`${name} is set, but FASTCGI_LISTEN ${why}`),
    { discard: true }
  )

const makeOne = (
  options: NodeFastCgiListenerOptions
): Effect.Effect<FastCgiListener["Service"], FastCgiListenerError, Scope.Scope> => {
  const { backlog = FastCgiLimits.listener.backlog.default, handshakeTimeout, proxyProtocol, tls } = options
  // A list does not refuse peers of a UNIX socket, but it sees them as well.
  const front = {
    allow: "allow" in options ? options.allow : undefined,
    proxyProtocol,
    tls,
    handshakeTimeout
  }
  const worker = workerEnd()
  if ("path" in options && options.path !== undefined) {
    const { mode, owner, path, unlink = true } = options
    const unix = { path, mode, owner, backlog, unlink }
    return acceptor(
      formatPath(path),
      backlog,
      (server) =>
        worker !== undefined
          ? worker.bind(server, onPath(unix), backlog)
          : isClusterWorker() && !path.startsWith("\0")
          ? bindInCluster(server, unix)
          : bindUnix(server, unix),
      { ...front, isUnix: true }
    )
  }
  if ("port" in options && options.port !== undefined) {
    const { host = "127.0.0.1", ipv6Only = false, port } = options
    const inet = { host, port, ipv6Only, backlog }
    return acceptor(
      `${formatHost(host)}:${port}`,
      backlog,
      (server) => worker === undefined ? bindInet(server, inet) : worker.bind(server, onPort(inet), backlog),
      front
    )
  }
  if ("systemd" in options && options.systemd !== undefined) return makeSystemd(options.systemd, backlog, front)
  const fd = "fd" in options ? options.fd ?? 0 : 0
  const listening = acceptor(`file descriptor ${fd}`, backlog, bindInherited(fd, backlog), front)
  if (worker !== undefined) return listening
  if (fd !== 0 || ("cgi" in options && options.cgi === false) || !CgiProgram.isCgi(process.env)) return listening
  return Effect.catchReason(listening, "FastCgiListenerError", "NotASocket", () => cgiProcess)
}

const makeSystemd = Effect.fnUntraced(function*(
  which: true | string,
  backlog: number,
  front: AcceptorOptions
): Effect.fn.Return<FastCgiListener["Service"], FastCgiListenerError, Scope.Scope> {
  const name = which === true ? undefined : which
  const worker = workerEnd()
  const sockets = yield* worker === undefined ? systemdSockets(name) : worker.passed(name)
  const listeners = yield* Effect.forEach(sockets, ({ fd, name }) =>
    acceptor(
      `the socket "${name}" of systemd (file descriptor ${fd})`,
      backlog,
      bindInherited(fd, backlog),
      front
    ))
  return isNonEmpty(listeners) && listeners.length > 1 ? merge(listeners) : listeners[0]!
})

// In a worker, the socket is a descriptor of the supervisor.
const bindInherited = (fd: number, backlog: number) => (server: Net.Server) => {
  const worker = workerEnd()
  return worker === undefined ? bindFd(server, { fd, backlog }) : worker.bind(server, onFd(fd), backlog)
}

const isSeveral = (
  options: NodeFastCgiListenerOptions | ReadonlyArray<NodeFastCgiListenerOptions>
): options is ReadonlyArray<NodeFastCgiListenerOptions> => Array.isArray(options)

const isNonEmpty = <A>(items: ReadonlyArray<A>): items is Arr.NonEmptyReadonlyArray<A> => items.length > 0
