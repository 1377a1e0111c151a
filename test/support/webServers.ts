/**
 * Programs that a test starts and stops: web servers and applications, in the foreground, on the loopback address or UNIX sockets.
 * Everything a program says is kept, can be waited for, and is part of the message when something goes wrong with it.
 */
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"
import * as Schedule from "effect/Schedule"
import type * as Scope from "effect/Scope"
import * as ChildProcess from "node:child_process"
import * as Fs from "node:fs"
import * as Net from "node:net"
import * as Os from "node:os"
import * as Path from "node:path"

/** A program did not do what the test needs it for. The message ends with the last of what it has said. */
export class ProgramError extends Data.TaggedError("ProgramError")<{ readonly message: string }> {}

/** How a program ended. */
export interface Ended {
  readonly code: number | null
  readonly signal: NodeJS.Signals | null
}

/** A program that runs. It is stopped with the scope that it was started in. */
export interface Program {
  readonly name: string
  readonly pid: number
  /** Everything it has said so far, on stdout and stderr. */
  readonly log: () => string
  /** Waits until it says something that matches, from the place `since` in its log on (default the start). */
  readonly says: (pattern: string | RegExp, since?: number) => Effect.Effect<string, ProgramError>
  /** Waits until it has ended. */
  readonly ended: Effect.Effect<Ended>
  /** Sends the signal and waits until the program has ended. Fails when that takes more than 25 seconds. */
  readonly stop: (signal?: NodeJS.Signals) => Effect.Effect<Ended, ProgramError>
}

export interface ProgramOptions {
  /** What it is called in messages. */
  readonly name: string
  /** The absolute path. */
  readonly command: string
  readonly args: ReadonlyArray<string>
  readonly cwd?: string | undefined
  /** Added to the environment of the test. */
  readonly env?: Readonly<Record<string, string>> | undefined
  /** What it has on file descriptor 0. Default nothing. */
  readonly stdin?: ChildProcess.StdioNull | number | Net.Socket | undefined
  /** Run as this user and group; takes root. */
  readonly user?: { readonly uid: number; readonly gid: number } | undefined
  /** The signal that stops it. Default SIGTERM. */
  readonly stopSignal?: NodeJS.Signals | undefined
  /**
   * Tried again and again until it succeeds: then the program is ready. Default: it is ready when it has been started.
   */
  readonly ready?: Effect.Effect<unknown, unknown> | undefined
}

const running = new Set<ChildProcess.ChildProcess>()

// A test run that ends early leaves nothing behind.
process.on("exit", () => {
  for (const child of running) child.kill("SIGKILL")
})

// What only a hang reaches, on a machine that is busy with other things as well.
const deadline = "60 seconds"

// The same for a program that has been told to end, and shorter than what could hold it up: `lingerTimeout` is 30 seconds.
const stopDeadline = "25 seconds"

/** Starts a program and waits until it is ready. Fails, with what it has said, when it ends instead or takes too long. */
export const start = (options: ProgramOptions): Effect.Effect<Program, ProgramError, Scope.Scope> =>
  Effect.gen(function*() {
    const { program, child } = yield* Effect.acquireRelease(
      Effect.sync(() => spawn(options)),
      ({ child, program }) =>
        program.stop(options.stopSignal).pipe(Effect.catch(() => {
          child.kill("SIGKILL")
          return program.ended
        }))
    )
    if (child.pid === undefined) {
      yield* program.ended
      return yield* new ProgramError({ message: `${options.name} could not be started\n${program.log()}` })
    }
    if (options.ready !== undefined) {
      yield* options.ready.pipe(
        Effect.retry(Schedule.spaced("20 millis")),
        Effect.timeoutOrElse({
          duration: deadline,
          orElse: () => Effect.fail(complaint(program, `is not ready after ${deadline}`))
        }),
        Effect.raceFirst(
          Effect.flatMap(
            program.ended,
            (ended) =>
              Effect.fail(
                complaint(program, `ended (${ended.signal ?? `exit ${ended.code}`}) instead of getting ready`)
              )
          )
        )
      )
    }
    return program
  }) as Effect.Effect<Program, ProgramError, Scope.Scope>

