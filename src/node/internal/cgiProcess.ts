/**
 * This process as a CGI program: a listener with one connection, whose bytes are those of `CgiProgram`, between the
 * server and the environment, standard input and standard output that the web server has started the process with.
 */
import * as Effect from "effect/Effect"
import * as NetAddress from "effect/net/NetAddress"
import type * as Scope from "effect/Scope"
import * as Fs from "node:fs"
import { Duplex } from "node:stream"
import * as CgiProgram from "../../server/CgiProgram.ts"
import { FastCgiListener } from "../../server/FastCgiListener.ts"
import { replaceStdin } from "./inheritedSocket.ts"
import { fromDuplex } from "./socketTransport.ts"

/** A listener with the one connection of a CGI program. Ends the process when that has closed. */
export const cgiProcess: Effect.Effect<FastCgiListener["Service"], never, Scope.Scope> = Effect.gen(function*() {
  const environment = takeEnvironment()
  const stdio = takeStdio()
  const bodySize = CgiProgram.bodySize(process.env)
  let taken = false
  let stopping = false
  yield* Effect.addFinalizer(() =>
    Effect.sync(() => {
      stopping = true
    })
  )
  const connect = () => {
    const connection = new CgiConnection(stdio, CgiProgram.opening(environment), bodySize)
    process.on("exit", (code) => {
      // A request without an end is a failure.
      if (code === 0 || code === interrupted) process.exitCode = CgiProgram.exitStatus(connection.appStatus ?? 1)
    })
    connection.once("close", () => {
      // Told to end already: a second time would be for haste.
      if (!stopping) setImmediate(endProcess)
    })
    return fromDuplex(connection)
  }
  return FastCgiListener.of({
    address: NetAddress.unixPathAddress("cgi"),
    addresses: [NetAddress.unixPathAddress("cgi")],
    run: (onConnection) =>
      Effect.callback<never>(() => {
        if (taken) return
        taken = true
        onConnection(connect())
      }),
    stopAccepting: Effect.sync(() => {
      taken = true
      stopping = true
    })
  })
})

// -----------------------------------------------------------------------------
// Internal
// -----------------------------------------------------------------------------

interface Stdio {
  readonly stdin: NodeJS.ReadableStream
  readonly stdinIsSocket: boolean
  /** Writes to what the web server reads. */
  readonly stdout: (content: Uint8Array, written: (error?: Error | null) => void) => void
  readonly onStdoutError: (listener: (error: Error) => void) => void
  readonly stderr: (content: Uint8Array) => void
}

// Standard output belongs to the answer, so what the program itself prints, a log for one, goes to standard error. Standard
// input belongs to the request.
const takeStdio = (): Stdio => {
  const { stderr, stdin, stdout } = process
  const write = stdout.write.bind(stdout) as (content: Uint8Array, written: (error?: Error | null) => void) => boolean
  stdout.write = stderr.write.bind(stderr) as typeof stdout.write
  stderr.on("error", () => {})
  replaceStdin()
  return {
    stdin,
    stdinIsSocket: Fs.fstatSync(0).isSocket(),
    stdout: (content, written) => void write(content, written),
    onStdoutError: (listener) => stdout.on("error", listener),
    stderr: (content) => void stderr.write(content)
  }
}

// As bytes where that is possible: Node makes text of them that not everything survives. And as the web server has set it,
// without what the program has put into it since.
const takeEnvironment = (): ReadonlyArray<readonly [string | Uint8Array, string | Uint8Array]> => {
  const entries = readEnvironment() ??
    Object.entries(process.env).map(([name, value]) => [name, value ?? ""] as const)
  // A header `Proxy` of the client's, which is not to decide where this program's own requests go (CVE-2016-5385).
  delete process.env.HTTP_PROXY
  return entries
}

const readEnvironment = (): ReadonlyArray<readonly [Uint8Array, Uint8Array]> | undefined => {
  let bytes: Buffer
  try {
    bytes = Fs.readFileSync("/proc/self/environ")
  } catch {
    return undefined
  }
  const entries: Array<readonly [Uint8Array, Uint8Array]> = []
  for (let start = 0; start < bytes.length;) {
    const nul = bytes.indexOf(0, start)
    const entry = bytes.subarray(start, nul === -1 ? bytes.length : nul)
    const equals = entry.indexOf(0x3d)
    if (equals > 0) entries.push([entry.subarray(0, equals), entry.subarray(equals + 1)])
    start += entry.length + 1
  }
  return entries
}

