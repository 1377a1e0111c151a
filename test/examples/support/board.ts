/**
 * The example as a process of its own.
 */
import * as ChildProcess from "node:child_process"
import { once } from "node:events"
import { fileURLToPath } from "node:url"
import { projectRoot } from "../../support/files.ts"

export interface Exit {
  readonly code: number | null
  readonly signal: NodeJS.Signals | null
}

export interface BoardProcess {
  readonly child: ChildProcess.ChildProcess
  readonly exited: Promise<Exit>
  /** What it has printed so far. */
  readonly output: () => string
  readonly errors: () => string
}

/** Runs `node examples/board/main.ts`, with other options of node in front of it. */
export const spawn = (args: ReadonlyArray<string>, nodeOptions: ReadonlyArray<string> = []): BoardProcess => {
  const child = ChildProcess.spawn(process.execPath, [...nodeOptions, "examples/board/main.ts", ...args], {
    cwd: projectRoot,
    stdio: ["ignore", "pipe", "pipe"]
  })
  let output = ""
  let errors = ""
  child.stdout.on("data", (bytes) => output += bytes)
  child.stderr.on("data", (bytes) => errors += bytes)
  const exited = once(child, "close").then(([code, signal]) => ({ code, signal }))
  return { child, exited, output: () => output, errors: () => errors }
}

/** The same on the sources, for who does not want to build first. */
export const spawnOnSources = (args: ReadonlyArray<string>): BoardProcess =>
  spawn(args, ["--import", fileURLToPath(new URL("./onSources.ts", import.meta.url))])

/** Waits for the address that it prints when it is ready. */
export const ready = async (
  board: BoardProcess
): Promise<{ readonly url: string; readonly socket: string | undefined }> => {
  const ended = board.exited.then((exit) => {
    throw new Error(`the example ended with ${exit.code ?? exit.signal}: ${board.errors()}`)
  })
  while (!board.output().includes("Ctrl-C")) await Promise.race([once(board.child.stdout!, "data"), ended])
  const url = /http:\/\/\S+:\d+\//.exec(board.output())?.[0]
  if (url === undefined) throw new Error(`no address in: ${board.output()}`)
  return { url, socket: /the FastCGI socket is (.*)/.exec(board.output())?.[1] }
}
