/** Scripts that fail in a real php-fpm: typed errors, with PHP's message. */
import * as NodeHttpServer from "@effect/platform-node/NodeHttpServer"
import { assert, it } from "@effect/vitest"
import { FastCgiClientError, FastCgiGateway, FastCgiHttpClient, FastCgiPhp } from "effect-fastcgi/client"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import type * as HttpClient from "effect/http/HttpClient"
import type * as HttpClientError from "effect/http/HttpClientError"
import * as HttpServer from "effect/http/HttpServer"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import { writeFileSync } from "node:fs"
import { createServer } from "node:http"
import { join } from "node:path"
import { describeWith } from "../support/requirement.ts"
import * as PhpFpm from "./phpFpm.ts"
import { target } from "./target.ts"

const scripts: Readonly<Record<string, string>> = {
  "exception.php": `<?php throw new RuntimeException("out of paper");`,
  "late.php": `<?php while (ob_get_level()) ob_end_flush(); echo "half"; flush();
while (isset($_GET["gate"]) && !file_exists($_GET["gate"])) { usleep(1000); clearstatcache(); } throw new Error("out of ink");`,
  "parse.php": `<?php this is no PHP`,
  "memory.php": `<?php str_repeat("x", 300000000);`,
  "limit.php": `<?php set_time_limit(1); while (true) {}`,
  "terminated.php": `<?php sleep(60);`,
  "warning.php": `<?php error_log("PHP Warning: low paper"); echo "fine";`
}

const failed = (client: HttpClient.HttpClient, script: string) =>
  Effect.flatMap(client.post(`http://x.test/${script}`), (response) => response.text).pipe(
    Effect.flip,
    Effect.map((error: HttpClientError.HttpClientError) => {
      const { cause } = error.reason
      assert.instanceOf(cause, FastCgiClientError.FastCgiClientError)
      assert.include(error.message, cause.stderr ?? "")
      return { reason: cause.reason._tag, stderr: cause.stderr }
    })
  )

describeWith(["php-fpm8.2"], "php-fpm, whose scripts fail", (command) => {
  for (const display of ["off", "on"]) {
    it.live(`gives typed errors with PHP's message, display_errors ${display}`, () =>
      Effect.gen(function*() {
        const php = yield* PhpFpm.start(command, {
          pool: () => [`php_admin_flag[display_errors] = ${display}`, "request_terminate_timeout = 1s"]
        })
        for (const [name, text] of Object.entries(scripts)) writeFileSync(join(php.documentRoot, name), text)
        const options = {
          documentRoot: php.documentRoot,
          keepConnection: true,
          catchStderr: FastCgiPhp.fatalErrors
        }
        const client = yield* FastCgiHttpClient.make({ connect: php.connect, ...options })
        for (
          const [script, message] of [
            [
              "exception.php",
              /^PHP message: PHP Fatal error: {2}Uncaught RuntimeException: out of paper in .*\n.*#0 \{main\}/s
            ],
            ["late.php", /^PHP message: PHP Fatal error: {2}Uncaught Error: out of ink in /],
            ["parse.php", /^PHP message: PHP Parse error: {2}syntax error, unexpected identifier "is"/],
            ["memory.php", /^PHP message: PHP Fatal error: {2}Allowed memory size of 268435456 bytes exhausted/]
          ] as const
        ) {
          const { reason, stderr } = yield* failed(client, script)
          assert.strictEqual(reason, "ApplicationError", script)
          assert.match(stderr!, message)
        }
        // The same connections serve on.
        const fine = yield* Effect.flatMap(client.get("http://x.test/warning.php"), (response) => response.text)
        assert.strictEqual(fine, "fine")
        if (display === "on") return
        // The other pool has no request_terminate_timeout.
        const other = yield* FastCgiHttpClient.make({ connect: php.connectRecycled, ...options })
        const impatient = yield* FastCgiHttpClient.make({ connect: php.connect, ...options, headTimeout: "100 millis" })
        const [limit, terminated, timeout] = yield* Effect.all([
          failed(other, "limit.php"),
          failed(client, "terminated.php"),
          failed(impatient, "terminated.php")
        ], { concurrency: "unbounded" })
        assert.strictEqual(limit.reason, "ApplicationError")
        assert.match(limit.stderr!, /^PHP message: PHP Fatal error: {2}Maximum execution time of 1 second exceeded in /)
        // The worker is killed, and PHP says so in its own log only.
        assert.deepStrictEqual(terminated, { reason: "ConnectionLost", stderr: undefined })
        assert.deepStrictEqual(timeout, { reason: "Timeout", stderr: undefined })
      }))
  }

  it.live("answer visitors with 502, and the log with PHP's message", () =>
    Effect.gen(function*() {
      const php = yield* PhpFpm.start(command)
      for (const [name, text] of Object.entries(scripts)) writeFileSync(join(php.documentRoot, name), text)
      const logged: Array<string> = []
      const context = yield* Layer.build(
        HttpServer.serve(
          yield* FastCgiGateway.make({
            connect: php.connect,
            documentRoot: php.documentRoot,
            catchStderr: FastCgiPhp.fatalErrors
          })
        ).pipe(
          Layer.provideMerge(NodeHttpServer.layer(createServer, { host: "127.0.0.1", port: 0 })),
          Layer.provide(Logger.layer([Logger.make(({ message }) => {
            logged.push(String(message))
          })]))
        )
      )
      const { port } = Context.get(context, HttpServer.HttpServer).address as { readonly port: number }
      const { body, status } = yield* target(`http://127.0.0.1:${port}`, "/exception.php")
      assert.strictEqual(status, 502)
      assert.notInclude(body, "paper")
      const line = logged.find((line) => line.startsWith("GET /exception.php: 502: "))
      assert.match(
        line!,
        /the application failed: PHP message: PHP Fatal error: {2}Uncaught RuntimeException: out of paper in [^\n]+$/
      )
      // One that has begun is cut, so that the half is not taken for the whole.
      const gate = join(php.folder, "gate")
      const response = yield* Effect.promise(() =>
        fetch(`http://127.0.0.1:${port}/late.php?gate=${encodeURIComponent(gate)}`)
      )
      assert.strictEqual(response.status, 200)
      writeFileSync(gate, "")
      const cut = yield* Effect.flip(Effect.tryPromise(() => response.text()))
      assert.match(String(cut.cause), /terminated/)
    }))
})
