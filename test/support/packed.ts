/**
 * The package as npm has it: packed from a clone of the project, and installed from that tarball.
 */
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import * as ChildProcess from "node:child_process"
import * as Fs from "node:fs"
import * as Path from "node:path"
import { projectFiles, projectRoot } from "./files.ts"
import * as WebServers from "./webServers.ts"

const run = (command: string, args: ReadonlyArray<string>, cwd: string) =>
  Effect.flatMap(
    Effect.callback<{ readonly code: number | null; readonly log: string }>((resume) => {
      let log = ""
      const child = ChildProcess.spawn(command, args, {
        cwd,
        // npm chooses versions by the Node that it runs on. What it has in its cache it does not ask for again.
        env: {
          ...process.env,
          PATH: `${Path.dirname(process.execPath)}:${process.env["PATH"]}`,
          npm_config_prefer_offline: "true",
          npm_config_audit: "false",
          npm_config_fund: "false",
          npm_config_update_notifier: "false"
        },
        stdio: ["ignore", "pipe", "pipe"]
      })
      for (const stream of [child.stdout, child.stderr]) stream.setEncoding("utf8").on("data", (text) => log += text)
      child.on("error", (error) => log += error.message)
      child.on("close", (code) => resume(Effect.succeed({ code, log })))
      return Effect.sync(() => child.kill("SIGKILL"))
    }),
    ({ code, log }) =>
      code === 0
        ? Effect.succeed(log)
        : Effect.fail(
          new WebServers.ProgramError({ message: `${command} ${args.join(" ")}: exit ${code}\n${log.slice(-4000)}` })
        )
  )

/** Packs the project as it is now. Gives the path of the tarball. */
export const pack: Effect.Effect<string, WebServers.ProgramError, Scope.Scope> = Effect.gen(function*() {
  const folder = yield* WebServers.temporaryDirectory
  const clone = Path.join(folder, "clone")
  for (const file of projectFiles()) {
    Fs.mkdirSync(Path.dirname(Path.join(clone, file)), { recursive: true })
    Fs.copyFileSync(Path.join(projectRoot, file), Path.join(clone, file))
  }
  Fs.symlinkSync(Path.join(projectRoot, "node_modules"), Path.join(clone, "node_modules"))
  // This builds, too.
  yield* run("npm", ["pack", "--pack-destination", folder], clone)
  return Path.join(folder, Fs.readdirSync(folder).find((file) => file.endsWith(".tgz"))!)
})

/** Runs a command `npm install …` of a page, with the tarball for `effect-fastcgi`. */
export const install = (command: string, tarball: string, folder: string) =>
  run("bash", ["-c", command.replace(/(?<= )effect-fastcgi(?= |$)/, tarball)], folder)

/** Gives a folder what `npm install` has made of another one; `package.json` only where it has none of its own. */
export const link = (from: string, to: string) =>
  Effect.asVoid(run(
    "bash",
    ["-c", `cp -aln '${from}/node_modules' '${to}' && cp -n '${from}/package.json' '${to}'`],
    from
  ))
