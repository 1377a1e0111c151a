/**
 * A file, or a descriptor, that lines are written to in batches, one write at a time. What cannot be written in time is left
 * out: nobody waits for it, its memory is bounded, and it is said once when it begins and once when it is over.
 */
import * as Fs from "node:fs"
import type { FastCgiAccessLogSink } from "../../server/FastCgiAccessLog.ts"

// Bytes that are written at once, as soon as there are so many; otherwise after a second.
const batchSize = 64 * 1024
const defaultInterval = 1000
// Lines that wait for a write that does not end, in bytes.
const maxWaiting = 4 * 1024 * 1024
// Memory that is kept: a batch, and the lines that make it one.
const memorySize = batchSize + 32 * 1024
// Milliseconds after which a pipe that is full is tried again.
const pipeInterval = 20

const lineFeed = Buffer.from("\n")

// A named pipe without a reader is an error at once then, and one that is full does not keep a thread.
const { O_APPEND, O_CREAT, O_NONBLOCK, O_WRONLY } = Fs.constants
const flags = O_APPEND | O_CREAT | O_NONBLOCK | O_WRONLY

/** The events of a log file. */
export interface LogFileEvents {
  /** Lines are left out, because of this. */
  readonly onFailure: (why: string) => void
  /** Lines are written again; so many were left out. */
  readonly onRecovery: (leftOut: number) => void
}

/** Lines on their way to a file. */
export class LogFile implements FastCgiAccessLogSink {
  private readonly path: string | undefined
  private readonly events: LogFileEvents
  private readonly interval: number
  private fd: number
  private inode: bigint | number = 0
  /** Lines that wait are written here, one behind the other. */
  bytes: Uint8Array = Buffer.allocUnsafeSlow(memorySize)
  /** How many bytes of it are written. */
  length = 0
  // How many of them have been looked at.
  private kept = 0
  // Writes what is to be written later.
  private unwritten: (() => void) | undefined
  // The memory of the last write.
  private spare: Uint8Array | undefined
  private writing = false
  private timer: NodeJS.Timeout | undefined
  private reopening = false
  private leftOut = 0
  private failing = false
  // Whether the path could not be opened anew: what is written goes to the old file until it can.
  private stranded = false
  // Nobody waits for what is still to be written.
  private abandoned = false
  // Whether the last write has left a line without its end.
  private torn = false
  private lookedAt = 0
  private whenIdle: (() => void) | undefined

  /** Throws what opening it throws. `interval` is how long a line waits for others, in milliseconds. */
  constructor(to: string | number, events: LogFileEvents, interval = defaultInterval) {
    this.events = events
    this.interval = interval
    this.path = typeof to === "string" ? to : undefined
    this.fd = typeof to === "string" ? this.open(to) : to
  }

  /** So many lines more have been written into `bytes`. */
  readonly onLines = (count: number): void => {
    if (this.kept > maxWaiting) {
      this.length = this.kept
      this.leaveOut(count, "it takes too long to write to it")
      return
    }
    this.kept = this.length
    if (this.kept >= batchSize) this.flush()
    else this.timer ??= setTimeout(this.ring, this.interval)
  }

  /** Calls `write` before the next write to the file. */
  readonly later = (write: () => void): void => {
    this.unwritten = write
    this.timer ??= setTimeout(this.ring, this.interval)
  }

  /** Opens the path anew: what comes from now on goes there, what is on its way to where it was going. */
  readonly reopen = (): void => {
    if (this.path === undefined) return
    this.reopening = true
    this.flush()
  }

  /** Writes what waits, for at most so many milliseconds, and closes the file. */
  async close(timeout: number): Promise<void> {
    clearTimeout(this.timer)
    this.flush()
    if (this.writing) {
      await Promise.race([
        new Promise<void>((resolve) => {
          this.whenIdle = resolve
        }),
        new Promise<void>((resolve) => setTimeout(resolve, timeout))
      ])
      this.abandoned = this.writing
    }
    if (this.path !== undefined && !this.writing) Fs.closeSync(this.fd)
  }

  private readonly ring = (): void => {
    this.timer = undefined
    this.flush()
  }

  private open(path: string): number {
    const fd = Fs.openSync(path, flags, 0o640)
    this.inode = Fs.fstatSync(fd).ino
    return fd
  }

  private flush(): void {
    const { unwritten } = this
    this.unwritten = undefined
    unwritten?.()
    if (this.writing) return
    if (this.reopening || this.hasMoved()) this.openAnew()
    const { bytes, kept } = this
    if (kept === 0) {
      this.whenIdle?.()
      return
    }
    const lines = Buffer.from(bytes.buffer, bytes.byteOffset, kept)
    this.bytes = this.spare ?? Buffer.allocUnsafeSlow(memorySize)
    // What has grown is not kept.
    this.spare = bytes.length === memorySize ? bytes : undefined
    this.length = this.kept = 0
    this.writing = true
    this.put(this.torn ? Buffer.concat([lineFeed, lines]) : lines, 0)
  }

  // Once a second a file that was moved away, or removed, is noticed without a signal.
  private hasMoved(): boolean {
    if (this.path === undefined) return false
    const now = performance.now()
    if (now - this.lookedAt < this.interval) return false
    this.lookedAt = now
    try {
      return Fs.statSync(this.path).ino !== this.inode
    } catch {
      return true
    }
  }

  private openAnew(): void {
    this.reopening = false
    try {
      const fd = this.open(this.path!)
      Fs.closeSync(this.fd)
      this.fd = fd
      this.torn = false
      this.stranded = false
    } catch (error) {
      // The old one is better than none.
      this.stranded = true
      this.fail(error)
    }
  }

  private put(bytes: Buffer, from: number): void {
    Fs.write(this.fd, bytes, from, bytes.length - from, null, (error, written) => {
      if (error === null) {
        if (from + written < bytes.length) return this.put(bytes, from + written)
        this.torn = false
        if (this.failing && !this.stranded) {
          this.failing = false
          this.events.onRecovery(this.leftOut)
          this.leftOut = 0
        }
      } else if (error.code === "EAGAIN") {
        // A pipe whose reader is slow. One that is never read must not keep the process alive.
        if (!this.abandoned) setTimeout(() => this.put(bytes, from), pipeInterval)
        return
      } else {
        this.torn ||= from > 0 && bytes[from - 1] !== 0x0a
        let lines = 0
        for (let at = from; (at = bytes.indexOf(0x0a, at)) !== -1; at++) lines++
        this.leaveOut(lines, error.message)
      }
      this.writing = false
      if (this.kept >= batchSize || this.reopening || this.whenIdle !== undefined) this.flush()
      else if (this.kept > 0) this.timer ??= setTimeout(this.ring, this.interval)
    })
  }

  private leaveOut(lines: number, why: string): void {
    this.leftOut += lines
    if (this.failing) return
    this.failing = true
    this.events.onFailure(why)
  }

  private fail(error: unknown): void {
    if (this.failing) return
    this.failing = true
    this.events.onFailure(error instanceof Error ? error.message : String(error))
  }
}
