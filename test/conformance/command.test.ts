/**
 * The command, as people call it: against our application over a real UNIX socket, against a server that fails, and with what
 * it cannot understand. And, where they can be built, the applications of others, with the failures that they are known for.
 */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fs from "node:fs"
import * as Path from "node:path"
import { servers } from "../../conformance/servers.ts"
import type { Report } from "../../src/conformance/Conformance.ts"
import { program } from "../cli/support/command.ts"
import * as PhpFpm from "../client/phpFpm.ts"
import { projectRoot } from "../support/files.ts"
import { programFile } from "../support/programFile.ts"
import { describeWith } from "../support/requirement.ts"
import { run, temporaryDirectory } from "../support/webServers.ts"

const application = [process.execPath, programFile("conformance/effect-fastcgi/main.ts")]

const command = (...args: ReadonlyArray<string>) =>
  run({
    name: "effect-fastcgi",
    command: process.execPath,
    args: [program(), ...args]
  })

/** Starts the server of this name with the suite, and returns what the suite prints as JSON. */
const tried = (name: string, only: ReadonlyArray<string>, ...args: ReadonlyArray<string>) =>
  Effect.scoped(Effect.gen(function*() {
    const directory = yield* temporaryDirectory
    const socket = Path.join(directory, "app.sock")
    const start = servers(directory).find((server) => server.name === name)?.build()
    if (start === undefined || typeof start === "string") return yield* Effect.die(new Error(start ?? name))
    // Ours on the sources, not on what was last built.
    const line = [...(name === "effect-fastcgi" ? application : start.command), socket]
    const { code, log } = yield* command(
      "conformance",
      socket,
      "--start",
      // What the server says on its own is not the report's.
      `${line.join(" ")} 2>/dev/null`,
      "--json",
      ...only.flatMap((row) => ["--only", row]),
      ...args
    )
    return { code, report: JSON.parse(log) as Report }
  }))

/** What was not passed. */
const found = (report: Report): ReadonlyArray<string> =>
  report.lines.filter((line) => line.result !== "pass").map((line) => `${line.row} ${line.result}: ${line.came}`)

describe("effect-fastcgi conformance", () => {
  it.live("finds nothing in effect-fastcgi, and exits with 0", () =>
    Effect.gen(function*() {
      const { code, report } = yield* tried("effect-fastcgi", [], "--deadline", "20000")
      assert.deepStrictEqual(found(report), ["6.1-e n/a: the application has no /nothing"])
      assert.strictEqual(code, 0)
      assert.isAbove(report.lines.length, 140)
      assert.strictEqual(report.values["FCGI_MPXS_CONNS"], "1")
    }))

  it.live(
    "exits with 1 for a server that fails, which is started again when it has died",
    () =>
      Effect.gen(function*() {
        const { code, report } = yield* tried("node-fastcgi", ["4.2-a", "3.4-e"])
        assert.strictEqual(code, 1)
        const died = report.lines.filter((line) => line.row === "4.2-a")
        assert.strictEqual(died.length, 3)
        for (const line of died) assert.include(line.came, "then the server was gone (exit 1)")
        assert.deepStrictEqual(
          report.lines.filter((line) => line.row === "3.4-e").map((line) => line.result),
          ["fail", "fail"]
        )
      })
  )

  it.live("prints a table, and Markdown", () =>
    Effect.scoped(Effect.gen(function*() {
      const directory = yield* temporaryDirectory
      const socket = Path.join(directory, "app.sock")
      const start = [...application, socket].join(" ")
      const table = yield* command("conformance", socket, "--start", start, "--only", "3.1", "--name", "ours 1.0")
      assert.strictEqual(table.code, 0)
      assert.match(table.log, /^3\.1-a\s+pass\s+must\s+ids and lengths are big-endian.*\n\s+200 with 513 bytes$/m)
      assert.match(table.log, /^ours 1\.0: 1 pass, 0 fail, 0 warn, 0 n\/a, 0 skipped$/m)
      const markdown = yield* command(
        ...["conformance", socket, "--start", start, "--only", "3.1", "--name", "ours 1.0", "--markdown"]
      )
      assert.match(markdown.log, /^\| 3\.1-a \| must {2}\| ids and lengths .* \| pass \|$/m)
    })))

  it.live("exits with 2 and a sentence for what it cannot understand or reach", () =>
    Effect.gen(function*() {
      for (
        const [args, sentence] of [
          [[], "Missing required argument: address"],
          [["nowhere"], "\"nowhere\" is no address"],
          [["/no/such.sock", "--json", "--markdown"], "--json and --markdown exclude each other"],
          [["/no/such.sock", "--pid", "1", "--start", "true"], "--start and --pid exclude each other"],
          [["/no/such.sock", "--deadline", "0"], "--deadline takes a number of milliseconds above 0"],
          [["/no/such.sock", "--start", "false"], "The server has ended instead of listening: exit 1"]
        ] as const
      ) {
        const { code, log } = yield* command("conformance", ...args)
        assert.include(log, sentence)
        assert.strictEqual(code, 2, sentence)
      }
    }))

  describeWith(["php-fpm8.2"], "against php-fpm", (phpFpm) => {
    it.live("exits with 2 and says what the suite needs", () =>
      Effect.gen(function*() {
        const { socket } = yield* PhpFpm.start(phpFpm!)
        const { code, log } = yield* command("conformance", socket)
        assert.include(log, "The suite needs an application that goes by REQUEST_URI")
        assert.strictEqual(code, 2)
      }))
  })

  it.live("says its version and its subcommands without the suite", () =>
    Effect.gen(function*() {
      const { version } = JSON.parse(Fs.readFileSync(Path.join(projectRoot, "package.json"), "utf8")) as {
        readonly version: string
      }
      assert.include((yield* command("--version")).log, version)
      assert.include((yield* command("--help")).log, "conformance")
    }))
})

