/**
 * `effect-fastcgi bench`, `gateway` and `serve`, built and started as people start them.
 */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as ChildProcess from "node:child_process"
import * as Fs from "node:fs"
import * as Path from "node:path"
import * as PhpFpm from "../client/phpFpm.ts"
import { projectRoot } from "../support/files.ts"
import { describeWith } from "../support/requirement.ts"
import { eventually, temporaryDirectory, until } from "../support/webServers.ts"
import * as App from "./support/app.ts"
import { command, type Running, start } from "./support/command.ts"

const ask = (url: string, init?: RequestInit) =>
  Effect.promise(async () => {
    const response = await fetch(url, init)
    return { status: response.status, type: response.headers.get("content-type"), text: await response.text() }
  })

/** Where it says that it answers. */
const urlOf = (running: Running) =>
  Effect.map(running.says(/answers for .* Ctrl-C ends it/), () => /^(http:\S+\/) answers/m.exec(running.stderr())![1]!)

describe("effect-fastcgi bench", () => {
  it.live(
    "counts answers, with and without keeping connections, and multiplexed",
    () =>
      Effect.scoped(Effect.gen(function*() {
        const { socket } = yield* App.start
        const ways = [[], ["--keep-conn"], ["--keep-conn", "--connections", "2", "--multiplex", "8"], [
          "--body",
          "100K"
        ]]
        for (const way of ways) {
          const path = way.includes("--body") ? "/echo" : "/hello"
          const { code, stdout } = yield* command("bench", socket, path, "--seconds", "300ms", "--json", ...way)
          const figures = JSON.parse(stdout) as {
            readonly requests: number
            readonly failed: number
            readonly differentBodies: number
            readonly statuses: object
          }
          assert.strictEqual(code, 0, stdout)
          assert.isAbove(figures.requests, 5)
          assert.deepInclude(figures, { failed: 0, differentBodies: 0, statuses: { 200: figures.requests } })
        }
        const text = yield* command("bench", socket, "/hello", "--seconds", "200ms")
        assert.match(text.stdout, /^Requests {2}[\d,]+ in 0\.2 s, [\d,]+ a second$/m)
        assert.strictEqual(text.stderr, "")
      })),
    30_000
  )

  it.live(
    "measures nothing that does not work, and shows what it has at ctrl-C",
    () =>
      Effect.scoped(Effect.gen(function*() {
        const { requests, socket } = yield* App.start
        const missing = yield* command("bench", socket, "/missing")
        assert.strictEqual(missing.code, 1)
        assert.match(missing.stderr, /answers with 404 Not Found: nothing to measure/)
        assert.strictEqual((yield* command("bench", "/no/such.sock")).code, 3)
        assert.strictEqual((yield* command("bench", socket, "--multiplex", "4")).code, 2)
        const running = yield* start(["bench", socket, "/hello", "--keep-conn"], { env: { FORCE_COLOR: "0" } })
        yield* until("many requests have come", () => requests() > 100)
        running.child.kill("SIGINT")
        const { code, stdout } = yield* running.ended
        assert.strictEqual(code, 130)
        assert.match(stdout, /^Requests {2}[\d,]+ in /m)
      })),
    30_000
  )
})

describeWith(["php-fpm8.2"], "effect-fastcgi bench with php-fpm", (phpFpm) => {
  it.live("says that it takes one request at a time on a connection", () =>
    Effect.gen(function*() {
      const { documentRoot, socket } = yield* PhpFpm.start(phpFpm!)
      const bench = (...args: ReadonlyArray<string>) =>
        command("bench", socket, "/hello.php", "--root", documentRoot, "--seconds", "100ms", "--keep-conn", ...args)
      const multiplexed = yield* bench("--multiplex", "4")
      assert.deepInclude(multiplexed, { code: 2, stdout: "" })
      assert.match(multiplexed.stderr, /^effect-fastcgi: .* one request at a time on a connection .*--multiplex/)
      assert.strictEqual((yield* bench("--connections", "2")).code, 0)
    }))
})

