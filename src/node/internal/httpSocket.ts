/**
 * The socket that `req.socket` and `res.socket` are for an app written for `node:http`: what the web server says about its
 * client, and a Writable whose bytes go to the exchange. One a request, as requests of several clients share a connection.
 */
import { X509Certificate } from "node:crypto"
import { isIPv6 } from "node:net"
import type * as Net from "node:net"
import { Duplex, type DuplexOptions } from "node:stream"
import * as CgiRequest from "../../cgi/CgiRequest.ts"
import type { FastCgiParams } from "../../protocol/FastCgiParams.ts"

/** A piece of what an app writes, text in its encoding. */
export interface Written {
  readonly chunk: string | Uint8Array
  readonly encoding: BufferEncoding
}

/** Where a socket's bytes and events go. */
export interface SocketOwner {
  readonly server: unknown
  /** Whether what is written now is the end of a response of which nothing has been written: it is not buffered then. */
  readonly ending: boolean
  /** Takes what was written; calls back when there is room for more. */
  write(written: ReadonlyArray<Written>, callback: (error?: Error | null) => void): void
  /** Takes a piece of the end of a response. */
  writeEnd(chunk: string | Uint8Array, encoding: BufferEncoding, callback: (() => void) | null | undefined): void
  /** The socket is gone, by whomever. */
  destroyed(error: Error | null): void
  /** Nothing was read or written for the time that `setTimeout` was given. */
  idle(): void
}

// Text stays text: one encoding of head and body is cheaper than one of each. `emitClose` tells the response.
const options: DuplexOptions = { decodeStrings: false }

/** The socket of one request. */
export class HttpSocket extends Duplex {
  private readonly owner: SocketOwner
  private readonly params: FastCgiParams
  private variablesCache: CgiRequest.CgiVariables | undefined
  private timer: NodeJS.Timeout | undefined
  /** The response that writes to it. Node's own methods look for it here. */
  _httpMessage: unknown = null
  readonly connecting = false
  readonly pending = false
  timeout: number | undefined
  bytesWritten = 0

  constructor(owner: SocketOwner, params: FastCgiParams) {
    super(options)
    this.owner = owner
    this.params = params
  }

  /** The web server's CGI variables. */
  get variables(): CgiRequest.CgiVariables {
    return this.variablesCache ??= CgiRequest.variables(this.params)
  }

  /** The user that the web server has authenticated: REMOTE_USER. */
  get remoteUser(): string | undefined {
    return this.variables.remoteUser
  }

  get server(): unknown {
    return this.owner.server
  }

  get remoteAddress(): string | undefined {
    return this.variables.remoteAddress
  }

  get remotePort(): number | undefined {
    return this.variables.remotePort
  }

  get remoteFamily(): string | undefined {
    return familyOf(this.remoteAddress)
  }

  get localAddress(): string | undefined {
    return this.variables.serverAddress
  }

  get localPort(): number | undefined {
    return this.variables.serverPort
  }

  get localFamily(): string | undefined {
    return familyOf(this.localAddress)
  }

  /** As of `tls.TLSSocket`: true where the client is connected to the web server by TLS, else not there. */
  get encrypted(): true | undefined {
    return this.variables.https ? true : undefined
  }

  /** As of `tls.TLSSocket`: whether the web server has verified a certificate of the client. */
  get authorized(): boolean {
    return this.variables.ssl?.clientVerified ?? false
  }

  get servername(): string | undefined {
    return this.variables.ssl?.serverName
  }

  getProtocol(): string | null {
    return this.variables.ssl?.protocol ?? null
  }

  getCipher(): { readonly name: string | undefined; readonly version: string | undefined } {
    const ssl = this.variables.ssl
    return { name: ssl?.cipher, version: ssl?.protocol }
  }

  /** As of `tls.TLSSocket`: the client's certificate where the web server passes it on, else an empty object. */
  getPeerCertificate(): object {
    const pem = this.variables.ssl?.clientCertificate
    if (pem === undefined) return {}
    try {
      return new X509Certificate(pem).toLegacyObject()
    } catch {
      // The web server's variable is no certificate.
      return {}
    }
  }

  address(): Net.AddressInfo | object {
    const { localAddress: address, localFamily: family, localPort: port } = this
    return address === undefined ? {} : { address, family, port }
  }

  get readyState(): string {
    return this.destroyed ? "closed" : "open"
  }

  get bytesRead(): number {
    return 0
  }

  // --- what means something for a connection only: the web server has it ----------------------

  setNoDelay(): this {
    return this
  }

  setKeepAlive(): this {
    return this
  }

  ref(): this {
    return this
  }

  unref(): this {
    return this
  }

  destroySoon(): void {
    this.end(() => this.destroy())
  }

  resetAndDestroy(): this {
    return this.destroy()
  }

  /** As of `net.Socket`: "timeout" when nothing is written or read for so many milliseconds; 0 turns it off. */
  setTimeout(milliseconds: number, callback?: () => void): this {
    if (this.timer !== undefined) clearTimeout(this.timer)
    this.timer = undefined
    this.timeout = milliseconds
    if (callback !== undefined) {
      if (milliseconds > 0) this.once("timeout", callback)
      else this.removeListener("timeout", callback)
    }
    if (milliseconds > 0 && !this.destroyed) {
      this.timer = setTimeout(() => {
        this.emit("timeout")
        this.owner.idle()
      }, milliseconds).unref()
    }
    return this
  }

  /** Says that something was read or written. */
  active(): void {
    this.timer?.refresh()
  }

  // --- Duplex ---------------------------------------------------------------------------------

  // `response.end` writes past the Writable, because its buffer and ticks cost as much as the rest of the response.
  override write(
    chunk: string | Uint8Array,
    encoding?: BufferEncoding | ((error?: Error | null) => void) | null,
    callback?: ((error?: Error | null) => void) | null
  ): boolean {
    if (this.owner.ending && typeof encoding !== "function") {
      this.owner.writeEnd(chunk, encoding ?? "utf8", callback)
      return true
    }
    return super.write(chunk, encoding as BufferEncoding, callback ?? undefined)
  }

  // The body of the request is what IncomingMessage reads. On the socket itself nothing comes.
  override _read(): void {}

  override _write(chunk: string | Uint8Array, encoding: BufferEncoding, callback: () => void): void {
    this._writev([{ chunk, encoding }], callback)
  }

  override _writev(written: ReadonlyArray<Written>, callback: () => void): void {
    this.active()
    this.owner.write(written, callback)
  }

  /** What "close" is the end of, without the event and the tick that it costs: only where nobody listens. */
  closeQuietly(): void {
    if (this.timer !== undefined) clearTimeout(this.timer)
    const { _readableState: readable, _writableState: writable } = this as unknown as StreamStates
    readable.destroyed = readable.closed = readable.closeEmitted = true
    writable.destroyed = writable.closed = writable.closeEmitted = true
  }

  override _destroy(error: Error | null, callback: (error?: Error | null) => void): void {
    if (this.timer !== undefined) clearTimeout(this.timer)
    this.owner.destroyed(error)
    // As Node's own server does: whoever does not listen is not ended by it.
    callback(this.listenerCount("error") > 0 ? error : null)
  }
}

/** What Node's streams keep, as their own `destroy` changes it. */
interface StreamState {
  destroyed: boolean
  closed: boolean
  closeEmitted: boolean
}

interface StreamStates {
  readonly _readableState: StreamState
  readonly _writableState: StreamState
}

const familyOf = (address: string | undefined): string | undefined =>
  address === undefined ? undefined : isIPv6(address) ? "IPv6" : "IPv4"
