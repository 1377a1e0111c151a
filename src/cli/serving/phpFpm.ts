/**
 * A php-fpm for a site in development, which runs as long as the command does.
 */
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import * as ChildProcess from "node:child_process"
import * as Fs from "node:fs"
import * as Os from "node:os"
import * as Path from "node:path"
import * as NodeFastCgiConnector from "../../node/NodeFastCgiConnector.ts"
import { type CommandFailure, ExitCode, fail } from "../internal/failure.ts"

/** A php-fpm that answers. */
export interface PhpFpm {
  readonly socket: string
  /** Fails when it ends by itself. */
  readonly lost: Effect.Effect<never, CommandFailure>
}

/** Starts the newest php-fpm of this host, and waits until it listens. It is stopped with the scope. */
export const start: Effect.Effect<PhpFpm, CommandFailure, Scope.Scope> = Effect.gen(function*() {
  const program = find()
  if (program === undefined) {
    return yield* fail(
      ExitCode.Unreachable,
      "There is no php-fpm on this host. Install it (apt-get install php-fpm), or give the address of one that runs."
    )
  }
  const folder = yield* Effect.acquireRelease(
    Effect.sync(() => Fs.mkdtempSync(Path.join(Os.tmpdir(), "effect-fastcgi-"))),
    (folder) => Effect.sync(() => Fs.rmSync(folder, { recursive: true, force: true }))
  )
  const socket = Path.join(folder, "php.sock")
  const isRoot = process.getuid?.() === 0
  const configuration = Path.join(folder, "php-fpm.conf")
  Fs.writeFileSync(configuration, configurationOf(socket, Path.join(folder, "error.log"), isRoot))
  const child = yield* Effect.acquireRelease(
    Effect.sync(() =>
      // In a group of its own: at ctrl-C it is stopped when what it answers has been passed on, and not before.
      ChildProcess.spawn(
        "sh",
        ["-c", guard, "sh", program, "-F", "-O", ...(isRoot ? ["-R"] : []), "-p", folder, "-y", configuration],
        { detached: true, stdio: ["pipe", "ignore", "inherit"] }
      )
    ),
    stop
  )
  let ended: string | undefined
  const lost = Effect.callback<never, CommandFailure>((resume) => {
    const tell = () => resume(fail(ExitCode.Unreachable, `${program} has ended: ${ended}.`))
    if (ended !== undefined) return tell()
    child.once("exit", tell)
    child.once("error", tell)
  })
  child.on("exit", (code, signal) => ended ??= signal ?? `exit ${code}`)
  child.on("error", (error) => ended ??= error.message)
  const connect = NodeFastCgiConnector.connect({ path: socket })
  const attempt: Effect.Effect<void> = Effect.catch(
    Effect.asVoid(Effect.scoped(connect)),
    () => Effect.andThen(Effect.sleep(20), attempt)
  )
  yield* Effect.raceFirst(attempt, lost).pipe(
    Effect.timeoutOrElse({
      duration: startDeadline,
      orElse: () => fail(ExitCode.Timeout, `${program} does not listen ${startDeadline} after its start.`)
    })
  )
  return { socket, lost }
})

// -----------------------------------------------------------------------------
// Internal
// -----------------------------------------------------------------------------

const startDeadline = "10 seconds"

// Runs a program, and stops it when standard input ends: also where this process is killed and can stop nothing.
const guard = `exec 3<&0
"$@" 3<&- </dev/null & program=$!
(cat <&3 >/dev/null; kill -QUIT $program) 2>/dev/null & watcher=$!
wait $program; code=$?
kill $watcher 2>/dev/null
exit $code`

// How long it may take to end after SIGQUIT, which lets requests finish. Milliseconds.
const stopDeadline = 3000

const configurationOf = (socket: string, log: string, isRoot: boolean): string =>
  `[global]
daemonize = no
error_log = ${log}
log_level = warning
[www]
listen = ${socket}
listen.mode = 0600
${isRoot ? "user = root\ngroup = root\n" : ""}pm = ondemand
pm.max_children = 16
clear_env = no
catch_workers_output = no
php_flag[display_errors] = on
php_admin_flag[log_errors] = on
php_admin_value[error_log] =
`

// php-fpm, or with a version behind it: the newest. Not everybody has the folders of the system's programs on PATH.
const find = (): string | undefined => {
  const folders = [...(process.env["PATH"] ?? "").split(Path.delimiter), "/usr/local/sbin", "/usr/sbin"]
  const found = folders.flatMap((folder) => {
    try {
      return Fs.readdirSync(folder).filter((name) => /^php-fpm[\d.]*$/.test(name)).map((name) =>
        Path.join(folder, name)
      )
    } catch {
      return []
    }
  })
  const version = (path: string) => Number(Path.basename(path).slice("php-fpm".length) || Infinity)
  return found.sort((a, b) => version(b) - version(a))[0]
}

const stop = (child: ChildProcess.ChildProcess): Effect.Effect<void> =>
  Effect.callback((resume) => {
    if (child.exitCode !== null || child.signalCode !== null || child.pid === undefined) return resume(Effect.void)
    const { pid } = child
    // The group: php-fpm, its workers, and the shell.
    const timer = setTimeout(() => process.kill(-pid, "SIGKILL"), stopDeadline)
    child.once("exit", () => {
      clearTimeout(timer)
      resume(Effect.void)
    })
    child.stdin?.end()
  })
