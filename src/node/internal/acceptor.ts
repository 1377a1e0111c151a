/**
 * A listening `node:net` server as a `FastCgiListener`: accepts, holds what comes before somebody runs it, and stops.
 */
import * as Effect from "effect/Effect"
import * as NetAddress from "effect/net/NetAddress"
import type * as Scope from "effect/Scope"
import * as Net from "node:net"
import type { FastCgiTransport } from "../../connection/FastCgiTransport.ts"
import * as FastCgiAccess from "../../server/FastCgiAccess.ts"
import { FastCgiListener, type FastCgiListenerError } from "../../server/FastCgiListener.ts"
import { acceptFailures } from "../../server/FastCgiMetrics.ts"
import { LimitedLog } from "../../server/internal/limitedLog.ts"
import { accessLists, peerOf, refuse, warnOfAccess } from "./access.ts"
import { watchDescriptors } from "./descriptors.ts"
import { type EntranceOptions, makeEntrance } from "./entrance.ts"
import { listenerError } from "./listenerError.ts"
import { acceptReadingSockets } from "./readingSocket.ts"
import { fromSocket } from "./socketTransport.ts"

/** The address of a server that listens now. */
export interface Bound {
  readonly address: NetAddress.SocketAddress
  /** Called before the listening socket is closed: takes its name away, so that no new connection finds it. */
  readonly unlink?: (() => void) | undefined
  /** Called after the listening socket has been closed. */
  readonly closed?: (() => void) | undefined
}

/** Calls `listen` and waits until the server listens. What it throws and the server's "error" event go to `onError`. */
export const listen = (
  server: Net.Server,
  listen: () => void,
  onError: (cause: unknown) => FastCgiListenerError
): Effect.Effect<void, FastCgiListenerError> =>
  Effect.callback((resume) => {
    const failed = (cause: unknown) => {
      server.off("listening", succeeded)
      resume(Effect.fail(onError(cause)))
    }
    const succeeded = () => {
      server.off("error", failed)
      resume(Effect.void)
    }
    server.once("error", failed)
    server.once("listening", succeeded)
    try {
      listen()
    } catch (cause) {
      server.off("error", failed)
      failed(cause)
    }
  })

/** Who may connect, and the layers in front of FastCGI. */
export interface AcceptorOptions extends EntranceOptions {
  readonly allow?: ReadonlyArray<string> | undefined
  /** Whether it is a UNIX socket, as far as that is known before it is bound. Default false. */
  readonly isUnix?: boolean | undefined
}

/**
 * Binds a server by `bind`, and accepts until the scope is closed. `name` is what log messages call the listener, and
 * `backlog` what the server listens with. Over TCP the peers in `allow` may connect, by default all; where
 * FCGI_WEB_SERVER_ADDRS is set, only those that are on that list too, and nobody over a UNIX socket (SPEC 3.2).
 */
