/**
 * What `docker build` and `docker run` do, as far as it can be done without an engine: every instruction of a Dockerfile is carried
 * out, for real, in a root directory of its own, in namespaces of its own. The root directory is an overlay of this host's, which
 * stands for the image that the Dockerfile starts from. It takes root.
 */
import { Copy, DockerfileParser, type Instruction, type PropertyInstruction } from "dockerfile-ast"
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import * as ChildProcess from "node:child_process"
import * as Fs from "node:fs"
import * as Path from "node:path"
import { onPath } from "../../support/requirement.ts"
import * as WebServers from "../../support/webServers.ts"

/** A Dockerfile asks for something that this file does not do, or a step of it has failed. */
export class ContainerError extends Data.TaggedError("ContainerError")<{ readonly message: string }> {}

/** What a Dockerfile makes. */
export interface Image {
  /** The files that the Dockerfile has added to the host's. */
  readonly files: string
  readonly env: Readonly<Record<string, string>>
  readonly workdir: string
  readonly user: string
  readonly command: ReadonlyArray<string>
  readonly healthcheck: ReadonlyArray<string>
  readonly stopSignal: NodeJS.Signals
}

/** A command that was run to its end. */
export interface Result {
  readonly code: number | null
  readonly log: string
}

export interface Container {
  /** Its log, and the end of its process 1. */
  readonly program: WebServers.Program
  /** Runs a command in it to its end, as its user. */
  readonly exec: (...command: ReadonlyArray<string>) => Result
  /** Sends the signal to its process 1 and waits until that has ended. */
  readonly stop: (signal: NodeJS.Signals) => Effect.Effect<WebServers.Ended, WebServers.ProgramError>
  /** Starts another one beside it, of the same files and as this user (`101:101`): they share the network and the volume. */
  readonly beside: (
    name: string,
    user: string,
    ...command: ReadonlyArray<string>
  ) => Effect.Effect<Container, WebServers.ProgramError, Scope.Scope>
}

/** What an image of Node has, made of this host: Node and its user, who has the numbers 1000 and 1000. */
const base = (folder: string, node: string) => {
  Fs.mkdirSync(Path.join(folder, "usr/local/bin"), { recursive: true })
  Fs.mkdirSync(Path.join(folder, "etc"))
  Fs.copyFileSync(node, Path.join(folder, "usr/local/bin/node"))
  Fs.chmodSync(folder, 0o755)
  const add = (file: string, name: RegExp, line: string) => {
    const lines = Fs.readFileSync(file, "utf8").split("\n").filter((other) => other !== "" && !name.test(other))
    Fs.writeFileSync(Path.join(folder, file), [...lines, line, ""].join("\n"))
  }
  add("/etc/passwd", /^node:|^[^:]*:[^:]*:1000:/, "node:x:1000:1000::/home/node:/bin/sh")
  add("/etc/group", /^node:|^[^:]*:[^:]*:1000:/, "node:x:1000:")
}

const run = (command: string, args: ReadonlyArray<string>): Result => {
  const { error, status, stderr, stdout } = ChildProcess.spawnSync(command, args, {
    encoding: "utf8",
    env: { ...process.env, npm_config_prefer_offline: "true" },
    stdio: ["ignore", "pipe", "pipe"],
    timeout: 120_000
  })
  return { code: status, log: `${error?.message ?? ""}${stdout}${stderr}` }
}

