/**
 * Listening on a UNIX socket path in a worker of node:cluster, whose primary process binds it once for all workers, and
 * removes it when the last of them has closed it.
 */
import * as Effect from "effect/Effect"
import * as NetAddress from "effect/net/NetAddress"
import Cluster from "node:cluster"
import { randomBytes } from "node:crypto"
import type * as Net from "node:net"
import type { FastCgiListenerError } from "../../server/FastCgiListener.ts"
import type { Bound } from "./acceptor.ts"
import { listen } from "./acceptor.ts"
import { listenerError, pathError } from "./listenerError.ts"
import { type BindUnixOptions, checkPath, occupant, permissionsOf, takeAway } from "./unixSocket.ts"

/** Whether this process is a worker of node:cluster, also by way of pm2. */
export const isClusterWorker = (): boolean => Cluster.isWorker

/**
 * Makes the server listen on the path, with the other workers.
 *
 * The primary asks for nobody's permission: the socket is there a moment before its mode and owner are set, with what the umask
 * leaves of 0o777, which is less than a mode of 0o660 allows wherever the umask is the usual 022.
 */
export const bindInCluster = Effect.fnUntraced(function*(
  server: Net.Server,
  options: BindUnixOptions
): Effect.fn.Return<Bound, FastCgiListenerError> {
  const { backlog, path } = options
  yield* checkPath(path)
  const permissions = yield* permissionsOf(options)
  const attempt = listen(server, () => server.listen({ path, backlog }), (cause) => pathError(path, cause))
  yield* Effect.catchReason(attempt, "FastCgiListenerError", "AddressInUse", () => giveUpStale(path, attempt))
  yield* permissions(path)
  return { address: NetAddress.unixPathAddress(path) }
})

// -----------------------------------------------------------------------------
// Internal
// -----------------------------------------------------------------------------

// Workers start at the same time, and another one may have removed what was left over, and had the path bound, meanwhile: then
// the primary has the socket, and listening succeeds.
const giveUpStale = (
  path: string,
  attempt: Effect.Effect<void, FastCgiListenerError>
): Effect.Effect<void, FastCgiListenerError> =>
  Effect.matchEffect(occupant(path), {
    onFailure: (failure) =>
      failure.reason._tag === "AddressInUse" ? Effect.mapError(attempt, () => failure) : Effect.fail(failure),
    onSuccess: (stale) =>
      stale === undefined ? attempt : Effect.andThen(
        Effect.try({
          try: () => takeAway(path, `${path}-${randomBytes(3).toString("hex")}`, stale),
          catch: (cause) => pathError(path, cause)
        }),
        Effect.catchReason(attempt, "FastCgiListenerError", "AddressInUse", () =>
          Effect.fail(listenerError(
            "AddressInUse",
            `Cannot listen on ${path}: other processes keep taking the path. Stop them, or choose another path.`
          )))
      )
  })