export const acceptor = Effect.fnUntraced(function*(
  name: string,
  backlog: number,
  bind: (server: Net.Server) => Effect.Effect<Bound, FastCgiListenerError>,
  { allow, isUnix = false, ...front }: AcceptorOptions = {}
): Effect.fn.Return<FastCgiListener["Service"], FastCgiListenerError, Scope.Scope> {
  const context = yield* Effect.context<never>()
  // Before the server listens: when a list does not parse, nobody has got in meanwhile.
  const lists = yield* accessLists(name, allow)
  const admits = lists.length === 0 ? undefined : yield* FastCgiAccess.guard(lists, name)
  const entrance = yield* makeEntrance(name, front, isUnix, lists.length > 0)
  // A peer that half-closes after its request still gets an answer.
  const server = new Net.Server({ allowHalfOpen: true })

  // Accepted while nobody ran the listener. Each holds a bounded amount, and one whose peer has gone away is forgotten.
  const held = new Set<FastCgiTransport>()
  let accept: ((transport: FastCgiTransport) => void) | undefined
  let accepted = 0
  let open = 0
  let bindsUnix = false
  let whenClosed: (() => void) | undefined
  // They come in bursts.
  const errors = new LimitedLog(context)
  const failed = (kind: string, message: string) => {
    acceptFailures.updateUnsafe(1, context)
    errors.log(kind, Effect.logWarning(message))
  }
  acceptFailures.valueUnsafe(context)
  const descriptors = watchDescriptors((limit) =>
    failed(
      "descriptors",
      `No connection can be accepted on ${name}: all ${limit} file descriptors of this process are in use, and whoever ` +
        "connects is closed. Raise the limit (LimitNOFILE= of systemd, ulimit -n), or lower maxConnections."
    )
  )

  const closed = () => {
    if (--open === 0) whenClosed?.()
  }

  server.on("connection", (socket) => {
    accepted++
    open++
    socket.on("close", closed)
    descriptors.accepted(socket)
    if (admits !== undefined && !admits(peerOf(socket))) {
      refuse(socket)
      return
    }
    if (entrance === undefined) enter(fromSocket(socket, { watchesPeer: true, isUnix: bindsUnix }))
    else entrance.admit(socket, enter)
  })

  const enter = (transport: FastCgiTransport) => {
    if (accept !== undefined) {
      accept(transport)
      return
    }
    held.add(transport)
    transport.observeUnsafe({
      onDrain: () => {},
      onClose: () => held.delete(transport)
    })
  }

  let unlinked = false
  const unlink = (bound: Bound) => {
    if (unlinked) return
    unlinked = true
    bound.unlink?.()
  }
  const close = (bound: Bound) => {
    unlink(bound)
    if (!server.listening) return
    server.close()
    bound.closed?.()
  }

  const bound = yield* Effect.acquireRelease(
    bind(server).pipe(
      Effect.onError(() =>
        Effect.sync(() => {
          descriptors.stop()
          server.close()
          entrance?.close()
        })
      ),
      Effect.tap((bound) =>
        Effect.sync(() => {
          bindsUnix = NetAddress.isUnixPathAddress(bound.address)
          // Node's streams read the layers in front of FastCGI.
          if (entrance === undefined) acceptReadingSockets(server)
          server.on("error", (cause) =>
            failed("accept", `A connection could not be accepted on ${name}: ${cause.message}`))
        })
      )
    ),
    (bound) =>
      Effect.sync(() => {
        descriptors.stop()
        close(bound)
        entrance?.close()
        for (const transport of held) transport.destroyUnsafe()
      })
  )
  yield* warnOfAccess(name, bound.address, lists)

  return FastCgiListener.of({
    address: bound.address,
    addresses: [bound.address],
    run: (onConnection) =>
      Effect.callback<never, FastCgiListenerError>((resume) => {
        if (accept !== undefined) {
          resume(Effect.fail(listenerError("Unknown", `The listener on ${name} is being run already.`)))
          return
        }
        accept = onConnection
        for (const transport of held) onConnection(transport)
        held.clear()
        return Effect.sync(() => {
          accept = undefined
        })
      }),
    // Closing the socket resets the connections that wait in its backlog. Node accepts one in a turn of the event loop, so
    // the socket is closed after two turns that brought none. On a port the next ones may come for ever.
    stopAccepting: Effect.callback<void>((resume) => {
      unlink(bound)
      let quiet = 0
      let left = backlog
      let before = accepted
      let timer: NodeJS.Timeout | undefined
      const done = () => {
        clearTimeout(timer)
        resume(Effect.void)
      }
      const turn = () => {
        quiet = accepted === before ? quiet + 1 : 0
        before = accepted
        if (quiet < 2 && left-- > 0 && server.listening) {
          setImmediate(turn)
          return
        }
        // Nothing before it: whoever connects between the last look and this is reset.
        close(bound)
        if (open === 0) return done()
        whenClosed = done
        // Who is still on the way in has connected before the end, and its request follows. As long as connections go, which they do
        // behind their last answer, the others are in use too: on a busy machine their clients are only slow.
        let times = mostTimes
        let remaining = open
        const look = (waited: boolean) => {
          const mayWait = times-- > 0
          const waits = mayWait && entrance !== undefined && !entrance.isEmpty()
          const inUse = mayWait && open < remaining
          remaining = open
          if (waits || waited || inUse) soon(waits)
          else done()
        }
        // Once more after a process that had no CPU for so long has read what has come meanwhile: timers go first.
        const soon = (waited: boolean) => {
          timer = setTimeout(() => setImmediate(look, waited), lastRequestTime)
        }
        soon(false)
      }
      if (server.listening) setImmediate(turn)
      else resume(Effect.void)
      return Effect.sync(() => clearTimeout(timer))
    })
  })
})

// In milliseconds: how long web servers have to ask once more on the connections that they keep. Clients of a busy server
// follow an answer with their next request, so a kept connection is idle for a moment only, and closing it in that moment
// crosses a request: measured behind nginx, 12 clients and 600 requests a second, every second stop lost a POST. When none has
// been used for this long, they are not in use.
const lastRequestTime = 100

// How often a stop waits so long, for PROXY headers and TLS handshakes, which take some round trips between hosts, and for
// connections that are in use: a second.
const mostTimes = 10
