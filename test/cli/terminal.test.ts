/**
 * Every subcommand in a terminal: colours, and what ctrl-C leaves. In a terminal ctrl-C reaches the command and all of its processes
 * at once.
 */
import { assert, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as ChildProcess from "node:child_process"
import * as Fs from "node:fs"
import * as Path from "node:path"
import { projectRoot } from "../support/files.ts"
import { describeWith } from "../support/requirement.ts"
import * as App from "./support/app.ts"
import { program } from "./support/command.ts"

interface Shown {
  /** As a terminal gets it, with escape sequences. */
  readonly shown: string
  readonly code: number
  readonly left: ReadonlyArray<string>
}

interface Row {
  readonly args: ReadonlyArray<string>
  /** What the terminal shows when ctrl-C is pressed. A command without it ends by itself. */
  readonly until?: string
  readonly code?: number
  /** What it has shown in the end, without escape sequences. */
  readonly says: RegExp
  /** Whether it has colours. Default true. */
  readonly colored?: boolean
}

const ctrlC = "\x03"

/* oxlint-disable no-control-regex -- escape sequences begin with one */
const escapes = /\x1b\[[\d;?]*[A-Za-z]/g
const color = /\x1b\[\d+m/
const hiddenCursor = /\x1b\[\?25l(?![^]*\x1b\[\?25h)/
/* oxlint-enable no-control-regex */

const inTerminal = (python: string, { args, until = "" }: Row, directory: string): Effect.Effect<Shown> =>
  Effect.callback((resume) => {
    // With these nothing has colours, or everything.
    const { CI: _, FORCE_COLOR: __, NO_COLOR: ___, ...env } = process.env
    const child = ChildProcess.execFile(
      python,
      [
        Path.join(projectRoot, "test/cli/support/terminal.py"),
        until,
        until === "" ? "" : ctrlC,
        process.execPath,
        program(),
        ...args
      ],
      { cwd: directory, env: { ...env, TERM: "xterm-256color", TMPDIR: directory, NODE_NO_WARNINGS: "1" } },
      (error, stdout, stderr) =>
        resume(error === null ? Effect.succeed(JSON.parse(stdout) as Shown) : Effect.die(new Error(stderr)))
    )
    return Effect.sync(() => child.kill("SIGKILL"))
  })

const rows = (socket: string): ReadonlyArray<Row> => {
  const capture = Path.join(projectRoot, "test/vectors/nginx-post-small.bin")
  const ended = "Ctrl-C ends it"
  return [
    { args: ["request", socket, "/hello", "-i"], says: /^Status: 200 OK\n[^]*\nhello\n$/, colored: false },
    { args: ["request", socket, "/hello", "-v"], says: /^> 0{8} {2}BEGIN_REQUEST/ },
    { args: ["request", socket, "/never", "-v"], until: "STDIN .* end", code: 130, says: /\^C$/ },
    { args: ["request", "/no/such.sock"], code: 3, says: /^effect-fastcgi: .*\n$/, colored: false },
    { args: ["ping", socket], says: /^unix:.* after .* ms: it answers, but has no such page\n$/, colored: false },
    {
      args: ["ping", socket, "--watch"],
      until: "it answers",
      code: 130,
      says: /\^C\n1 asked, 1 good, /,
      colored: false
    },
    { args: ["values", socket], says: /^FCGI_MAX_CONNS/, colored: false },
    { args: ["status", socket, "--path", "/own-status", "--workers"], says: /^Application +tests, 1 worker/ },
    { args: ["status", socket, "--path", "/own-status", "--watch"], until: "Limits", code: 130, says: /\^C$/ },
    { args: ["dump", capture], says: /^0{8} {2}BEGIN_REQUEST/ },
    { args: ["dump", capture, "--follow"], until: "STDIN .* end", code: 130, says: /\^C$/ },
    {
      args: ["record", "--listen", "./front.sock", "--to", socket],
      until: ended,
      says: /\^C0 connections, 0 B\.\n$/,
      colored: false
    },
    { args: ["replay", capture, socket], says: /^#1 POST .*: answered: 404 Not Found, 13 B\n/ },
    { args: ["bench", socket, "/hello"], until: "[1-9]\\d* requests", code: 130, says: /\^CRequests +[\d,]+ in/ },
    { args: ["gateway", socket, "--port", "0"], until: ended, says: /Ctrl-C ends it\.\n\^C$/, colored: false },
    { args: ["gateway", "--php", ".", "--port", "0"], until: ended, says: /Ctrl-C ends it\.\n\^C$/, colored: false },
    {
      args: ["serve", "./app.mjs", "--listen", "./served.sock", "--workers", "2"],
      until: "2 workers serve",
      says: /\^C/,
      colored: false
    },
    { args: ["conformance", socket], code: 2, says: /^effect-fastcgi: .*\n$/, colored: false }
  ]
}

describeWith(["python3", "php-fpm8.2"], "effect-fastcgi in a terminal", (python) => {
  it.live("shows colours, ends with ctrl-C, and leaves nothing behind", () =>
    Effect.scoped(Effect.gen(function*() {
      const { directory, socket } = yield* App.start
      Fs.writeFileSync(
        Path.join(directory, "app.mjs"),
        "export default (request, response) => response.end(request.url)\n"
      )
      const before = Fs.readdirSync(directory).sort()
      const wrong = yield* Effect.forEach(rows(socket), (row) =>
        Effect.map(inTerminal(python, row, directory), ({ code, left, shown }) => {
          const plain = shown.replace(escapes, "").replaceAll("\r\n", "\n").replaceAll("\r", "")
          const says = [
            code === (row.code ?? 0) ? "" : `exits with ${code}`,
            row.says.test(plain) ? "" : `says ${JSON.stringify(plain.slice(-800))}`,
            color.test(shown) === (row.colored ?? true) ? "" : `colours: ${shown.slice(0, 300)}`,
            hiddenCursor.test(shown) ? "leaves the cursor hidden" : "",
            /\n\s+at /.test(plain) ? "shows a stack" : "",
            left.length === 0 ? "" : `leaves ${left.length} processes`
          ].filter((one) =>
            one !== ""
          )
          return says.length === 0 ? [] : [`${row.args.join(" ")}: ${says.join("; ")}`]
        }), { concurrency: 3 })
      assert.deepStrictEqual(wrong.flat(), [])
      assert.deepStrictEqual(Fs.readdirSync(directory).sort(), before)
    })))
})
