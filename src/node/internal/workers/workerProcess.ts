/**
 * One worker, as its supervisor has it: a child process, what it has said, and what is said to it.
 */
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import * as ChildProcess from "node:child_process"
import type { WorkerStatus } from "../../../server/FastCgiWorkers.ts"
import { type Figures, type FromSupervisor, FromWorker, unwrap, workerVariable, wrap } from "./messages.ts"
import type { SharedHandle } from "./sharedSockets.ts"
import { encodePlace } from "./workerEnd.ts"

/** The program that workers run. */
export interface WorkerProgram {
  /** The module. */
  readonly exec: string
  readonly args: ReadonlyArray<string>
  /** Options of Node's. */
  readonly execArgv: ReadonlyArray<string>
  /** Added to the environment of the supervisor. */
  readonly env: Readonly<Record<string, string | undefined>>
}

/** How a process has ended, in words. */
export type Ended = string

export class WorkerProcess {
  readonly worker: number
  readonly startedAt = Date.now()
  /** When it said that it serves, by the clock of `performance`; 0 before. */
  readyAt = 0
  /** When it said last that it is alive, by the same clock. */
  aliveAt = performance.now()
  /** Whether it was told to end. */
  told = false
  /** Not to be recycled before, by the same clock. */
  recycleAfter = 0
  figures: Figures = { requests: 0, requestsOpen: 0, connections: 0, memory: 0, eventLoopDelay: 0, cpu: 0 }
  /** The sockets that it listens on, by their keys. */
  readonly sockets = new Set<string>()
  readonly ready = Deferred.makeUnsafe<void>()
  readonly exited = Deferred.makeUnsafe<Ended>()
  private readonly child: ChildProcess.ChildProcess

  constructor(
    worker: number,
    program: WorkerProgram,
    maxRequests: number,
    on: {
      readonly message: (process: WorkerProcess, message: FromWorker) => void
      readonly exit: (process: WorkerProcess, ended: Ended) => void
    }
  ) {
    this.worker = worker
    this.child = ChildProcess.fork(program.exec, program.args, {
      execArgv: [...program.execArgv],
      env: {
        ...process.env,
        ...program.env,
        // Those are for the supervisor.
        NOTIFY_SOCKET: undefined,
        WATCHDOG_USEC: undefined,
        WATCHDOG_PID: undefined,
        [workerVariable]: encodePlace(Number.isFinite(maxRequests) ? { worker, maxRequests } : { worker })
      },
      stdio: ["ignore", "inherit", "inherit", "ipc"]
    })
    let hasExited = false
    const exit = (ended: Ended) => {
      if (hasExited) return
      hasExited = true
      running.delete(this.child)
      on.exit(this, ended)
      Deferred.doneUnsafe(this.exited, Effect.succeed(ended))
    }
    running.add(this.child)
    endWithThisProcess()
    this.child.on("exit", (code, signal) => exit(signal ?? `exit ${code}`))
    this.child.on("error", (error) => {
      // A process that can not be started has no other event.
      if (this.child.pid === undefined) exit(error.message)
    })
    this.child.on("message", (content) => {
      const message = decode(unwrap(content))
      if (Option.isSome(message)) on.message(this, message.value)
    })
  }

  get pid(): number {
    return this.child.pid ?? 0
  }

  get state(): WorkerStatus["state"] {
    return this.told ? "draining" : this.readyAt === 0 ? "starting" : "serving"
  }

  get status(): WorkerStatus {
    return { worker: this.worker, pid: this.pid, state: this.state, startedAt: this.startedAt, ...this.figures }
  }

  send(message: FromSupervisor, handle?: SharedHandle): void {
    // It fails when the worker has just ended, which is told by itself.
    if (this.child.connected) this.child.send(wrap(message), handle, {}, () => {})
  }

  kill(signal: NodeJS.Signals): void {
    this.child.kill(signal)
  }
}

// -----------------------------------------------------------------------------
// Internal
// -----------------------------------------------------------------------------

const decode = Schema.decodeUnknownOption(FromWorker)

const running = new Set<ChildProcess.ChildProcess>()

let looksAfter = false

// However the supervisor ends, by a second signal for instance: nobody else would end them.
const endWithThisProcess = (): void => {
  if (looksAfter) return
  looksAfter = true
  process.on("exit", () => {
    for (const child of running) child.kill("SIGKILL")
  })
}