/** The failures of design notes and bug trackers, row by row: the suite has to see each of them. */
const known: ReadonlyArray<readonly [server: string, rows: Readonly<Record<string, string>>]> = [
  ["libfcgi", {
    "3.2-e": "64 idle connections keep nobody from being answered",
    "3.3-d": "padding of the empty PARAMS record is skipped",
    "4.1-b": "GET_VALUES is answered at once by one GET_VALUES_RESULT with id 0",
    "4.2-a": "content and padding of an unknown management record are skipped",
    "5.1-d": "a kept connection is of use after ABORT_REQUEST",
    "5.5-c": "two requests sent one behind the other in one write",
    "6.2-d": "less than CONTENT_LENGTH is an error for the handler, not a short body"
  }],
  ["Go net/http/fcgi", {
    "3.3-n": "a body that is not read does not hold up the other request",
    "4.1-b": "GET_VALUES is answered at once by one GET_VALUES_RESULT with id 0",
    "4.2-a": "management types 12, 100 and 255 are answered with UNKNOWN_TYPE",
    "5.4-a": "ABORT_REQUEST while STDIN is open is answered with one END_REQUEST"
  }]
]

describe("the suite against others", () => {
  for (const [name, rows] of known) {
    it.live(`finds what is known of ${name}`, (context) =>
      Effect.gen(function*() {
        const built = yield* Effect.scoped(
          Effect.map(temporaryDirectory, (directory) =>
            servers(directory).find((server) => server.name === name)!.build())
        )
        // What it takes to build it is nothing that the project needs.
        if (typeof built === "string") {
          return context.skip(built)
        }
        const { report } = yield* tried(name, Object.keys(rows), "--deadline", "700")
        for (const [row, title] of Object.entries(rows)) {
          const line = report.lines.find((line) =>
            line.row === row && line.title === title
          )
          assert.include(["fail", "warn"], line?.result, `${row} ${title}: ${line?.came}`)
        }
      }))
  }

  it.live("exits with 2 for a row that is none, and for an address where nobody listens, and says so", () =>
    Effect.gen(function*() {
      const typo = yield* command("conformance", "127.0.0.1:1", "--only", "99")
      assert.strictEqual(typo.code, 2)
      assert.include(typo.log, "No row begins with \"99\", which --only asks for.")
      const nobody = yield* command("conformance", "/nowhere/app.sock")
      assert.strictEqual(nobody.code, 2)
      assert.include(nobody.log, "there is no such socket")
      assert.notInclude(nobody.log, "..")
    }))
})
