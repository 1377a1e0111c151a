/**
 * Listening on an internet address.
 */
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import type * as Net from "node:net"
import type { FastCgiListenerError } from "../../server/FastCgiListener.ts"
import type { Bound } from "./acceptor.ts"
import { listen } from "./acceptor.ts"
import { inetAddress } from "./inetAddress.ts"
import { formatHost, listenerError, tcpError } from "./listenerError.ts"

/** Makes the server listen on the address. */
export const bindInet = Effect.fnUntraced(function*(
  server: Net.Server,
  options: { readonly host: string; readonly port: number; readonly ipv6Only: boolean; readonly backlog: number }
): Effect.fn.Return<Bound, FastCgiListenerError> {
  const { backlog, host, ipv6Only, port } = options
  // Node takes an empty host for every address of this host, which an unset variable must not open.
  if (host === "") {
    return yield* listenerError(
      "AddressNotAvailable",
      "Cannot listen: the host is empty. Give 127.0.0.1 for this host only, or 0.0.0.0 for all its addresses."
    )
  }
  yield* listen(
    server,
    () => server.listen({ host, port, ipv6Only, backlog }),
    (cause) => tcpError(host, port, cause)
  )
  const local = server.address()
  const address = local === null || typeof local === "string" ? Option.none() : inetAddress(local.address, local.port)
  if (Option.isNone(address)) {
    return yield* listenerError("Unknown", `Cannot tell which address ${formatHost(host)}:${port} was bound to.`)
  }
  return { address: address.value }
})