const quote = (words: ReadonlyArray<string>) => words.map((word) => `'${word.replaceAll("'", `'\\''`)}'`).join(" ")

/** Commands of a shell that make a root directory of the host's and these files, at `root`, and go there. */
const mounts = (files: string, root: string) =>
  [
    "set -e",
    `mkdir -p ${root} ${files}.work`,
    `mount -t overlay overlay -o lowerdir=/,upperdir=${files},workdir=${files}.work ${root}`,
    `mount --rbind /dev ${root}/dev`,
    `mount -t proc proc ${root}/proc`
  ].join("\n")

const asUser = (user: string) => {
  const [name = "", group] = user.split(":")
  const id = name === "node" ? "1000" : name
  return ["setpriv", `--reuid=${id}`, `--regid=${group ?? id}`, "--clear-groups", "--no-new-privs"]
}

interface RunOptions {
  readonly user: string
  readonly workdir: string
  readonly env: Readonly<Record<string, string>>
}

/** Commands of a shell that run a program in the root directory in place of the shell. */
const enter = (root: string, options: RunOptions, command: ReadonlyArray<string>) => {
  const env = Object.entries({ PATH: "/usr/local/bin:/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin", ...options.env })
  return `exec ${
    quote([
      "chroot",
      root,
      ...(options.user === "root" ? [] : asUser(options.user)),
      "env",
      ...(options.user === "root" ? [] : ["-i"]),
      `--chdir=${options.workdir}`,
      ...env.map(([name, value]) => `${name}=${value}`),
      ...command
    ])
  }`
}

/**
 * Carries out a Dockerfile, with `context` as the folder that it is built from and `node` as the Node of its base image. Everything
 * that it makes is below `folder`.
 */
export const build = (dockerfile: string, context: string, folder: string, node: string) =>
  Effect.try({
    try: (): Image => {
      const stages = new Map<string, string>()
      let image: Image | undefined
      const ignored = ignoredBy(Path.join(context, ".dockerignore"))
      for (const instruction of DockerfileParser.parse(dockerfile).getInstructions()) {
        const keyword = instruction.getKeyword()
        const args = instruction.getArguments().map((argument) => argument.getValue())
        if (keyword === "FROM") {
          if (!/^node:24\b/.test(args[0]!)) throw new Error(`${args[0]} is no image that this host can stand for`)
          const files = Path.join(folder, `stage${stages.size}`)
          base(files, node)
          stages.set(args[1] === "AS" ? args[2]! : String(stages.size), files)
          image = { files, env: {}, workdir: "/", user: "root", command: [], healthcheck: [], stopSignal: "SIGTERM" }
        } else {
          if (image === undefined) throw new Error(`${keyword} before FROM`)
          image = step(image, instruction, { context, stages, ignored })
        }
      }
      if (image === undefined) throw new Error("there is no FROM")
      return image
    },
    catch: (error) => new ContainerError({ message: error instanceof Error ? error.message : String(error) })
  })

/** Names of the context that are not sent, by a .dockerignore that leaves everything out but what it names. */
const ignoredBy = (file: string) => {
  const [everything, ...others] = Fs.readFileSync(file, "utf8").trim().split("\n")
  if (everything !== "*" || others.some((line) => !line.startsWith("!"))) {
    throw new Error(`${file} does not begin with * and go on with !names`)
  }
  return (name: string) => !others.includes(`!${name}`)
}

const step = (
  image: Image,
  instruction: Instruction,
  from: {
    readonly context: string
    readonly stages: ReadonlyMap<string, string>
    readonly ignored: (name: string) => boolean
  }
): Image => {
  const args = instruction.getArguments().map((argument) => argument.getValue())
  const inside = (path: string) => Path.join(image.files, Path.posix.resolve(image.workdir, path))
  const exec = (...command: ReadonlyArray<string>) => {
    const root = `${image.files}.root`
    const result = run("unshare", [
      "--mount",
      "sh",
      "-c",
      `${mounts(image.files, root)}\n${enter(root, image, command)}`
    ])
    if (result.code !== 0) throw new Error(`${command.join(" ")}: ${result.log}`)
  }
  switch (instruction.getKeyword()) {
    case "WORKDIR":
      Fs.mkdirSync(inside(args[0]!), { recursive: true })
      return { ...image, workdir: Path.posix.resolve(image.workdir, args[0]!) }
    case "ENV": {
      const properties = (instruction as PropertyInstruction).getProperties()
      const env = Object.fromEntries(properties.map((property) => [property.getName(), property.getValue() ?? ""]))
      return { ...image, env: { ...image.env, ...env } }
    }
    case "COPY": {
      const stage = instruction instanceof Copy ? instruction.getFromFlag()?.getValue() ?? undefined : undefined
      const names = [...args]
      const to = names.pop()!
      for (const name of names) {
        if (stage === undefined && from.ignored(name)) throw new Error(`${name} is left out by .dockerignore`)
        const source = stage === undefined ? Path.join(from.context, name) : Path.join(from.stages.get(stage)!, name)
        const target = to.endsWith("/") ? Path.join(inside(to), Path.basename(name)) : inside(to)
        Fs.cpSync(source, target, { recursive: true, dereference: true })
      }
      return image
    }
    case "RUN":
      exec("/bin/sh", "-c", instruction.getArgumentsContent()!)
      return image
    case "USER":
      return { ...image, user: args[0]! }
    case "VOLUME":
      return image
    case "STOPSIGNAL":
      return { ...image, stopSignal: args[0] as NodeJS.Signals }
    case "CMD":
      return { ...image, command: words(instruction) }
    case "HEALTHCHECK":
      return { ...image, healthcheck: words(instruction) }
    default:
      throw new Error(`${instruction.getKeyword()} is not done here`)
  }
}

/** The words of a command: those of its JSON array, or a shell that reads it. */
const words = (instruction: Instruction): ReadonlyArray<string> => {
  const content = (instruction.getArgumentsContent() ?? "").replace(/^CMD\s+/, "")
  return content.startsWith("[") ? JSON.parse(content) as ReadonlyArray<string> : ["/bin/sh", "-c", content]
}

/**
 * Runs an image: as process 1, as its user, with a root directory that is read only, without a network but its own, and with a volume
 * in memory at `volume.path`. `volume.options` are those of tmpfs.
 */
export const start = (
  name: string,
  image: Image,
  volume: { readonly path: string; readonly options: string }
): Effect.Effect<Container, WebServers.ProgramError, Scope.Scope> =>
  Effect.gen(function*() {
    const root = `${image.files}.root`
    const script = [
      mounts(image.files, root),
      `mount -t tmpfs -o ${volume.options} tmpfs ${root}${volume.path}`,
      `mount -t tmpfs tmpfs ${root}/tmp`,
      `mount -o remount,ro ${root}`,
      "ip link set lo up",
      enter(root, image, image.command)
    ].join("\n")
    const args = ["--mount", "--net", "--pid", "--fork", "--kill-child", "sh", "-c", script]
    return yield* make(
      name,
      yield* WebServers.start({ name, command: onPath("unshare")!, args, stopSignal }),
      root,
      image
    )
  })

// unshare takes no notice of the others, and takes its process 1 along.
const stopSignal = "SIGKILL"

/** The container that `unshare` runs, which waits for its process 1. */
const make = (
  name: string,
  program: WebServers.Program,
  root: string,
  options: RunOptions
): Effect.Effect<Container, WebServers.ProgramError> =>
  Effect.map(
    WebServers.eventually(
      `${name} has a process 1`,
      Effect.suspend(() => {
        const file = `/proc/${program.pid}/task/${program.pid}/children`
        const children = Fs.existsSync(file) ? Fs.readFileSync(file, "utf8").trim() : ""
        return children === "" ? Effect.fail("not yet") : Effect.succeed(children)
      })
    ).pipe(Effect.raceFirst(
      Effect.flatMap(
        program.ended,
        () => Effect.fail(new WebServers.ProgramError({ message: `${name} has ended\n${program.log()}` }))
      )
    )),
    (first): Container => ({
      program,
      exec: (...command) =>
        run("nsenter", ["--target", first, "--mount", "--net", "--pid", "sh", "-c", enter(root, options, command)]),
      stop: (signal) =>
        Effect.suspend(() => {
          process.kill(Number(first), signal)
          return Effect.timeoutOrElse(program.ended, {
            duration: "60 seconds",
            orElse: () =>
              Effect.fail(new WebServers.ProgramError({ message: `${name} has not ended\n${program.log()}` }))
          })
        }),
      beside: (other, user, ...command) => {
        const its = { user, workdir: "/", env: {} }
        const shared = ["--target", first, "--mount", "--net"]
        const own = ["unshare", "--pid", "--fork", "--kill-child", "sh", "-c", enter(root, its, command)]
        // nsenter becomes unshare.
        return Effect.flatMap(
          WebServers.start({ name: other, command: onPath("nsenter")!, args: [...shared, ...own], stopSignal }),
          (program) => make(other, program, root, its)
        )
      }
    })
  )
