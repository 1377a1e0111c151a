/**
 * The connection of a client that was handed over, as a `Duplex` for what expects a socket of Node. What is written first is the
 * answer of HTTP/1.1 that hands it over.
 */
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import type * as Fiber from "effect/Fiber"
import * as Pull from "effect/Pull"
import { Duplex } from "node:stream"
import type { FastCgiTunnel } from "../../http/FastCgiUpgrade.ts"

/** Runs what it is given in the background. */
export type Fork = <E>(effect: Effect.Effect<void, E>) => Fiber.Fiber<void, E>

/** A tunnel as a `Duplex`. */
export class TunnelDuplex extends Duplex {
  private readonly tunnel: FastCgiTunnel
  private readonly fork: Fork
  private opened = false
  private reader: Fiber.Fiber<void, unknown> | undefined
  private more: (() => void) | undefined

  constructor(tunnel: FastCgiTunnel, fork: Fork) {
    super({ allowHalfOpen: true })
    this.tunnel = tunnel
    this.fork = fork
  }

  // The web server has the connection that these are about.

  setTimeout(): this {
    return this
  }

  setNoDelay(): this {
    return this
  }

  override _read(): void {
    const { more } = this
    this.more = undefined
    if (more !== undefined) more()
    else this.reader ??= this.fork(this.readAll)
  }

  override _write(chunk: Buffer, _encoding: BufferEncoding, callback: () => void): void {
    this.send([chunk], callback)
  }

  override _writev(
    written: ReadonlyArray<{ readonly chunk: Buffer }>,
    callback: () => void
  ): void {
    // A frame is written as its head and its payload. Each chunk would be a record.
    const chunks = written.map(({ chunk }) => chunk)
    const size = chunks.reduce((size, { length }) => size + length, 0)
    this.send(size <= joined ? [Buffer.concat(chunks, size)] : chunks, callback)
  }

  override _final(callback: () => void): void {
    this.tunnel.end()
    // There is nobody any more who could send something.
    this.push(null)
    callback()
  }

  override _destroy(error: Error | null, callback: (error?: Error | null) => void): void {
    this.tunnel.end()
    this.reader?.interruptUnsafe()
    callback(error)
  }

  private send(chunks: ReadonlyArray<Buffer>, callback: () => void): void {
    const rest = this.opened ? chunks : this.open(Buffer.concat(chunks))
    const exit = this.fork(this.tunnel.write(rest))
    if (exit.pollUnsafe() === undefined) exit.addObserver(() => callback())
    else callback()
  }

  private open(answer: Buffer): ReadonlyArray<Buffer> {
    this.opened = true
    const end = answer.indexOf("\r\n\r\n") + 4
    this.tunnel.open(answer.toString("latin1", 0, end).replace(/^HTTP\/1\.1 /, "Status: "))
    return [answer.subarray(end)]
  }

  private readonly room: Effect.Effect<void> = Effect.callback((resume) => {
    this.more = () => resume(Effect.void)
  })

  private readonly readAll: Effect.Effect<void> = Effect.suspend(() =>
    Pull.matchEffect(this.tunnel.pull, {
      onSuccess: (chunks) => {
        let wantsMore = true
        // A copy: `ws` changes the bytes that it is given, and others may look at these.
        for (const chunk of chunks) wantsMore = this.push(Buffer.from(chunk)) && wantsMore
        return wantsMore ? this.readAll : Effect.andThen(this.room, this.readAll)
      },
      onDone: () => Effect.sync(() => void this.push(null)),
      onFailure: (cause) =>
        Effect.sync(() => {
          if (!Cause.hasInterruptsOnly(cause)) this.destroy()
        })
    })
  )
}

// Bytes. What is longer is not copied.
const joined = 8 * 1024
