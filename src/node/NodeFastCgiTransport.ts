/**
 * Any `Duplex` of Node as the bytes of a FastCGI connection: a socket, TLS, an ssh channel, one half of a `duplexPair`.
 *
 * @since 0.1.0
 */
import * as Net from "node:net"
import type { Duplex } from "node:stream"
import type { FastCgiTransport } from "../connection/FastCgiTransport.ts"
import * as SocketTransport from "./internal/socketTransport.ts"

/**
 * Makes a transport of a Node stream, and becomes the stream's only reader and writer. The code that runs the connection closes the
 * stream. No "error" event stays unhandled.
 *
 * **Details**
 *
 * Reading and writing wait for each other as `FastCgiTransport` says. A socket of `node:net` or `node:tls` also has an address. A
 * socket of `node:net` is reset when a response breaks off over TCP.
 *
 * **Gotchas**
 *
 * Create the stream with `allowHalfOpen: true`. Without it, an answer after the peer's half-close is lost.
 *
 * **Example** (An app over TLS)
 *
 * ```ts
 * import * as Effect from "effect/Effect"
 * import { FastCgiConnection, FastCgiResponse } from "effect-fastcgi"
 * import { NodeFastCgiTransport } from "effect-fastcgi/node"
 * import type * as Tls from "node:tls"
 *
 * export const serve = (socket: Tls.TLSSocket) =>
 *   FastCgiConnection.serve(NodeFastCgiTransport.fromDuplex(socket), {
 *     responder: Effect.succeed(FastCgiResponse.make("Hello\n"))
 *   })
 * ```
 *
 * @category constructors
 * @since 0.1.0
 */
export const fromDuplex = (duplex: Duplex): FastCgiTransport =>
  !(duplex instanceof Net.Socket)
    ? SocketTransport.fromDuplex(duplex)
    : "encrypted" in duplex
    ? SocketTransport.fromDuplex(duplex, duplex)
    : SocketTransport.fromSocket(duplex)
