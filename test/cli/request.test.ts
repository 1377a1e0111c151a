/**
 * `effect-fastcgi request`, built and started as people start it, against an application of this process and against php-fpm.
 */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Queue from "effect/Queue"
import * as ChildProcess from "node:child_process"
import * as Fs from "node:fs"
import * as Path from "node:path"
import * as PhpFpm from "../client/phpFpm.ts"
import { describeWith } from "../support/requirement.ts"
import * as App from "./support/app.ts"
import { command, program, start } from "./support/command.ts"

interface Echo {
  readonly params: Readonly<Record<string, string>>
  readonly body: string
}

describe("effect-fastcgi request", () => {
  it.live("shows the body on stdout, STDERR on stderr, and the head where it is asked for", () =>
    Effect.scoped(Effect.gen(function*() {
      const { socket } = yield* App.start
      assert.deepStrictEqual(yield* command("request", socket, "/hello"), {
        code: 0,
        signal: null,
        stdout: "hello\n",
        stderr: ""
      })
      const included = yield* command("request", `unix:${socket}`, "/hello", "-i")
      assert.match(included.stdout, /^Status: 200 OK\n(.*\n)*X-From: app\n(.*\n)*\nhello\n$/)
      const both = yield* command("request", socket, "/stderr")
      assert.deepStrictEqual([both.stdout, both.stderr], ["done\n", "something odd\n"])
      const head = yield* command("request", socket, "/hello", "-I")
      assert.match(head.stdout, /^Status: 200 OK\n(.*\n)*\n$/)
      const raw = yield* command("request", socket, "/broken", "--raw")
      assert.deepStrictEqual([raw.code, raw.stdout], [0, "no header block at all\n"])
      const file = Path.join(Path.dirname(socket), "body")
      const saved = yield* command("request", socket, "/hello", "-o", file)
      assert.deepStrictEqual([saved.stdout, Fs.readFileSync(file, "utf8")], ["", "hello\n"])
    })))

  it.live("sends what the command line says", () =>
    Effect.scoped(Effect.gen(function*() {
      const { directory, socket } = yield* App.start
      const echo = (...args: ReadonlyArray<string>) =>
        Effect.map(command("request", socket, ...args), ({ stdout }) => JSON.parse(stdout) as Echo)
      const form = yield* echo(
        "https://example.org:444/echo?a=ü b",
        "-H",
        "X-A: é",
        "-d",
        "a=b",
        "-d",
        "c=d",
        "-p",
        "X=y=z"
      )
      assert.include(form.params, {
        REQUEST_METHOD: "POST",
        REQUEST_URI: "/echo?a=%C3%BC%20b",
        CONTENT_TYPE: "application/x-www-form-urlencoded",
        CONTENT_LENGTH: "7",
        HTTPS: "on",
        HTTP_HOST: "example.org:444",
        HTTP_X_A: "é",
        HTTP_USER_AGENT: "effect-fastcgi",
        X: "y=z"
      })
      assert.strictEqual(form.body, "a=b&c=d")

      const file = Path.join(directory, "data")
      Fs.writeFileSync(file, "from a file")
      const put = yield* echo("/echo", "-X", "PUT", "-H", "Content-Type: text/plain", "-d", `@${file}`)
      assert.include(put.params, { REQUEST_METHOD: "PUT", CONTENT_TYPE: "text/plain", CONTENT_LENGTH: "11" })
      assert.strictEqual(put.body, "from a file")

      const piped = yield* Effect.scoped(Effect.gen(function*() {
        const { child, ended } = yield* start(["request", socket, "/echo", "-d", "@-"], { stdin: "pipe" })
        child.stdin!.end("from a pipe")
        return JSON.parse((yield* ended).stdout) as Echo
      }))
      assert.strictEqual(piped.body, "from a pipe")

      const { body, params } = yield* echo("/echo", "-F", "a=b", "-F", `f=@${file};type=text/x`)
      const boundary = /boundary=(.*)$/.exec(params["CONTENT_TYPE"]!)![1]!
      assert.strictEqual(Number(params["CONTENT_LENGTH"]), body.length)
      assert.strictEqual(
        body,
        `--${boundary}\r\nContent-Disposition: form-data; name="a"\r\n\r\nb\r\n` +
          `--${boundary}\r\nContent-Disposition: form-data; name="f"; filename="data"\r\nContent-Type: text/x\r\n\r\n` +
          `from a file\r\n--${boundary}--\r\n`
      )

      const script = yield* echo("/echo", "--root", "/srv/www", "--script", "a/b.php")
      assert.include(script.params, { SCRIPT_FILENAME: "/srv/www/a/b.php", DOCUMENT_ROOT: "/srv/www" })
    })))

  it.live("shows the records as they come, and times", () =>
    Effect.scoped(Effect.gen(function*() {
      const { socket } = yield* App.start
      const { stderr, stdout } = yield* command("request", socket, "/hello", "-v")
      assert.strictEqual(stdout, "hello\n")
      assert.match(stderr, /^> 00000000 {2}BEGIN_REQUEST .* Responder, close the connection$/m)
      assert.match(stderr, /^> +REQUEST_URI +\/hello$/m)
      assert.match(stderr, /^< [0-9a-f]{8} {2}STDOUT/m)
      assert.match(stderr, /^< +\| hello$/m)
      assert.match(stderr, /^< .*END_REQUEST .* appStatus 0, REQUEST_COMPLETE$/m)
      assert.match(stderr, /^\* unix:.*: 200 OK, 6 B of body, appStatus 0: connected after .* ms/m)
      const { answer } = { answer: JSON.parse((yield* command("request", socket, "/hello", "--json")).stdout) }
      assert.deepInclude(answer, { status: 200, body: "hello\n", bodySize: 6, stderr: "", appStatus: 0 })
    })))

  it.live("exits with a code that a health check can use", () =>
    Effect.scoped(Effect.gen(function*() {
      const { socket } = yield* App.start
      const tries = [
        [0, [socket, "/status/404"], /^$/],
        [1, [socket, "/status/404", "--fail"], /answered with 404 Not Found \(--fail\)/],
        [0, [socket, "/failed"], /^$/],
        [1, [socket, "/failed", "--fail"], /ended the request with appStatus 3/],
        [0, [socket, "/", "--role", "authorizer", "-p", "REMOTE_USER=me", "--fail"], /^$/],
        [1, [socket, "/", "--role", "authorizer", "--fail"], /answered with 403/],
        [2, ["app.sock"], /Did you mean \.\/app\.sock\?/],
        [2, [socket, "hello"], /Did you mean \/hello\?/],
        [2, [socket, "/", "-H", "nonsense"], /"nonsense" is no header/],
        [2, [socket, "/", "-d", "@/no/such/file"], /Cannot read \/no\/such\/file: there is no such file\./],
        [2, [socket, "/", "-F", "f=@/no/such/file"], /Cannot read \/no\/such\/file: there is no such file\./],
        [2, [socket, "/", "-o", "/no/such/file"], /Cannot write \/no\/such\/file: there is no such directory\./],
        [2, [socket, "/", "-d", "a", "-F", "a=b"], /--data and --form exclude each other/],
        [2, [socket, "/", "--timeout", "soon"], /--timeout takes a time such as 5/],
        [2, [socket, "/", "--verbos"], /Did you mean this\?\s+--verbose/],
        [2, [], /Missing required argument: address/],
        [3, ["/no/such.sock"], /there is no such socket/],
        [4, [socket, "/never", "--timeout", "100ms"], /was not complete within/],
        [5, [socket, "/broken"], /is no CGI response/],
        [5, [socket, "/short"], /ended after 12 of 100 bytes|The answer/],
        [5, [socket, "/", "--role", "filter"], /does not know the role/]
      ] as const
      yield* Effect.forEach(tries, ([code, args, said]) =>
        Effect.map(command("request", ...args), (ended) => {
          assert.strictEqual(ended.code, code, `${args.join(" ")}: ${ended.stderr}`)
          assert.match(ended.stderr, said)
          // A sentence, and not all of the help.
          assert.isBelow(ended.stderr.split("\n").length, 8, ended.stderr)
        }), { concurrency: 4 })
    })), 30_000)

  it.live("gives the request up at ctrl-C, and ends quietly where nobody reads on", () =>
    Effect.scoped(Effect.gen(function*() {
      const { aborted, socket } = yield* App.start
      const waiting = yield* start(["request", socket, "/never", "-v"])
      yield* waiting.says(/STDIN .* end/)
      waiting.child.kill("SIGINT")
      assert.deepInclude(yield* waiting.ended, { code: 130, signal: null })
      assert.strictEqual(yield* Queue.take(aborted), "/never")

      const reader = yield* start(["request", socket, "/endless"])
      yield* reader.says(/line/)
      reader.child.stdout!.destroy()
      assert.deepInclude(yield* reader.ended, { code: 0, signal: null, stderr: "" })
      assert.strictEqual(yield* Queue.take(aborted), "/endless")
    })))

  it.live("goes on where nobody reads its messages", () =>
    Effect.scoped(Effect.gen(function*() {
      const { socket } = yield* App.start
      const shown = yield* start(["request", socket, "/hello", "-v"])
      shown.child.stderr!.destroy()
      assert.deepInclude(yield* shown.ended, { code: 0, signal: null, stdout: "hello\n" })

      const failed = yield* start(["request", "/no/such.sock"])
      failed.child.stderr!.destroy()
      assert.deepInclude(yield* failed.ended, { code: 3, signal: null, stdout: "" })
    })))

  it.live("starts in a few times what Node takes that does nothing, and shows its help", () =>
    Effect.gen(function*() {
      const { code, stdout } = yield* command("--help")
      assert.strictEqual(code, 0)
      for (const name of ["request", "ping", "values", "status", "dump", "bench", "serve", "conformance"]) {
        assert.match(stdout, new RegExp(`^  ${name} +[A-Z]`, "m"))
      }
      assert.match(stdout, /\n\nEXAMPLES\n/)
      const completions = yield* command("--completions", "bash")
      assert.include(completions.stdout, "request")
      const timed = (args: ReadonlyArray<string>) => {
        const started = performance.now()
        ChildProcess.spawnSync(process.execPath, args)
        return performance.now() - started
      }
      // The least of some, by turns, so that a machine that is busy slows both. Bundled it is 3 times, before it was 15.
      const rounds = [1, 2, 3, 4].map(() => [timed(["-e", "0"]), timed([program(), "--help"])] as const)
      const nothing = Math.min(...rounds.map(([nothing]) => nothing))
      assert.isBelow(Math.min(...rounds.map(([, help]) => help)), 8 * nothing)
    }))

  describeWith(["php-fpm8.2"], "with php-fpm", (phpFpm) => {
    it.live("runs a script, uploads, and says what to do where there is none", () =>
      Effect.gen(function*() {
        const { documentRoot, folder, socket } = yield* PhpFpm.start(phpFpm!)
        const hello = yield* command("request", socket, "/hello.php?name=x", "--root", documentRoot)
        assert.deepStrictEqual([hello.code, hello.stdout], [0, "hello x"])
        const file = Path.join(folder, "upload")
        Fs.writeFileSync(file, "x".repeat(3_000_000))
        const upload = yield* command("request", socket, "/upload.php", "--root", documentRoot, "-F", `f=@${file}`)
        assert.deepInclude(JSON.parse(upload.stdout).files.f, { name: "upload", size: 3_000_000 })
        const none = yield* command("request", socket, "/none.php", "--root", documentRoot)
        assert.match(
          none.stderr,
          /^Primary script unknown\neffect-fastcgi: php-fpm runs the file that SCRIPT_FILENAME names/
        )
      }))
  })
})
