/**
 * A machine for what pages tell their readers to type: the paths, ports and users that the pages name, as somebody who has a
 * machine to himself has them. Commands run as an ordinary user, `stranger`, in namespaces of mounts, network and processes. The
 * tests' own machine is underneath, where nothing can be written: /etc, /usr, /var, /srv and /root are overlays, /home, /tmp and
 * /run are new. Nothing outlives the scope.
 */
import { describe } from "@effect/vitest"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import * as ChildProcess from "node:child_process"
import * as Fs from "node:fs"
import * as Path from "node:path"
import { fileURLToPath } from "node:url"
import { describeWith as requireWith, requireCommand } from "./requirement.ts"
import * as WebServers from "./webServers.ts"

// What a machine is made with.
const commands = ["unshare", "nsenter", "setpriv", "ip", "useradd", "sudo", "perl"]

const namespaces = ["--mount", "--net", "--pid"]

// Takes root, and a kernel that lets root do so: a container often may not.
const available = (): boolean =>
  ChildProcess.spawnSync(requireCommand("unshare"), [...namespaces, "--fork", "mount", "-t", "tmpfs", "tmpfs", "/mnt"])
    .status === 0

/**
 * `describe` for a suite that needs a machine, with these programs of its own. Where this process may not make namespaces the suite
 * is skipped, and a line says so.
 */
export const describeWith = (programs: ReadonlyArray<string>, name: string, fn: () => void): void =>
  requireWith([...commands, ...programs], name, () => {
    if (available()) return fn()
    console.log(`skipped: ${name}: needs root that may make namespaces`)
    describe.skip(`${name} (needs root that may make namespaces)`, fn)
  })

/** A command that goes on, as in a terminal of its own. */
export interface Terminal extends WebServers.Program {
  /** Ctrl-C, and what comes of it. */
  readonly interrupt: Effect.Effect<WebServers.Ended, WebServers.ProgramError>
}

/** Where and for whom a command runs. */
export interface CommandOptions {
  /** The folder below /home/stranger. Default that itself. */
  readonly folder?: string | undefined
  /** Default `stranger`. */
  readonly user?: "stranger" | "root" | undefined
}

export interface Machine {
  /** /home/stranger, as the test sees it. */
  readonly home: string
  /** Runs a command to its end, and fails when that is not 0. Gives what it has said. */
  readonly run: (command: string, options?: CommandOptions) => Effect.Effect<string, WebServers.ProgramError>
  /** Writes a file at any path of the machine, which belongs to root unless it is below /home/stranger. */
  readonly write: (path: string, content: string) => Effect.Effect<void, WebServers.ProgramError>
  /** Starts a command that goes on. */
  readonly start: (
    command: string,
    options?: CommandOptions
  ) => Effect.Effect<Terminal, WebServers.ProgramError, Scope.Scope>
}

const support = (file: string) => fileURLToPath(new URL(file, import.meta.url))

const childOf = (pid: number) => Number(Fs.readFileSync(`/proc/${pid}/task/${pid}/children`, "utf8"))

/** Makes a machine. */
export const make: Effect.Effect<Machine, WebServers.ProgramError, Scope.Scope> = Effect.gen(function*() {
  const base = yield* WebServers.temporaryDirectory
  const home = Path.join(base, "home/stranger")
  Fs.mkdirSync(home, { recursive: true })
  // Others than root go through it.
  Fs.chmodSync(base, 0o755)
  const holder = yield* WebServers.start({
    name: "machine",
    command: requireCommand("unshare"),
    args: [
      ...namespaces,
      "--fork",
      "--mount-proc",
      "--kill-child",
      "sh",
      support("machine.sh"),
      base,
      process.execPath,
      support("systemctl.sh"),
      support("../node/fixtures/receive.pl")
    ],
    // It passes no signal on. With this one everything on the machine ends.
    stopSignal: "SIGKILL"
  })
  yield* holder.says("ready\n")
  const target = String(childOf(holder.pid))

  const options = (command: string, { folder = "", user = "stranger" }: CommandOptions): WebServers.ProgramOptions => ({
    name: command,
    command: requireCommand("nsenter"),
    args: [
      "--target",
      target,
      ...namespaces,
      "setpriv",
      "--reuid",
      user,
      "--regid",
      user,
      "--init-groups",
      "env",
      "--ignore-environment",
      `--chdir=${Path.join("/home/stranger", folder)}`,
      "PATH=/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin",
      "HOME=/home/stranger",
      "NO_COLOR=1",
      "NO_UPDATE_NOTIFIER=1",
      `USER=${user}`,
      "bash",
      "-c",
      command
    ]
  })

  const run = (command: string, where: CommandOptions = {}) =>
    Effect.flatMap(
      WebServers.run(options(command, where)),
      ({ code, log, signal }) =>
        code === 0
          ? Effect.succeed(log)
          : Effect.fail(new WebServers.ProgramError({ message: `${command}: ${signal ?? `exit ${code}`}\n${log}` }))
    )

  return {
    home,
    run,
    write: (path, content) =>
      Effect.suspend(() => {
        if (path.startsWith("/home/stranger/")) {
          Fs.mkdirSync(Path.dirname(Path.join(base, path)), { recursive: true })
          Fs.writeFileSync(Path.join(base, path), content)
          return Effect.void
        }
        Fs.writeFileSync(Path.join(base, "tmp/written"), content)
        return Effect.asVoid(run(`install -D -m 644 /tmp/written '${path}'`, { user: "root" }))
      }),
    start: (command, where = {}) =>
      Effect.map(WebServers.start(options(command, where)), (program) => ({
        ...program,
        interrupt: Effect.suspend(() => {
          process.kill(childOf(program.pid), "SIGINT")
          return Effect.timeoutOrElse(program.ended, {
            duration: "25 seconds",
            orElse: () =>
              Effect.fail(
                new WebServers.ProgramError({ message: `${command} goes on after Ctrl-C\n${program.log()}` })
              )
          })
        })
      }))
  }
})