describe("effect-fastcgi gateway", () => {
  it.live("answers HTTP for an application until it is told to end", () =>
    Effect.scoped(Effect.gen(function*() {
      const { socket } = yield* App.start
      const gateway = yield* start(["gateway", socket, "--port", "0", "-p", "X=y"])
      const url = yield* urlOf(gateway)
      assert.include(yield* ask(`${url}hello`), { status: 200, text: "hello\n" })
      const echo = JSON.parse((yield* ask(`${url}echo`, { method: "POST", body: "a body" })).text)
      assert.deepInclude(echo, { body: "a body" })
      assert.include(echo.params, { REQUEST_METHOD: "POST", X: "y" })
      yield* gateway.says(/^\d\d:\d\d:\d\d {2}GET \/hello {2}200 {2}/m)
      gateway.child.kill("SIGTERM")
      assert.deepInclude(yield* gateway.ended, { code: 0, signal: null })
    })), 30_000)

  it.live("says what is missing", () =>
    Effect.scoped(Effect.gen(function*() {
      const { directory, socket } = yield* App.start
      const first = yield* start(["gateway", socket, "--port", "0"])
      const port = new URL(yield* urlOf(first)).port
      const tries = [
        [["--port", "0"], /Give the address of an application, or --php DIRECTORY/],
        [["--php", "/no/such", "--port", "0"], /There is no directory \/no\/such/],
        [["--php", Path.join(directory, "app.sock"), "--port", "0"], /is no directory/],
        [[socket, "--prefix", "/a"], /--prefix and --front-controller are for --php/],
        [[socket, "--port", port], /something listens there already/]
      ] as const
      yield* Effect.forEach(tries, ([args, said]) =>
        Effect.map(command("gateway", ...args), ({ code, stderr }) => {
          assert.match(stderr, said)
          assert.strictEqual(code, 2)
        }), { concurrency: 4 })
    })), 30_000)

  describeWith(["php-fpm8.2"], "with php-fpm", () => {
    it.live("starts one for a site, and leaves nothing of it behind", () =>
      Effect.scoped(Effect.gen(function*() {
        const { directory } = yield* App.start
        const site = Path.join(directory, "site")
        Fs.mkdirSync(site)
        Fs.writeFileSync(
          Path.join(site, "index.php"),
          "<?php echo \"page \", $_SERVER[\"REQUEST_URI\"], \" \", posix_getppid();"
        )
        Fs.writeFileSync(Path.join(site, "style.css"), "body {}\n")
        const args = ["gateway", "--php", site, "--port", "0", "--front-controller", "/index.php"]
        const gateway = yield* start(args, { env: { TMPDIR: directory } })
        const url = yield* urlOf(gateway)
        const page = yield* ask(`${url}any/where?a=b`)
        const [, uri, pid] = /^page (\S+) (\d+)$/.exec(page.text)!
        assert.strictEqual(uri, "/any/where?a=b")
        assert.include(yield* ask(`${url}style.css`), { type: "text/css; charset=utf-8", text: "body {}\n" })
        gateway.child.kill("SIGINT")
        assert.deepInclude(yield* gateway.ended, { code: 0, signal: null })
        assert.isFalse(Fs.existsSync(`/proc/${pid}`))
        assert.deepStrictEqual(Fs.readdirSync(directory).filter((name) => name.startsWith("effect-fastcgi-")), [])
      })), 30_000)
  })
})

