/**
 * The PHP site of examples/php, with a real php-fpm: a visitor logs in where PHP answers, is known where Effect does, and logs out
 * there. And docs/php.md has the program and its scripts as they are.
 */
import { assert, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fs from "node:fs"
import * as Path from "node:path"
import { fileURLToPath } from "node:url"
import * as PhpFpm from "../client/phpFpm.ts"
import { projectRoot } from "../support/files.ts"
import { describeWith } from "../support/requirement.ts"
import * as WebServers from "../support/webServers.ts"

const file = Path.join(projectRoot, "examples/php/main.ts")

it("docs/php.md has the program as it runs, and its scripts", () => {
  const page = Fs.readFileSync(Path.join(projectRoot, "docs/php.md"), "utf8")
  const program = Fs.readFileSync(file, "utf8")
  assert.include(page, program.slice(program.indexOf("import ")))
  for (const script of ["session.php", "logout.php"]) {
    const text = Fs.readFileSync(Path.join(projectRoot, "examples/php/site/internal", script), "utf8")
    assert.include(page, text.trimEnd().split("\n").map((line) => `   ${line}\n`).join(""), script)
  }
})

describeWith(["php-fpm8.2"], "the PHP example", (command) => {
  it.live("logs in with PHP, knows who it is with Effect, and logs out with Effect", () =>
    Effect.gen(function*() {
      const fpm = yield* PhpFpm.start(command, { systemIni: true })
      const port = yield* WebServers.freePort
      const url = `http://127.0.0.1:${port}`
      const ask = (path: string, init?: RequestInit) =>
        Effect.tryPromise(async () => {
          const response = await fetch(url + path, { redirect: "manual", ...init })
          return { status: response.status, headers: response.headers, text: await response.text() }
        })
      const program = yield* WebServers.start({
        name: "the program",
        command: process.execPath,
        args: [
          "--import",
          fileURLToPath(new URL("./support/onSources.ts", import.meta.url)),
          file,
          fpm.socket,
          String(port)
        ],
        env: {}
      })
      // NodeHttpServer answers no request that comes between its listen and its first handler.
      yield* program.says("Listening on")
      assert.include((yield* ask("/")).text, "Log in")
      assert.strictEqual((yield* ask("/account")).status, 303)
      const login = yield* ask("/login", { method: "POST", body: new URLSearchParams({ name: "Ann <3" }) })
      assert.strictEqual(login.status, 303)
      const cookie = login.headers.getSetCookie().at(-1)!.split(";")[0]!
      assert.include((yield* ask("/", { headers: { cookie } })).text, "<h1>Hello, Ann &lt;3</h1>")
      const account = yield* ask("/account", { headers: { cookie } })
      assert.strictEqual(account.text, "You are Ann <3, says PHP. Effect made this page.\n")
      const logout = yield* ask("/logout", { method: "POST", headers: { cookie } })
      assert.strictEqual(logout.status, 303)
      assert.match(logout.headers.getSetCookie().join(), /^PHPSESSID=[^;]*;.*expires=Thu, 01 Jan 1970/i)
      // Whoever keeps the cookie has no session by it.
      assert.include((yield* ask("/", { headers: { cookie } })).text, "Log in")
      assert.strictEqual((yield* ask("/account", { headers: { cookie } })).status, 303)
      assert.match((yield* ask("/style.css")).headers.get("content-type")!, /^text\/css/)
      for (const path of ["/internal/session.php", "/internal/logout.php", "/internal/", "/.git/config"]) {
        assert.strictEqual((yield* ask(path, { headers: { cookie } })).status, 404, path)
      }
      assert.include((yield* ask("/no/such/page")).text, "Not here")
      // As every program of NodeRuntime.
      assert.deepStrictEqual(yield* program.stop("SIGTERM"), { code: 130, signal: null })
    }))
})
