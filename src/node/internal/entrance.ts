/**
 * The part of a connection in front of FastCGI: the header of the PROXY protocol, and a TLS handshake, in this order.
 * Both are bounded in bytes and in time. Who fails is closed, which is logged at most once in ten seconds.
 */
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Stream from "effect/Stream"
import { AsyncLocalStorage } from "node:async_hooks"
import type * as Net from "node:net"
import * as Tls from "node:tls"
import type { FastCgiTransport } from "../../connection/FastCgiTransport.ts"
import { LinkedItem, LinkedList } from "../../connection/internal/linkedList.ts"
import * as FastCgiAccess from "../../server/FastCgiAccess.ts"
import * as FastCgiLimits from "../../server/FastCgiLimits.ts"
import type { FastCgiListenerError } from "../../server/FastCgiListener.ts"
import { LimitedLog } from "../../server/internal/limitedLog.ts"
import { peerOf, refuse } from "./access.ts"
import { errorCode, errorText, listenerError } from "./listenerError.ts"
import type { TlsCertificates, TlsOptions } from "./listenerOptions.ts"
import { beginsProxyHeader, parseProxyHeader, type ProxySource } from "./proxyHeader.ts"
import { fromDuplex, fromSocket } from "./socketTransport.ts"
import { certificateProblem, pem } from "./tlsFiles.ts"

/** The layers in front of FastCGI. */
export interface EntranceOptions {
  readonly tls?: TlsOptions | undefined
  /** The peers that begin with a header of the PROXY protocol: all that may connect, or those on a list. */
  readonly proxyProtocol?: true | ReadonlyArray<string> | undefined
  readonly handshakeTimeout?: Duration.Input | undefined
}

/** Lets connections in. */
export interface Entrance {
  /** Calls `enter` when everything is there that has to be. */
  readonly admit: (socket: Net.Socket, enter: (transport: FastCgiTransport) => void) => void
  /** Whether nobody waits to be let in. */
  readonly isEmpty: () => boolean
  /** Closes those who have not been let in. */
  readonly close: () => void
}

/**
 * Makes the entrance of a listener, where it has one. `isUnix` says that its peers have no address, and `isRestricted` that somebody
 * has said who may connect.
 */