const complaint = (program: Program, message: string) =>
  new ProgramError({ message: `${program.name} ${message}\n${program.log().slice(-4000)}` })

const spawn = (options: ProgramOptions): { readonly child: ChildProcess.ChildProcess; readonly program: Program } => {
  const child = ChildProcess.spawn(options.command, options.args, {
    cwd: options.cwd,
    env: { ...process.env, ...options.env },
    stdio: [options.stdin ?? "ignore", "pipe", "pipe"],
    ...options.user
  })
  running.add(child)
  let log = ""
  const listeners = new Set<() => void>()
  const changed = () => {
    for (const listener of listeners) listener()
  }
  const append = (text: string) => {
    log += text
    changed()
  }
  child.stdout!.setEncoding("utf8").on("data", append)
  child.stderr!.setEncoding("utf8").on("data", append)
  let ended: Ended | undefined
  const end = (result: Ended) => {
    running.delete(child)
    ended = result
    changed()
  }
  // Not "close": a program of its own that it has started may hold the pipes open. What it has said last may be in them still; the
  // event loop reads all of it before its next turn is over.
  child.on("exit", (code, signal) => setImmediate(setImmediate, () => end({ code, signal })))
  child.on("error", (error) => {
    append(`${error.message}\n`)
    if (child.pid === undefined) end({ code: null, signal: null })
  })

  /** Waits until there is something; asked again whenever the program has said something or has ended. */
  const when = <A>(look: () => A | undefined): Effect.Effect<A> =>
    Effect.callback((resume) => {
      const listener = () => {
        const found = look()
        if (found === undefined) return
        listeners.delete(listener)
        resume(Effect.succeed(found))
      }
      listeners.add(listener)
      listener()
      return Effect.sync(() => listeners.delete(listener))
    })

  const program: Program = {
    name: options.name,
    pid: child.pid ?? 0,
    log: () => log,
    says: (pattern, since = 0) =>
      when(() => {
        const match = typeof pattern === "string"
          ? log.includes(pattern, since) ? pattern : undefined
          : pattern.exec(log.slice(since))?.[0]
        return match ?? (ended === undefined ? undefined : "")
      }).pipe(
        Effect.timeoutOrElse({
          duration: deadline,
          orElse: () => Effect.fail(complaint(program, `has not said ${String(pattern)} within ${deadline}`))
        }),
        Effect.flatMap((match) =>
          match === ""
            ? Effect.fail(complaint(program, `has ended and not said ${String(pattern)}`))
            : Effect.succeed(match)
        )
      ),
    ended: when(() => ended),
    stop: (signal = "SIGTERM") =>
      Effect.suspend(() => {
        if (ended === undefined) child.kill(signal)
        return Effect.timeoutOrElse(program.ended, {
          duration: stopDeadline,
          orElse: () => Effect.fail(complaint(program, `has not ended ${stopDeadline} after ${signal}`))
        })
      })
  }
  return { child, program }
}

/** Runs a program to its end. */
export const run = (options: ProgramOptions): Effect.Effect<Ended & { readonly log: string }, ProgramError> =>
  Effect.scoped(Effect.gen(function*() {
    const program = yield* start(options)
    const ended = yield* program.ended
    return { ...ended, log: program.log() }
  }))

/** A new directory, with a short path because UNIX sockets need one, that is removed with the scope. */
export const temporaryDirectory: Effect.Effect<string, never, Scope.Scope> = Effect.acquireRelease(
  Effect.sync(() => Fs.mkdtempSync(Path.join(Os.tmpdir(), "fcgi-"))),
  (directory) => Effect.sync(() => Fs.rmSync(directory, { recursive: true, force: true }))
)

// Below the ports that clients get from the system, so that none of them takes a port before its server does; each worker of the
// test run has a range of its own.
const portsOfAWorker = 2000
const firstPort = 12_000 + (Number(process.env["VITEST_POOL_ID"] ?? 0) % 10) * portsOfAWorker
let lastPort = Math.floor(Math.random() * portsOfAWorker)