/** Takes the place of the socket between the server and a web server. */
class CgiConnection extends Duplex {
  /** The appStatus of END_REQUEST. */
  appStatus: number | undefined
  private readonly stdio: Stdio
  private readonly answer: (bytes: Uint8Array) => void
  private opening: ReadonlyArray<Uint8Array>
  // Bytes of the body that have not been read.
  private left: number
  private reading = false
  private inputEnded = false
  private connectionEnded = false
  // Writes of one `_write` that standard output has not taken.
  private writing = 0
  private writeError: Error | undefined
  private written: ((error?: Error | null) => void) | undefined

  constructor(stdio: Stdio, opening: ReadonlyArray<Uint8Array>, bodySize: number | "unbounded") {
    super({ allowHalfOpen: true })
    this.stdio = stdio
    this.opening = opening
    this.left = bodySize === "unbounded" ? Infinity : bodySize
    this.answer = CgiProgram.makeAnswer({
      stdout: (content) => {
        this.writing++
        stdio.stdout(content, this.wrote)
      },
      stderr: stdio.stderr,
      end: (appStatus) => {
        this.appStatus = appStatus
      }
    })
    // The web server reads no more: its client has gone away.
    stdio.onStdoutError((error) => this.destroy(error))
  }

  override _read(): void {
    for (const bytes of this.opening) this.push(bytes)
    this.opening = []
    if (this.inputEnded) return
    if (this.left === 0) {
      this.endInput()
      return
    }
    const { stdin } = this.stdio
    if (this.reading) {
      stdin.resume()
      return
    }
    this.reading = true
    stdin.on("data", (chunk: Uint8Array) => {
      if (this.inputEnded || this.destroyed) return
      const content = chunk.length > this.left ? chunk.subarray(0, this.left) : chunk
      this.left -= content.length
      const more = content.length === 0 || this.push(CgiProgram.stdin(content))
      if (this.left === 0) this.endInput()
      else if (!more) stdin.pause()
    })
    // Too early an end: the server sees that, as on any connection.
    stdin.on("end", () => this.endInput())
    stdin.on("error", () => this.endInput())
  }

  override _write(bytes: Uint8Array, _encoding: string, written: (error?: Error | null) => void): void {
    this.written = written
    this.writing++
    this.answer(bytes)
    this.wrote()
  }

  private readonly wrote = (error?: Error | null): void => {
    this.writeError ??= error ?? undefined
    if (--this.writing > 0) return
    const { written, writeError } = this
    this.written = undefined
    written?.(writeError)
    this.endWhenDone()
  }

  private endInput(): void {
    if (this.inputEnded || this.destroyed) return
    this.inputEnded = true
    this.stdio.stdin.pause()
    this.push(CgiProgram.stdin(nothing))
    this.endWhenDone()
  }

  // Ends as a web server closes its end of a connection, when everything has been said. Input that is left in a socket is a
  // reset for the web server, which may cost it the answer (Apache's mod_cgid), so that is read first: the server above drops
  // it, and waits for its `lingerTimeout` at most.
  private endWhenDone(): void {
    if (this.appStatus === undefined || this.writing > 0 || this.writeError !== undefined || this.destroyed) return
    if (!this.inputEnded && this.stdio.stdinIsSocket) return
    this.inputEnded = true
    this.stdio.stdin.pause()
    if (!this.connectionEnded) {
      this.connectionEnded = true
      this.push(null)
    }
  }
}

const nothing = new Uint8Array(0)

// The exit code of an interrupted program by Effect's default. The program was asked to end, so this is no failure here.
const interrupted = 130

// SIGTERM is how a process is told to end (SPEC 7), and what every program that closes its layers in good order handles. It
// is not sent, only said to the program itself.
const endProcess = (): void => {
  if (process.listenerCount("SIGTERM") === 0) process.exit()
  process.emit("SIGTERM", "SIGTERM")
}