export const makeEntrance = Effect.fnUntraced(function*(
  name: string,
  options: EntranceOptions,
  isUnix: boolean,
  isRestricted: boolean
): Effect.fn.Return<Entrance | undefined, FastCgiListenerError> {
  const { proxyProtocol, tls } = options
  const { handshakeTimeout } = FastCgiLimits.resolve(FastCgiLimits.listener, {
    handshakeTimeout: options.handshakeTimeout
  })
  if (tls === undefined && proxyProtocol === undefined) return undefined
  const context = yield* Effect.context<never>()
  const log = new LimitedLog(context)
  const sends = yield* senders(name, proxyProtocol, isUnix, isRestricted)
  const tlsServer = tls === undefined ? undefined : yield* makeTls(name, tls)
  const renewals = tls?.renewals === undefined || tlsServer === undefined
    ? undefined
    : Effect.runForkWith(context)(
      Stream.runForEach(tls.renewals, (certificates) => renew(name, tlsServer, certificates, tls.ca !== undefined))
    )
  // In the order in which they came.
  const waiting = new LinkedList<LinkedItem<Waiting>>()
  const places = new WeakMap<Net.Socket, LinkedItem<Waiting>>()
  // Asked when they were accepted: of one that is closed nobody knows it any more.
  const addresses = new WeakMap<Net.Socket, string>()
  // Of which has been said why they were refused, or that were let in.
  const over = new WeakSet<Net.Socket>()

  const refused = (socket: Net.Socket | undefined, kind: string, why: string) => {
    const address = socket === undefined ? undefined : addresses.get(socket)
    const from = address === undefined ? "" : ` from ${address}`
    if (socket !== undefined) {
      leave(socket)
      over.add(socket)
      if (tlsServer === undefined) refuse(socket)
      else socket.destroy()
    }
    FastCgiAccess.refusedConnections.updateUnsafe(1, context)
    log.log(kind, Effect.logWarning(`Refused a connection${from} on ${name}: ${why}`))
  }
  const leave = (socket: Net.Socket) => {
    const place = places.get(socket)
    if (place !== undefined) {
      clearTimeout(place.value.timer)
      waiting.remove(place)
    }
    socket.off("close", onClose)
  }
  const onClose = function(this: Net.Socket) {
    leave(this)
  }

  // Only listed peers send a header. Others speak FastCGI from the first byte on, and a header of theirs is forged.
  const header = (socket: Net.Socket, next: (source: ProxySource | undefined) => void) => {
    const expected = sends(socket)
    let bytes: Buffer = Buffer.alloc(0)
    const read = () => {
      const chunk: Buffer | null = socket.read()
      if (chunk === null) return
      bytes = Buffer.concat([bytes, chunk])
      if (!expected) {
        if (beginsProxyHeader(bytes[0])) {
          refused(socket, "forged", "it sent a PROXY header, and is not listed in proxyProtocol")
        } else done(bytes, undefined)
        return
      }
      const parsed = parseProxyHeader(bytes)
      if (parsed === undefined) return
      if (parsed._tag === "NoProxyHeader") refused(socket, "header", `it sent no PROXY header: ${parsed.message}`)
      else done(bytes.subarray(parsed.size), parsed.source)
    }
    const done = (rest: Buffer, source: ProxySource | undefined) => {
      socket.off("readable", read)
      if (rest.length > 0) socket.unshift(rest)
      next(source)
    }
    socket.on("readable", read)
  }

  // Node does not say of which connection a TLS socket is. What it calls back belongs to the handshake that `run` has begun.
  const handshakes = new AsyncLocalStorage<Handshake>()
  tlsServer?.on("secureConnection", (socket) => handshakes.getStore()?.done(socket))
  tlsServer?.on("tlsClientError", (error, secured) => {
    const { _parent, authorizationError } = secured as TlsInside
    const socket = handshakes.getStore()?.socket ?? _parent
    if (socket !== undefined && over.has(socket)) return
    // Of a certificate that is not accepted Node says that the connection was closed, which it has done itself. Who leaves by
    // himself is nobody's concern.
    const why = authorizationError ?? (errorCode(error) === "ECONNRESET" ? undefined : errorText(error))
    if (why !== undefined) refused(socket, "tls", `the TLS handshake failed: ${String(why).trim()}`)
  })

  return {
    admit: (socket, enter) => {
      socket.on("error", ignore)
      socket.on("close", onClose)
      if (socket.remoteAddress !== undefined) addresses.set(socket, socket.remoteAddress)
      if (waiting.size >= maxWaiting) {
        const { first } = waiting
        if (first !== undefined) refused(first.value.socket, "waiting", `${maxWaiting} other connections wait in front`)
      }
      const timer = setTimeout(
        () =>
          refused(
            socket,
            "late",
            `it has not finished its PROXY header and TLS for ${handshakeTimeout} ms (handshakeTimeout)`
          ),
        handshakeTimeout
      )
      const place = new LinkedItem({ socket, timer })
      waiting.push(place)
      places.set(socket, place)
      const admitted = (source: ProxySource | undefined) => {
        const addressed = source ?? { remoteAddress: socket.remoteAddress, remotePort: socket.remotePort }
        if (tlsServer === undefined) {
          leave(socket)
          socket.off("error", ignore)
          enter(fromSocket(socket, { watchesPeer: true, addressed }))
          return
        }
        const done = (secured: Tls.TLSSocket) => {
          leave(socket)
          over.add(socket)
          enter(fromDuplex(secured, addressed))
        }
        handshakes.run({ socket, done }, () => tlsServer.emit("connection", socket))
      }
      if (proxyProtocol === undefined) admitted(undefined)
      else header(socket, admitted)
    },
    isEmpty: () => waiting.size === 0,
    close: () => {
      renewals?.interruptUnsafe()
      for (const { value: { socket } } of waiting.toArray()) {
        leave(socket)
        socket.destroy()
      }
    }
  }
})

