/**
 * Listening on a UNIX socket path in a worker of node:cluster, whose primary process binds it once for all workers, and
 * removes it when the last of them has closed it.
 */
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as NetAddress from "effect/net/NetAddress"
import * as Result from "effect/Result"
import Cluster from "node:cluster"
import { randomBytes } from "node:crypto"
import type * as Net from "node:net"
import type { FastCgiListenerError } from "../../server/FastCgiListener.ts"
import type { Bound } from "./acceptor.ts"
import { listen } from "./acceptor.ts"
import { pathError } from "./listenerError.ts"
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
  const taken = yield* takeStale(path)
  yield* Effect.mapError(
    listen(server, () => server.listen({ path, backlog }), (cause) => pathError(path, cause)),
    (error) => error.reason._tag === "AddressInUse" ? taken ?? error : error
  )
  yield* permissions(path)
  return { address: NetAddress.unixPathAddress(path) }
})

// -----------------------------------------------------------------------------
// Internal
// -----------------------------------------------------------------------------

// A socket that is younger may be the primary's. With `SCHED_NONE` the primary only binds, and the first worker listens a moment
// later: in between a connection is refused as by one that is left over.
const oldEnough = Duration.seconds(1)

const lookAgainAfter = Duration.millis(20)

// Removes what a program has left over. What is told of a path on which somebody listens counts only when the primary, which may
// be who listens, has nothing for this worker.
//
// This comes before listening is tried, and not after it has failed: Node numbers the attempts of a worker, and the primary keeps a
// socket for each number. A worker that has failed once has no way any more to a socket that another's first attempt has made.
const takeStale = Effect.fnUntraced(function*(
  path: string
): Effect.fn.Return<FastCgiListenerError | undefined, FastCgiListenerError> {
  // The clock that stamps files may have been set since, so nobody waits for longer than this in all.
  for (let waited = Duration.zero;; waited = Duration.sum(waited, lookAgainAfter)) {
    const found = yield* Effect.result(occupant(path))
    if (Result.isFailure(found)) {
      return found.failure.reason._tag === "AddressInUse" ? found.failure : yield* found.failure
    }
    const stale = found.success
    if (stale === undefined) return undefined
    const age = Duration.millis((yield* Clock.currentTimeMillis) - Number(stale.ctimeMs))
    if (Duration.isGreaterThanOrEqualTo(Duration.max(age, waited), oldEnough)) {
      yield* Effect.try({
        try: () => takeAway(path, `${path}-${randomBytes(3).toString("hex")}`, stale),
        catch: (cause) => pathError(path, cause)
      })
      return undefined
    }
    yield* Effect.sleep(lookAgainAfter)
  }
})
