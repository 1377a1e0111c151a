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

/** The options of `bindInet`. */
export interface BindInetOptions {
  readonly host: string
  readonly port: number
  readonly ipv6Only: boolean
  readonly backlog: number
}

/** Makes the server listen on the address. */
export const bindInet = Effect.fnUntraced(function*(
  server: Net.Server,
  options: BindInetOptions
): Effect.fn.Return<Bound, FastCgiListenerError> {
  const { backlog, host, ipv6Only, port } = options
  yield* checkHost(host)
  yield* listen(
    server,
    () => server.listen({ host, port, ipv6Only, backlog }),
    (cause) => tcpError(host, port, cause)
  )
  return yield* boundTo(server.address(), options)
})

/** Fails where the host is empty: Node takes that for every address of this host, which an unset variable must not open. */
export const checkHost = (host: string): Effect.Effect<void, FastCgiListenerError> =>
  host === ""
    ? Effect.fail(listenerError(
      "AddressNotAvailable",
      "Cannot listen: the host is empty. Give 127.0.0.1 for this host only, or 0.0.0.0 for all its addresses."
    ))
    : Effect.void

/** The address that a socket has got. */
export const boundTo = (
  local: string | { readonly address: string; readonly port: number } | null,
  { host, port }: BindInetOptions
): Effect.Effect<Bound, FastCgiListenerError> => {
  const address = local === null || typeof local === "string" ? Option.none() : inetAddress(local.address, local.port)
  return Option.isSome(address)
    ? Effect.succeed({ address: address.value })
    : Effect.fail(listenerError("Unknown", `Cannot tell which address ${formatHost(host)}:${port} was bound to.`))
}