// -----------------------------------------------------------------------------
// Internal
// -----------------------------------------------------------------------------

// Connections that have not been let in. One more costs the oldest its place: no proxy lets so many wait.
const maxWaiting = 1024

interface Waiting {
  readonly socket: Net.Socket
  readonly timer: NodeJS.Timeout
}

interface Handshake {
  readonly socket: Net.Socket
  readonly done: (secured: Tls.TLSSocket) => void
}

// Members that Node's types leave out. `_parent`, the socket below, is for a message only.
interface TlsInside {
  readonly _parent?: Net.Socket | undefined
  readonly authorizationError?: unknown
}

const ignore = () => {}

const senders = Effect.fnUntraced(function*(
  name: string,
  proxyProtocol: EntranceOptions["proxyProtocol"],
  isUnix: boolean,
  isRestricted: boolean
): Effect.fn.Return<(socket: Net.Socket) => boolean, FastCgiListenerError> {
  if (proxyProtocol === undefined) return () => false
  if (proxyProtocol === true) {
    return isUnix || isRestricted ? () => true : yield* listenerError(
      "InvalidAccessList",
      `Cannot listen on ${name}: whoever can connect could say to be anybody, by a PROXY header. Say who sends them, ` +
        "{ proxyProtocol: [\"192.0.2.10\"] }, or who may connect, { allow: [\"192.0.2.10\"] }."
    )
  }
  const list = FastCgiAccess.fromEntries(proxyProtocol, { name: "proxyProtocol", unixSockets: true })
  const permitted = yield* Effect.mapError(
    Effect.fromResult(list),
    (cause) => listenerError("InvalidAccessList", `Cannot listen on ${name}: ${errorText(cause)}`, cause)
  )
  return (socket) => FastCgiAccess.permits(permitted, peerOf(socket))
})

const secureOptions = ({ ca, cert, key }: TlsCertificates): Tls.SecureContextOptions => ({
  cert: pem(cert),
  key: pem(key),
  ...ca === undefined ? undefined : { ca: pem(ca) }
})

// Whether peers present a certificate is decided for good when the server is made.
const renew = (
  name: string,
  server: Tls.Server,
  certificates: TlsCertificates,
  isMutual: boolean
): Effect.Effect<void> =>
  Effect.try({
    try: () => {
      if (isMutual !== (certificates.ca !== undefined)) {
        throw new Error(isMutual ? "it has no authorities" : "it has authorities, and the one before has none")
      }
      const problem = certificateProblem(certificates)
      if (problem !== undefined) throw new Error(problem)
      const options = secureOptions(certificates)
      // Fails before anything of the server has changed.
      Tls.createSecureContext(options)
      server.setSecureContext(options)
    },
    catch: errorText
  }).pipe(Effect.matchEffect({
    onFailure: (why) =>
      Effect.logError(`The certificate of ${name} stays as it is, the new one cannot be used: ${why}`),
    onSuccess: () => Effect.logInfo(`The certificate of ${name} has been renewed`)
  }))

const makeTls = (name: string, options: TlsOptions): Effect.Effect<Tls.Server, FastCgiListenerError> =>
  Effect.try({
    try: () => {
      const problem = certificateProblem(options)
      if (problem !== undefined) throw new Error(problem)
      return new Tls.Server({
        ...secureOptions(options),
        ...options.ca === undefined ? undefined : { requestCert: true, rejectUnauthorized: true },
        // The entrance has a timeout of its own.
        handshakeTimeout: 2 ** 31 - 1
      })
    },
    catch: (cause) =>
      listenerError("InvalidCertificate", `Cannot listen on ${name} with TLS: ${errorText(cause)}`, cause)
  })
