/**
 * Sockets that read into memory which all of them share.
 *
 * Node allocates 64 KiB for each read, and shrinks that to what came. Measured with a hand-written loop over `node:net`, reads
 * into one buffer answer kept requests 1.5 times as fast. Whoever takes a read copies what is kept of it: an upload in reads of
 * 64 KiB costs no more for that than one into memory of its own.
 */
import * as Net from "node:net"

/** Takes what has been read. */
export interface Taker {
  /** Bytes that are `lent` are overwritten by the next read of any socket. */
  readonly onBytes: (bytes: Uint8Array, lent: boolean) => void
}

// The size that Node allocates for a read.
const shared = new Uint8Array(64 * 1024)

/** A socket of `node:net` that reads without Node's streams. What is read before it has a `taker` is lost. */
export class ReadingSocket extends Net.Socket {
  taker: Taker | undefined

  /** `handle` is what a server of `node:net` has accepted. */
  constructor(handle?: unknown) {
    const options = { handle, allowHalfOpen: true, onread: { buffer: shared, callback: received } }
    super(options as Net.SocketConstructorOpts)
  }
}

// Node calls it as a method of the socket.
const received = function(this: ReadingSocket, size: number): boolean {
  this.taker?.onBytes(shared.subarray(0, size), true)
  return true
}

/**
 * Makes a server that listens accept `ReadingSocket`s. `node:net` has no option for it: a server makes plain sockets of the
 * handles that its own handle accepts. Returns whether that is as it was in Node 22 to 26; otherwise the server goes on with
 * plain sockets, which cost more.
 */
export const acceptReadingSockets = (server: Net.Server): boolean => {
  const listening = (server as unknown as { readonly _handle?: ListeningHandle | null | undefined })._handle
  const accepted = listening?.onconnection
  if (listening === undefined || listening === null || typeof accepted !== "function") return false
  listening.onconnection = function(status, handle) {
    if (status !== 0 || !isReadable(handle)) accepted.call(this, status, handle)
    else server.emit("connection", new ReadingSocket(handle))
  }
  return true
}

interface ListeningHandle {
  onconnection?: (this: unknown, status: number, handle: unknown) => void
}

const isReadable = (handle: unknown): boolean =>
  typeof (handle as { readonly useUserBuffer?: unknown } | undefined)?.useUserBuffer === "function"