describe("effect-fastcgi serve", () => {
  const routes = (word: string) =>
    `import * as HttpRouter from "effect/http/HttpRouter"
import * as HttpServerResponse from "effect/http/HttpServerResponse"
export default HttpRouter.add("GET", "/", HttpServerResponse.text("${word}"))
`
  const folder = Effect.map(temporaryDirectory, (directory) => {
    Fs.symlinkSync(Path.join(projectRoot, "node_modules"), Path.join(directory, "node_modules"))
    Fs.writeFileSync(Path.join(directory, "package.json"), "{ \"type\": \"module\" }")
    return directory
  })

  it.live(
    "runs the new code when it changes, loses no request, and keeps the old where the new does not start",
    () =>
      Effect.scoped(Effect.gen(function*() {
        const directory = yield* folder
        const socket = Path.join(directory, "app.sock")
        const module = Path.join(directory, "app.js")
        Fs.writeFileSync(module, routes("one"))
        const serving = yield* start(["serve", module, "--listen", socket, "--mode", "600", "--watch"])
        yield* serving.says(/1 worker serves/)
        assert.strictEqual(Fs.statSync(socket).mode & 0o777, 0o600)
        const load = yield* start(["bench", socket, "/", "--connections", "2", "--seconds", "60s", "--json"])
        const answers = (word: string) =>
          eventually(
            `the answer is ${word}`,
            Effect.flatMap(
              command("request", socket, "/"),
              ({ stdout }) => stdout === word ? Effect.void : Effect.fail(stdout)
            )
          )
        yield* answers("one")
        Fs.writeFileSync(module, routes("two"))
        yield* answers("two")
        Fs.writeFileSync(module, "throw new Error(\"not this one\")")
        yield* serving.says(/not this one[^]*the reload has stopped/)
        yield* answers("two")
        Fs.writeFileSync(module, routes("three"))
        yield* answers("three")
        load.child.kill("SIGINT")
        const figures = JSON.parse((yield* load.ended).stdout) as {
          readonly requests: number
          readonly failures: object
        }
        assert.deepStrictEqual(figures.failures, {})
        assert.isAbove(figures.requests, 50)
        serving.child.kill("SIGINT")
        assert.deepInclude(yield* serving.ended, { code: 0, signal: null })
        assert.isFalse(Fs.existsSync(socket))
      })),
    60_000
  )

  it.live("waits for a change where nothing starts", () =>
    Effect.scoped(Effect.gen(function*() {
      const directory = yield* folder
      const socket = Path.join(directory, "app.sock")
      const module = Path.join(directory, "app.js")
      Fs.writeFileSync(module, "export default 42")
      const serving = yield* start(["serve", module, "--listen", socket, "--watch"])
      yield* serving.says(/exports nothing by default that can be served[^]*Waiting for a change/)
      Fs.writeFileSync(module, routes("mended"))
      yield* serving.says(/1 worker serves/)
      assert.strictEqual((yield* command("request", socket, "/")).stdout, "mended")
    })), 60_000)

  describeWith(["unshare"], "with --watch, at the system's limit of watched folders", (unshare) => {
    // The limit of a user namespace counts for it alone.
    const limited = (folders: number) =>
      [
        unshare!,
        "--user",
        "--map-root-user",
        "sh",
        "-c",
        `echo ${folders} >/proc/sys/user/max_inotify_watches && exec "$@"`,
        "sh"
      ] as const
    const [probe, ...args] = limited(1)
    const available = ChildProcess.spawnSync(probe, [...args, "true"]).status === 0
    if (!available) console.log("skipped: serve --watch at a limit: needs user namespaces")

    it.live.skipIf(!available)(
      "says what is not watched, and watches the rest",
      () =>
        Effect.scoped(Effect.gen(function*() {
          const directory = yield* folder
          for (const name of ["a", "b", "c"]) Fs.mkdirSync(Path.join(directory, name))
          const module = Path.join(directory, "app.js")
          Fs.writeFileSync(module, routes("one"))
          const socket = Path.join(directory, "app.sock")
          const serving = yield* start(["serve", module, "--listen", socket, "--watch"], { through: limited(2) })
          yield* serving.says(
            /[abc] is not watched, and perhaps others[^]*sysctl fs\.inotify\.max_user_watches=\d+ raises it/
          )
          assert.strictEqual(serving.stderr().match(/is not watched/g)?.length, 1)
          yield* serving.says(/1 worker serves/)
          Fs.writeFileSync(module, routes("two"))
          yield* serving.says(/app\.js has changed[^]*reloaded/)
          assert.strictEqual((yield* command("request", socket, "/")).stdout, "two")
        }))
    )
  })

  it.live(
    "takes apps of every kind, and says what is wrong with what is none",
    () =>
      Effect.scoped(Effect.gen(function*() {
        const directory = yield* folder
        const apps = {
          fetch: "export default { fetch: (request) => new Response(new URL(request.url).pathname) }",
          node: "export default (request, response) => response.end(request.url)",
          hono:
            "import { Hono } from \"hono\"\nconst app = new Hono()\napp.get(\"*\", (c) => c.text(c.req.path))\nexport default app",
          koa:
            "import Koa from \"koa\"\nconst app = new Koa()\napp.use((c) => { c.body = c.path })\nexport default app",
          fastify:
            "import Fastify from \"fastify\"\nconst app = Fastify()\napp.get(\"*\", async (request) => request.url)\nexport default app",
          effect:
            "import * as Effect from \"effect/Effect\"\nimport { HttpServerRequest } from \"effect/http/HttpServerRequest\"\n" +
            "import * as HttpServerResponse from \"effect/http/HttpServerResponse\"\n" +
            "export default Effect.map(HttpServerRequest, ({ url }) => HttpServerResponse.text(url))"
        }
        // Four of them take long enough: FULL=1 for all.
        const few = ["fetch", "node", "fastify", "effect"]
        yield* Effect.forEach(
          Object.entries(apps).filter(([name]) => process.env["FULL"] === "1" || few.includes(name)),
          Effect.fnUntraced(function*([name, code]) {
            const module = Path.join(directory, `${name}.js`)
            const socket = Path.join(directory, `${name}.sock`)
            Fs.writeFileSync(module, code)
            const serving = yield* start(["serve", module, "--listen", socket])
            yield* serving.says(/1 worker serves/)
            assert.strictEqual((yield* command("request", socket, "/some/path")).stdout, "/some/path", name)
            serving.child.kill("SIGTERM")
            assert.strictEqual((yield* serving.ended).code, 0, name)
          }, Effect.scoped),
          { concurrency: 2 }
        )
        const broken = Path.join(directory, "broken.js")
        Fs.writeFileSync(broken, "throw new Error(\"no good\")")
        const tries = [
          [1, [broken, "--listen", Path.join(directory, "b.sock")], /no good[^]*has ended \(exit 1\) before it served/],
          [2, ["/no/such.js"], /There is no module \/no\/such\.js/],
          [2, [broken, "--listen", "app.sock"], /Did you mean \.\/app\.sock\?/],
          [2, [broken, "--mode", "9"], /--mode takes three octal digits/]
        ] as const
        yield* Effect.forEach(tries, ([code, args, said]) =>
          Effect.map(command("serve", ...args), (ended) => {
            assert.match(ended.stderr, said)
            assert.strictEqual(ended.code, code)
          }), { concurrency: 2 })
      })),
    60_000
  )
})
