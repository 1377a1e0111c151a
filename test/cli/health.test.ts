/**
 * `effect-fastcgi ping`, `values` and `status`, built and started as people start them.
 */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as PhpFpm from "../client/phpFpm.ts"
import { describeWith } from "../support/requirement.ts"
import { until } from "../support/webServers.ts"
import * as App from "./support/app.ts"
import { command, start } from "./support/command.ts"

describe("effect-fastcgi ping", () => {
  it.live("tells by its exit code how an application is", () =>
    Effect.scoped(Effect.gen(function*() {
      const { socket } = yield* App.start
      const tries = [
        // Any answer will do.
        [0, [socket], /answers \/ping with 404 Not Found after .* ms: it answers, but has no such page/],
        [0, [socket, "--path", "/hello"], /answers \/hello with "hello" after/],
        [0, [socket, "--path", "/hello", "--response", "hello"], /answers \/hello with "hello" after/],
        [1, [socket, "--path", "/hello", "--response", "pong"], /, not with "pong"/],
        [1, [socket, "--path", "/status/503"], /answers \/status\/503 with 503 .*, not with 200/],
        [3, ["/no/such.sock"], /there is no such socket/],
        [4, [socket, "--path", "/never", "--timeout", "100ms"], /did not answer \/never within 100ms/],
        [5, [socket, "--path", "/broken"], /is no CGI response/]
      ] as const
      yield* Effect.forEach(tries, ([code, args, said]) =>
        Effect.map(command("ping", ...args), (ended) => {
          assert.strictEqual(ended.code, code, `${args.join(" ")}: ${ended.stdout}${ended.stderr}`)
          assert.match(ended.stdout + ended.stderr, said)
        }), { concurrency: 4 })
    })))

  it.live("asks again and again, and sums it up at ctrl-C", () =>
    Effect.scoped(Effect.gen(function*() {
      const { socket } = yield* App.start
      const ping = yield* start(["ping", socket, "--path", "/hello", "--watch=20ms"])
      yield* ping.says(/(^\d\d:\d\d:\d\d {2}unix:.* answers \/hello with "hello" after .*\n){3}/m)
      ping.child.kill("SIGINT")
      const { code, stderr } = yield* ping.ended
      assert.strictEqual(code, 130)
      assert.match(stderr, /^\n(\d+) asked, \1 good, .* \(least, mean, most\)\n$/)
    })))
})

describe("effect-fastcgi values", () => {
  it.live("shows what an application says of itself", () =>
    Effect.scoped(Effect.gen(function*() {
      const { socket } = yield* App.start
      const shown = yield* command("values", socket)
      assert.match(shown.stdout, /^FCGI_MPXS_CONNS {2}1 +several requests on one connection$/m)
      assert.strictEqual(shown.code, 0)
      const json = yield* command("values", socket, "FCGI_MPXS_CONNS", "--json")
      assert.deepStrictEqual(JSON.parse(json.stdout), { FCGI_MPXS_CONNS: "1" })
      assert.strictEqual((yield* command("values", "/no/such.sock")).code, 3)
    })))
})

describe("effect-fastcgi status", () => {
  it.live("shows what an application of this package does, and what is open", () =>
    Effect.scoped(Effect.gen(function*() {
      const { requests, socket } = yield* App.start
      const waiting = yield* start(["request", socket, "/never"])
      yield* until("a request is open", () => requests() === 1)
      const status = (...args: ReadonlyArray<string>) => command("status", socket, "--path", "/own-status", ...args)
      const { code, stdout } = yield* status("--workers")
      assert.strictEqual(code, 0, stdout)
      assert.match(stdout, /^Application {2}tests, 1 worker, up/)
      assert.match(stdout, /^Requests {5}1 open \(0 wait, 1 run, 0 respond\), 1 at most so far$/m)
      assert.match(stdout, /^\d+ +Running +.* ms +GET \/never$/m)
      assert.deepInclude(JSON.parse((yield* status("--json")).stdout), { "pool": "tests", "requests open": 1 })
      assert.match((yield* status("--openmetrics")).stdout, /^fastcgi_requests_open\{pool="tests"\} 1$/m)
      waiting.child.kill("SIGINT")
      yield* waiting.ended
      const none = yield* command("status", socket, "--path", "/hello")
      assert.strictEqual(none.code, 1)
      assert.match(none.stderr, /is no status of php-fpm 8\.2 or later, or of this package/)
      assert.match((yield* command("status", socket)).stderr, /NodeFastCgiStatus\.layer\(\{ path: "\/status" \}\)/)
    })))
})

describeWith(["php-fpm8.2"], "with php-fpm", (phpFpm) => {
  it.live("shows how busy the pool is, and whether it answers", () =>
    Effect.gen(function*() {
      const { socket } = yield* PhpFpm.start(phpFpm!)
      const pong = yield* command("ping", socket, "--response", "pong")
      assert.match(pong.stdout, /answers \/ping with "pong"/)
      const table = yield* command("status", socket, "--workers")
      assert.match(table.stdout, /^Pool {11}www, static, up/m)
      assert.match(table.stdout, /^Workers {8}\d of 4 busy/m)
      assert.match(table.stdout, /^\d+ +Running .* GET \/status\?json&full$/m)
      const json = JSON.parse((yield* command("status", socket, "--json")).stdout)
      assert.deepInclude(json, { pool: "www", "total processes": 4 })
      const metrics = yield* command("status", socket, "--openmetrics")
      assert.match(metrics.stdout, /^phpfpm_total_processes\{pool="www"\} 4$/m)
      assert.match(metrics.stdout, /# EOF\n$/)
      const none = yield* command("status", socket, "--path", "/none")
      assert.strictEqual(none.code, 1)
      assert.match(none.stderr, /php-fpm shows it by pm\.status_path = \/none/)
    }))
})
