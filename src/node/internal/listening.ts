/**
 * The listeners of a server of `NodeFastCgiOptions`, and how many requests they run at once.
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as NetAddress from "effect/net/NetAddress"
import * as FastCgiAdmission from "../../server/FastCgiAdmission.ts"
import { FastCgiListener, type FastCgiListenerError } from "../../server/FastCgiListener.ts"
import type { NodeFastCgiOptions } from "../NodeFastCgi.ts"
import * as NodeFastCgiListener from "../NodeFastCgiListener.ts"

/** The listener and the admission of a server; a port is logged. */
export const listening = (
  options: NodeFastCgiOptions
): Layer.Layer<FastCgiListener | FastCgiAdmission.FastCgiAdmission, FastCgiListenerError> =>
  Layer.mergeAll(
    NodeFastCgiListener.layer("listeners" in options ? withAllow(options.listeners, options.allow) : options).pipe(
      Layer.tap((context) => logAddresses(Context.get(context, FastCgiListener).addresses))
    ),
    FastCgiAdmission.layer(options)
  )

// Effect's own line calls every port an address of HTTP.
const logAddresses = (addresses: ReadonlyArray<NetAddress.SocketAddress>): Effect.Effect<void> =>
  Effect.forEach(addresses, (address) =>
    NetAddress.isInetAddress(address)
      ? Effect.logInfo(`Listening on fastcgi://${NetAddress.formatInet(address)}, for a web server: no HTTP`)
      : Effect.void, { discard: true })

const withAllow = (
  listeners: ReadonlyArray<NodeFastCgiListener.NodeFastCgiListenerOptions>,
  allow: ReadonlyArray<string> | undefined
): ReadonlyArray<NodeFastCgiListener.NodeFastCgiListenerOptions> =>
  allow === undefined
    ? listeners
    : listeners.map((options) => "allow" in options && options.allow !== undefined ? options : { ...options, allow })
