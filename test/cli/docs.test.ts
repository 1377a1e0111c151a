/** What docs/tools.md shows is what the built command says: the same lines, whatever the figures are. */
import { assert, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Fs from "node:fs"
import * as Path from "node:path"
import { NodeFastCgiListener, NodeFastCgiStatus } from "../../src/node/index.ts"
import * as FastCgiRequest from "../../src/server/FastCgiRequest.ts"
import * as FastCgiResponse from "../../src/server/FastCgiResponse.ts"
import * as FastCgiServer from "../../src/server/FastCgiServer.ts"
import * as PhpFpm from "../client/phpFpm.ts"
import { projectRoot } from "../support/files.ts"
import { describeWith } from "../support/requirement.ts"
import { temporaryDirectory, until } from "../support/webServers.ts"
import { run, start } from "./support/command.ts"

interface Shown {
  readonly args: ReadonlyArray<string>
  readonly lines: ReadonlyArray<string>
}

/** The commands of the page that end by themselves, with what is shown of them. */
const shown = (): ReadonlyArray<Shown> => {
  const page = Fs.readFileSync(Path.join(projectRoot, "docs/tools.md"), "utf8")
  const found: Array<Shown> = []
  for (const [, block] of page.matchAll(/```console\n([^]*?)```/g)) {
    for (const part of block!.split(/^\$ effect-fastcgi /m).slice(1)) {
      const [command, ...lines] = part.trimEnd().split("\n")
      found.push({ args: command!.split(" "), lines })
    }
  }
  return found
}

/** Lines without what differs from run to run: figures, how wide they make a column, how long a bar is. */
const shapeOf = (lines: ReadonlyArray<string>): ReadonlyArray<string> =>
  lines.map((line) =>
    line
      .replace(/\b[\da-f]{8}\b/g, "#")
      .replace(/\d+([.,:+]\d+)*/g, "#")
      .replace(/\b(µs|ms|s|min|KiB|MiB|B)\b( # (s|ms))?/g, "UNIT")
      .replace(/█+/g, "BAR")
      .replace(/^# +(Idle|Running) .*$/, "a worker")
      .replace(/ +/g, " ")
      .trimEnd()
  ).filter((line, i, all) => line !== all[i - 1])

/** Whether lines are what is expected, where a line "…" is whatever comes. */
const isLike = (actual: ReadonlyArray<string>, expected: ReadonlyArray<string>): boolean => {
  const at = expected.indexOf("…")
  if (at === -1) return JSON.stringify(actual) === JSON.stringify(expected)
  const rest = expected.slice(at + 1)
  return isLike(actual.slice(0, at), expected.slice(0, at)) &&
    isLike(actual.slice(Math.max(at, actual.length - rest.length)), rest)
}

/** A page shows both streams as a terminal does; which comes first is up to the terminal. Takes the lines of one out of it. */
const without = (page: ReadonlyArray<string>, lines: ReadonlyArray<string>): ReadonlyArray<string> | undefined => {
  const left = [...page]
  for (const line of lines.toReversed()) {
    const at = left.lastIndexOf(line)
    if (at === -1) return undefined
    left.splice(at, 1)
  }
  return left
}

// What follows the first word is chosen by it: `status` of php-fpm and of an application are two of these.
const ends = new Set(["request", "ping", "values", "status", "bench"])

describeWith(["php-fpm8.2"], "docs/tools.md", (phpFpm) => {
  it.live("shows what the command says", () =>
    Effect.gen(function*() {
      const php = yield* PhpFpm.start(phpFpm)
      Fs.writeFileSync(
        Path.join(php.documentRoot, "hello.php"),
        `<?php if ($_POST) error_log("odd thing"); echo "hello ", $_GET["name"] ?? "you", "\\n";`
      )
      const directory = yield* temporaryDirectory
      const socket = Path.join(directory, "app.sock")
      let open = 0
      yield* Layer.build(
        FastCgiServer.serve({
          responder: Effect.flatMap(FastCgiRequest.CurrentResponder, ({ params }) => {
            if (params.get("SCRIPT_NAME") !== "/report") {
              return Effect.succeed(FastCgiResponse.make("", { status: 404 }))
            }
            open++
            return Effect.never
          })
        }).pipe(
          Layer.provide(NodeFastCgiListener.layerUnix({ path: socket })),
          Layer.provide(NodeFastCgiStatus.layer({ path: "/status" }))
        )
      )
      yield* start(["request", socket, "/report?year=2026"])
      yield* until("a request is open", () => open === 1)
      const places: ReadonlyArray<readonly [string, string]> = [
        ["/run/php/php-fpm.sock", php.socket],
        ["/run/app.sock", socket],
        ["/srv/www", php.documentRoot]
      ]
      const here = (text: string) => places.reduce((text, [shown, real]) => text.replaceAll(shown, real), text)
      const there = (text: string) => places.reduce((text, [shown, real]) => text.replaceAll(real, shown), text)
      const commands = shown().filter(({ args }) => ends.has(args[0]!))
      assert.isAbove(commands.length, 8)
      // On a machine with a slow core the generator may be the limit, and says so.
      const withoutLimit = (text: string) => text.replace(/\n+This command took .* was the limit:.*/, "")
      for (const { args, lines } of commands) {
        const said = yield* run(args.map((arg) => here(arg === "3" ? "1" : arg)))
        const [stdout, stderr] = [said.stdout, said.stderr].map((text) =>
          text === "" ? [] : shapeOf(withoutLimit(there(text)).trimEnd().split("\n"))
        )
        const page = shapeOf(lines)
        assert.isTrue(
          [[stdout!, without(page, stderr!)], [stderr!, without(page, stdout!)]].some(([said, left]) =>
            left !== undefined && isLike(said!, left)
          ),
          [`effect-fastcgi ${args.join(" ")} says`, ...stdout!, ...stderr!, "and the page shows", ...page].join("\n")
        )
      }
    }))
})
