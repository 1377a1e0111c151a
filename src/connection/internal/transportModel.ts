/**
 * What a transport is, in a file of its own: `FastCgiTransport` makes transports of the parts that are transports themselves.
 *
 * @since 0.1.0
 */
import type * as Cause from "effect/Cause"
import * as Data from "effect/Data"
import type * as NetAddress from "effect/net/NetAddress"
import type * as Option from "effect/Option"
import type * as Pull from "effect/Pull"

/**
 * The connection was lost: reset by the peer, or failed below us.
 *
 * @category errors
 * @since 0.1.0
 */
export class FastCgiTransportError extends Data.TaggedError("FastCgiTransportError")<{
  readonly message: string
  readonly cause?: unknown
}> {}

/**
 * What a transport calls, synchronously, when something happens that nobody is pulling for.
 *
 * @category models
 * @since 0.1.0
 */
export interface FastCgiTransportObserver {
  /** `pendingUnsafe` has fallen to 0 after it had been above. */
  readonly onDrain: () => void
  /** The connection is gone in both directions. Called once; no byte moves afterwards. */
  readonly onClose: () => void
}

/**
 * What a transport calls, synchronously, with what it reads: for who takes every read at once and has nothing to wait for.
 *
 * @category models
 * @since 0.1.0
 */
export interface FastCgiTransportReader {
  /**
   * Takes what has arrived, as a pull would give it, but for one thing: the chunks are the transport's again when this has
   * returned, which may read the next bytes into them. So what is to be kept of them is copied.
   */
  readonly onRead: (chunks: readonly [Uint8Array, ...Array<Uint8Array>]) => void
  /** The peer has half-closed. Nothing more is read. Not called once this end is closed. */
  readonly onReadEnd: () => void
  /** `onRead` or `onReadEnd` has thrown this, which is a defect; the transport has destroyed the connection. */
  readonly onReadDefect: (defect: unknown) => void
}

/**
 * One connection as bytes.
 *
 * **Details**
 *
 * `pull` reads: everything that has arrived since the last pull, as a non-empty array of non-empty chunks which the
 * transport never touches again. It waits when nothing has arrived, ends with `Cause.Done` at the peer's half-close and
 * fails with `FastCgiTransportError` when the connection is lost. While nobody pulls, the transport stops reading once a
 * bounded amount is waiting, so an unpulled connection holds its peer up. Only one pull may run at a time; interrupting
 * it loses nothing.
 *
 * Writing never waits: `writeUnsafe` takes the chunks, which the caller must not change afterwards, and `pendingUnsafe`
 * says how much of it the operating system has not accepted yet. Whoever writes watches that number.
 *
 * All functions ending in `Unsafe` are synchronous, never throw, and do nothing once the connection is closed.
 *
 * @category models
 * @since 0.1.0
 */
export interface FastCgiTransport {
  /** The other end's address; a UNIX socket peer has none. */
  readonly peer: Option.Option<NetAddress.SocketAddress>
  /** Reads. */
  readonly pull: Pull.Pull<readonly [Uint8Array, ...Array<Uint8Array>], FastCgiTransportError>
  /**
   * Reads for `reader` from now on instead of for pulls: calls it with every read as it arrives, never from within a call
   * to this transport. Measured, a fiber that waits in a pull costs 0.7 µs more a read. Loss is told to the observer.
   */
  readonly flowUnsafe: (reader: FastCgiTransportReader) => void
  /**
   * Calls the reader no more until `resumeUnsafe`. Holds the peer up as an unpulled transport does. A transport of a server
   * that can find out that its peer has closed both directions calls `onClose` all the same, whatever has not been read.
   */
  readonly pauseUnsafe: () => void
  /** Lets the reader be called again. */
  readonly resumeUnsafe: () => void
  /** Sets who is told about room and loss. At most one observer; calls that came too early are made up for. */
  readonly observeUnsafe: (observer: FastCgiTransportObserver) => void
  /** Writes the chunks, in order, as one batch. */
  readonly writeUnsafe: (chunks: ReadonlyArray<Uint8Array>) => void
  /** How many written bytes the operating system has not accepted yet. */
  readonly pendingUnsafe: () => number
  /**
   * Whether the peer can still read all that has been written when both directions are closed here, as over a UNIX socket: the
   * kernel keeps it, although what the peer sends then fails. Then a server closes at once where the peer wants the close and has
   * sent all its input. Over TCP what comes after a close is answered by RST, and what has not been read may be lost. Default false.
   */
  readonly deliversWhenClosed?: boolean | undefined
  /** Half-closes: the peer reads the end after everything that was written. Reading goes on. */
  readonly endUnsafe: () => void
  /** Closes both directions now; what is pending may be lost. The peer reads the end, unless it is still sending. */
  readonly destroyUnsafe: () => void
  /**
   * Closes both directions now, so that the peer takes what it has read for incomplete where the transport can say so:
   * by RST over TCP. Elsewhere the same as `destroyUnsafe`.
   */
  readonly resetUnsafe: () => void
}

/**
 * What `FastCgiTransport.pull` may fail with: its end, or the loss of the connection.
 *
 * @category models
 * @since 0.1.0
 */
export type FastCgiPullError = FastCgiTransportError | Cause.Done