/** A port of the loopback address that nobody listens on, and that this test run has not given out lately. */
export const freePort: Effect.Effect<number> = Effect.suspend(() => {
  lastPort = (lastPort + 1) % portsOfAWorker
  const port = firstPort + lastPort
  return Effect.callback<number>((resume) => {
    const server = Net.createServer()
    server.on("error", () => resume(freePort))
    server.listen(port, "127.0.0.1", () => server.close(() => resume(Effect.succeed(port))))
  })
})

/** Succeeds when somebody accepts connections there. */
export const accepts = (address: Net.NetConnectOpts): Effect.Effect<void, Error> =>
  Effect.callback((resume) => {
    const socket = Net.connect(address)
    socket.on("connect", () => {
      socket.destroy()
      resume(Effect.void)
    })
    socket.on("error", (error) => resume(Effect.fail(error)))
    return Effect.sync(() => socket.destroy())
  })

/** Whether somebody listens there. Unlike `accepts` it makes no connection, which may be what somebody waits for. */
export const isListening = (to: { readonly path: string } | { readonly port: number }): boolean =>
  "path" in to
    // Num RefCount Protocol Flags (with SO_ACCEPTCON) Type St Inode Path
    ? Fs.readFileSync("/proc/net/unix", "utf8").split("\n").some((line) =>
      line.endsWith(` ${to.path}`) && line.split(" ")[3] === "00010000"
    )
    : Fs.readFileSync("/proc/net/tcp", "utf8").includes(
      `:${to.port.toString(16).toUpperCase().padStart(4, "0")} 00000000:0000 0A`
    )

/** Whether a process with this id runs; one that has ended and waits for its parent does not. */
export const isRunning = (pid: number): boolean => {
  try {
    return !/^State:\s+[ZX]/m.test(Fs.readFileSync(`/proc/${pid}/status`, "utf8"))
  } catch {
    return false
  }
}

/** Whether SIGSTOP has reached it: until then it goes on. */
export const isStopped = (pid: number): boolean => /^State:\s+T/m.test(Fs.readFileSync(`/proc/${pid}/status`, "utf8"))

/** Tries until it succeeds. For what no event tells, such as the end of a process that is not a child. */
export const eventually = <A, E, R>(what: string, effect: Effect.Effect<A, E, R>): Effect.Effect<A, ProgramError, R> =>
  effect.pipe(
    Effect.retry(Schedule.spaced("20 millis")),
    Effect.mapError(String),
    Effect.timeoutOrElse({ duration: deadline, orElse: () => Effect.fail("too late") }),
    Effect.mapError((reason) => new ProgramError({ message: `${what}: not within ${deadline} (${reason})` }))
  )

/** Waits until the condition holds. */
export const until = (what: string, condition: () => boolean): Effect.Effect<void, ProgramError> =>
  eventually(what, Effect.suspend(() => condition() ? Effect.void : Effect.fail("not yet")))

/** The most memory that the process has had in RAM since `resetPeak`, or since its start. Bytes. */
export const peakMemory = (pid: number): number =>
  Number(/^VmHWM:\s+(\d+) kB$/m.exec(Fs.readFileSync(`/proc/${pid}/status`, "utf8"))?.[1]) * 1024

/** Begins anew with the measure that `peakMemory` gives. */
export const resetPeak = (pid: number): void => Fs.writeFileSync(`/proc/${pid}/clear_refs`, "5")

/** The first block of a page of docs/ that is fenced as `language` and begins with a comment that holds `title`. */
export const documented = (page: string, language: string, title: string): string => {
  for (const match of page.matchAll(/^```(\S+)\n([\s\S]*?)^```$/gm)) {
    const block = match[2] ?? ""
    if (match[1] === language && block.split("\n")[0]!.includes(title)) return block
  }
  throw new Error(`the page has no block of ${language} that begins with a comment "${title}"`)
}

/** The text with its placeholders filled in. Every one has to occur. */
export const fill = (text: string, values: ReadonlyArray<readonly [placeholder: string, value: string]>): string => {
  let filled = text
  for (const [placeholder, value] of values) {
    if (!filled.includes(placeholder)) throw new Error(`"${placeholder}" does not occur in\n${text}`)
    filled = filled.replaceAll(placeholder, value)
  }
  return filled
}
