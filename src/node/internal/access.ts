/**
 * Who may connect to a listening socket, checked when a connection has been accepted and before a byte of it is read.
 */
import * as Effect from "effect/Effect"
import * as NetAddress from "effect/net/NetAddress"
import * as Option from "effect/Option"
import type * as Net from "node:net"
import * as FastCgiAccess from "../../server/FastCgiAccess.ts"
import type { FastCgiListenerError } from "../../server/FastCgiListener.ts"
import { inetAddress } from "./inetAddress.ts"
import { errorText, listenerError } from "./listenerError.ts"

const unixSocket = NetAddress.unixPathAddress("")

/** The lists that a listener obeys: FCGI_WEB_SERVER_ADDRS (SPEC 3.2), and its own. */
export const accessLists = Effect.fnUntraced(function*(
  name: string,
  allow: ReadonlyArray<string> | undefined
): Effect.fn.Return<ReadonlyArray<FastCgiAccess.FastCgiAccess>, FastCgiListenerError> {
  const failed = (cause: unknown) =>
    listenerError("InvalidAccessList", `Cannot listen on ${name}: ${errorText(cause)}`, cause)
  const lists = Option.toArray(yield* Effect.mapError(FastCgiAccess.webServerAddrs, failed))
  if (allow === undefined) return lists
  const own = FastCgiAccess.fromEntries(allow, { unixSockets: true })
  return [...lists, yield* Effect.mapError(Effect.fromResult(own), failed)]
})

/**
 * Where a connection comes from. Undefined for a TCP peer that has reset its connection already. It must not pass for a UNIX
 * socket, which has no address either: what it sent before can still be read. The local address is known in any case.
 */
export const peerOf = (socket: Net.Socket): NetAddress.SocketAddress | undefined => {
  if (socket.remoteAddress !== undefined) {
    return Option.getOrUndefined(inetAddress(socket.remoteAddress, socket.remotePort))
  }
  return socket.localAddress === undefined ? unixSocket : undefined
}

/**
 * Closes a connection unread. By RST over TCP: a plain close would leave it in TIME_WAIT here, for a minute, one for every
 * attempt.
 */
export const refuse = (socket: Net.Socket): void => {
  socket.on("error", () => {})
  if (socket.localAddress === undefined) socket.destroy()
  else socket.resetAndDestroy()
}

/** Says when nobody can connect, or everybody. */
export const warnOfAccess = (
  name: string,
  address: NetAddress.SocketAddress,
  lists: ReadonlyArray<FastCgiAccess.FastCgiAccess>
): Effect.Effect<void> => {
  if (NetAddress.isUnixPathAddress(address)) {
    return lists.every((list) => list.unixSockets) ? Effect.void : Effect.logWarning(
      `Nobody can connect on ${name}: ${FastCgiAccess.webServerAddrsName} is set, which is a list of IPv4 addresses, and ` +
        "peers over a UNIX socket have none. Unset it; the file mode of the socket says who may connect."
    )
  }
  return lists.length > 0 || NetAddress.isLoopback(address.address) ? Effect.void : Effect.logWarning(
    `Other hosts can connect on ${name}, and whoever does can set every variable that the application trusts its web ` +
      "server with. Say where the web server connects from, { allow: [\"192.0.2.10\"] } or " +
      `${FastCgiAccess.webServerAddrsName}=192.0.2.10, or listen on 127.0.0.1 or on a UNIX socket.`
  )
}
