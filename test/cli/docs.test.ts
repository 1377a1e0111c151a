/** What docs/tools.md shows is what the built command says: the same lines, whatever the figures are. */
import { assert, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Fs from "node:fs"
import * as Path from "node:path"
import { NodeFastCgiListener, NodeFastCgiStatus } from "../../src/node/index.ts"
import type { FastCgiParams } from "../../src/protocol/FastCgiParams.ts"
import * as FastCgiRequest from "../../src/server/FastCgiRequest.ts"
import * as FastCgiResponse from "../../src/server/FastCgiResponse.ts"
import * as FastCgiServer from "../../src/server/FastCgiServer.ts"
import * as PhpFpm from "../client/phpFpm.ts"
import { projectRoot } from "../support/files.ts"
import { describeWith } from "../support/requirement.ts"
import * as WebServers from "../support/webServers.ts"
import { type Ended, run, type Running, start } from "./support/command.ts"

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
      // A row with next to nothing in it has no bar.
      .replace(/█+/g, " ")
      .replace(/^# +(Idle|Running) .*$/, "a worker")
      .replace(/ +/g, " ")
      .trimEnd()
  ).filter((line, i, all) => line !== all[i - 1])

/** Whether lines are what is expected, where a line "…" is whatever comes. */
const isLike = (actual: ReadonlyArray<string>, [first, ...rest]: ReadonlyArray<string>): boolean =>
  first === undefined
    ? actual.length === 0
    : first === "…"
    ? [...actual, ""].some((_, at) => isLike(actual.slice(at), rest))
    : actual[0] === first && isLike(actual.slice(1), rest)

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

interface Words {
  /** What a page says, with the places of this test. */
  readonly here: (text: string) => string
  /** What has been said here, with the places of the page. */
  readonly there: (text: string) => string
}

const words = (places: ReadonlyArray<readonly [shown: string, here: string]>): Words => ({
  here: (text) => places.reduce((text, [shown, here]) => text.replaceAll(shown, here), text),
  there: (text) => places.reduce((text, [shown, here]) => text.replaceAll(here, shown), text)
})

/** On a machine with a slow core the generator of `bench` may be the limit, and says so. */
const withoutLimit = (text: string) => text.replace(/\n+This command took .* was the limit:.*/, "")

/** Fails unless a command has said what the page shows. */
const saysWhatIsShown = ({ args, lines }: Shown, { there }: Words, said: Ended) => {
  const [stdout, stderr] = [said.stdout, said.stderr].map((text) =>
    text === "" ? [] : shapeOf(withoutLimit(there(text)).trimEnd().split("\n"))
  )
  // A terminal shows the key that was pressed.
  const page = shapeOf(lines.map((line) => line.replace(/^\^C/, "")))
  assert.isTrue(
    [[stdout!, without(page, stderr!)], [stderr!, without(page, stdout!)]].some(([said, left]) =>
      left !== undefined && isLike(said!, left)
    ),
    [`effect-fastcgi ${args.join(" ")} says`, ...stdout!, ...stderr!, "and the page shows", ...page].join("\n")
  )
}

/** What the page shows of a command, found by its first words. Each sample of the page is asked for once. */
const samples = () => {
  const left = new Set(shown())
  return {
    take: (command: string): Shown => {
      const found = [...left].find(({ args }) => `${args.join(" ")} `.startsWith(`${command} `))
      if (found === undefined) throw new Error(`docs/tools.md shows no ${command}`)
      left.delete(found)
      return found
    },
    left: () => [...left].map(({ args }) => args.join(" "))
  }
}

const app = (answers: (params: FastCgiParams) => FastCgiResponse.FastCgiAnswer | undefined, path: string) =>
  FastCgiServer.serve({
    responder: Effect.flatMap(FastCgiRequest.CurrentResponder, ({ params }) => {
      const answer = answers(params)
      return answer === undefined ? Effect.never : Effect.succeed(answer)
    })
  }).pipe(Layer.provide(NodeFastCgiListener.layerUnix({ path })))

const users = (count: number, type: string) =>
  FastCgiResponse.make("user\n".repeat(count), { headers: { "Content-Type": type } })

describeWith(["php-fpm8.2"], "docs/tools.md", (phpFpm) => {
  it.live("shows what each command says", () =>
    Effect.gen(function*() {
      const page = samples()
      const php = yield* PhpFpm.start(phpFpm)
      Fs.writeFileSync(
        Path.join(php.documentRoot, "hello.php"),
        `<?php if ($_POST) error_log("odd thing"); echo "hello ", $_GET["name"] ?? "you", "\\n";`
      )
      const directory = yield* WebServers.temporaryDirectory
      const at = (name: string) => Path.join(directory, name)
      const old = at("app.sock")
      let reports = 0
      yield* Layer.build(
        app((params) => {
          switch (params.get("SCRIPT_NAME")) {
            case "/report":
              reports++
              return undefined
            case "/":
            case "/hello":
              return FastCgiResponse.make("hello\n")
            case "/users":
              return users(10, "text/html")
            default:
              return FastCgiResponse.make("", { status: 404 })
          }
        }, old).pipe(Layer.provide(NodeFastCgiStatus.layer({ path: "/status" })))
      )
      yield* Layer.build(
        app(
          (params) =>
            params.get("SCRIPT_NAME") === "/hello"
              ? FastCgiResponse.make("hello\n")
              : users(12, "text/html; charset=utf-8"),
          at("new.sock")
        )
      )
      yield* start(["request", old, "/report?year=2026"])
      yield* WebServers.until("a request is open", () => reports === 1)
      const names = words([
        ["/run/php/php-fpm.sock", php.socket],
        ["/run/app/app.sock", at("served.sock")],
        ["/run/app.sock", old],
        ["/run/new.sock", at("new.sock")],
        ["/run/front.sock", at("front.sock")],
        ["/srv/www", php.documentRoot],
        ["/srv/app", directory],
        ["9000", String(yield* WebServers.freePort)]
      ])
      const ends = (command: string, times = 1) =>
        Effect.forEach(Array.from({ length: times }), () => {
          const sample = page.take(command)
          return Effect.map(
            run(sample.args.map((arg) => names.here(arg === "3" ? "1" : arg)), { cwd: directory }),
            (said) => saysWhatIsShown(sample, names, said)
          )
        })
      const stays = Effect.fnUntraced(function*<E>(
        command: string,
        more: ReadonlyArray<string>,
        does: (running: Running) => Effect.Effect<unknown, E>
      ) {
        const sample = page.take(command)
        const running = yield* start([...sample.args.map(names.here), ...more], { cwd: directory })
        yield* does(running)
        running.child.kill("SIGINT")
        saysWhatIsShown(sample, names, yield* running.ended)
      }, Effect.scoped)

      yield* ends("request", 2)
      yield* ends("ping", 3)
      yield* ends("values")
      yield* ends("status", 2)
      yield* ends("bench")

      const captures = Effect.gen(function*() {
        yield* stays("record", [], (running) =>
          Effect.gen(function*() {
            yield* running.says(/Ctrl-C ends it/)
            yield* run(["request", at("front.sock"), "/hello", "-d", "a=1"])
            yield* run(["request", at("front.sock"), "/users?page=2"])
          }))
        yield* ends("dump")
        yield* ends("replay")
      })

      const gateways = Effect.gen(function*() {
        const answered = (running: Running, path: string) =>
          Effect.promise(async () => {
            const [, url] = /^(http:\S+)\/ answers/m.exec(running.stderr())!
            await (await fetch(url + path)).text()
          })
        yield* stays("gateway /run/app.sock", ["--port", "0"], (running) =>
          Effect.gen(function*() {
            yield* running.says(/Ctrl-C ends it/)
            yield* answered(running, "/")
            yield* answered(running, "/favicon.ico")
            yield* running.says(/favicon/)
          }))
        Fs.mkdirSync(at("public"))
        yield* stays("gateway --php", ["--port", "0"], (running) => running.says(/Ctrl-C ends it/))
      })

      const serving = Effect.gen(function*() {
        Fs.symlinkSync(Path.join(projectRoot, "node_modules"), at("node_modules"))
        Fs.writeFileSync(at("package.json"), JSON.stringify({ type: "module" }))
        Fs.writeFileSync(at("routes.ts"), "export const hello: string = \"hello\"\n")
        Fs.writeFileSync(
          at("app.ts"),
          "import { hello } from \"./routes.ts\"\nexport default { fetch: () => new Response(hello) }\n"
        )
        yield* stays("serve app.ts --listen /run/app/app.sock", [], (running) => running.says(/1 worker serves/))
        yield* stays("serve app.ts --listen 9000", [], (running) =>
          Effect.gen(function*() {
            yield* running.says(/1 worker serves/)
            Fs.writeFileSync(at("routes.ts"), "syntax error here(\n")
            yield* running.says(/serve on/)
          }))
      })

      yield* Effect.all([serving, captures, gateways], { concurrency: 2 })
      assert.deepStrictEqual(page.left(), [])
    }))
})
