/**
 * `effect-fastcgi dump`, `record` and `replay`, built and started as people start them.
 */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fs from "node:fs"
import * as Path from "node:path"
import { projectRoot } from "../support/files.ts"
import * as App from "./support/app.ts"
import { command, start } from "./support/command.ts"

const vectors = Path.join(projectRoot, "test/vectors")

describe("effect-fastcgi dump", () => {
  it.live("shows the bytes of a web server as records, and tells what is none", () =>
    Effect.gen(function*() {
      const shown = yield* command("dump", Path.join(vectors, "nginx-post-small.bin"))
      assert.strictEqual(shown.code, 0)
      assert.match(shown.stdout, /^00000000 {2}BEGIN_REQUEST +id 1 +8 {2}Responder, close the connection\n/)
      assert.match(shown.stdout, /^ {10}REQUEST_URI +\/app\/post\?v=ok$/m)
      assert.match(shown.stdout, /^ {10}\| name=value&x=%20y$/m)
      const json = yield* command("dump", Path.join(vectors, "nginx-post-small.bin"), "--json")
      const records = json.stdout.trimEnd().split("\n").map((line) => JSON.parse(line) as { readonly type: string })
      assert.deepStrictEqual(records.map(({ type }) => type), ["BEGIN_REQUEST", "PARAMS", "PARAMS", "STDIN", "STDIN"])
      const none = yield* command("dump", Path.join(projectRoot, "README.md"))
      assert.strictEqual(none.code, 5)
      assert.match(none.stdout, /! not FastCGI\/1\.0: version 35/)
      assert.strictEqual((yield* command("dump", "/no/such/file")).code, 2)
    }))

  it.live("follows a file that grows, and standard input", () =>
    Effect.scoped(Effect.gen(function*() {
      const { directory } = yield* App.start
      const bytes = Fs.readFileSync(Path.join(vectors, "nginx-post-small.bin"))
      const file = Path.join(directory, "growing.bin")
      Fs.writeFileSync(file, bytes.subarray(0, 100))
      const following = yield* start(["dump", "--follow", file])
      yield* following.says(/BEGIN_REQUEST/)
      Fs.appendFileSync(file, bytes.subarray(100))
      yield* following.says(/STDIN .* end/)
      following.child.kill("SIGINT")
      assert.strictEqual((yield* following.ended).code, 130)

      const piped = yield* start(["dump", "-", "--content", "none"], { stdin: "pipe" })
      piped.child.stdin!.write(bytes.subarray(0, 16))
      yield* piped.says(/BEGIN_REQUEST/)
      piped.child.stdin!.end(bytes.subarray(16))
      assert.match((yield* piped.ended).stdout, /STDIN .* end\n$/)
    })))
})

describe("effect-fastcgi record and replay", () => {
  it.live(
    "keep every byte of many connections, and compare the answers of another day",
    () =>
      Effect.scoped(Effect.gen(function*() {
        const { directory, socket } = yield* App.start
        const front = Path.join(directory, "front.sock")
        const file = Path.join(directory, "capture.pcap")
        const recording = yield* start(["record", "--listen", front, "--to", socket, file])
        yield* recording.says(/Ctrl-C ends it/)
        const body = Path.join(directory, "body")
        Fs.writeFileSync(body, "x".repeat(300_000))
        const [hello, echo] = yield* Effect.all([
          command("request", front, "/hello"),
          command("request", front, "/echo", "-d", `@${body}`),
          command("request", front, "/never", "--timeout", "100ms")
        ], { concurrency: 3 })
        assert.strictEqual(hello.stdout, "hello\n")
        assert.strictEqual((JSON.parse(echo.stdout) as { readonly body: string }).body.length, 300_000)
        recording.child.kill("SIGTERM")
        const recorded = yield* recording.ended
        // Whoever stops a server that it has started is told so.
        assert.deepInclude(recorded, { code: 0, signal: null })
        assert.match(recorded.stderr, /^3 connections, \d+ KiB\.$/m)
        assert.isFalse(Fs.existsSync(front))

        const dumped = yield* command("dump", file, "--json", "--content", "all")
        assert.strictEqual(dumped.code, 0)
        const events = dumped.stdout.trimEnd().split("\n").map((line) =>
          JSON.parse(line) as {
            readonly connection: number
            readonly event?: string
            readonly from?: string
            readonly text?: string
            readonly type?: string
            readonly pairs?: ReadonlyArray<readonly [string, string]>
          }
        )
        assert.deepStrictEqual(new Set(events.map(({ connection }) => connection)), new Set([1, 2, 3]))
        const of = (uri: string) =>
          events.find(({ pairs }) => pairs?.some(([name, value]) => name === "REQUEST_URI" && value === uri))!
            .connection
        const sent = events.filter((event) => event.connection === of("/echo") && event.type === "STDIN")
        assert.strictEqual(sent.map(({ text = "" }) => text).join(""), "x".repeat(300_000))

        const same = yield* command("replay", file, socket, "--timeout", "20s")
        assert.strictEqual(same.code, 0, same.stdout)
        assert.match(same.stdout, /^#\d GET \/hello: the same: 200 OK, 6 B$/m)
        assert.match(same.stdout, /^#\d POST \/echo: the same: 200 OK, 293 KiB$/m)
        assert.match(same.stdout, /^#\d GET \/never: was given up$/m)

        const bare = Fs.readFileSync(file).toString("latin1").replaceAll("/hello", "/other")
        const changed = Path.join(directory, "changed.pcap")
        Fs.writeFileSync(changed, bare, "latin1")
        const differs = yield* command("replay", changed, socket, "--connection", String(of("/hello")))
        assert.strictEqual(differs.code, 1)
        assert.match(
          differs.stdout,
          /^#\d GET \/other: differs: 404 Not Found, 13 B\n {5}status: "404 Not Found", recorded "200 OK"$/m
        )
        assert.match(differs.stdout, /^ {5}body: 13 bytes, recorded 6, the first difference at byte 0$/m)
      })),
    30_000
  )

  it.live(
    "show what is said while it is said, and send what a web server sent elsewhere",
    () =>
      Effect.scoped(Effect.gen(function*() {
        const { directory, socket } = yield* App.start
        const front = Path.join(directory, "front.sock")
        const showing = yield* start(["record", "--listen", front, "--to", socket])
        yield* showing.says(/Ctrl-C ends it/)
        const replayed = yield* command("replay", Path.join(vectors, "nginx-keep-two.bin"), front)
        assert.strictEqual(replayed.code, 0, replayed.stdout)
        assert.match(replayed.stdout, /^(#1 GET .*: answered: 404 Not Found, 13 B\n){2}$/)
        // The second request waits for the first answer.
        yield* showing.says(/END_REQUEST[^]*#1 > .* BEGIN_REQUEST[^]*END_REQUEST/)
        showing.child.kill("SIGINT")
        assert.strictEqual((yield* showing.ended).code, 0)

        const full = yield* command("record", "--listen", `${front}.2`, "--to", socket, "/dev/full")
        assert.strictEqual(full.code, 2)
        assert.match(full.stderr, /^effect-fastcgi: Cannot write \/dev\/full: ENOSPC/m)

        const nobody = yield* start(["record", "--listen", front, "--to", "/no/such.sock"])
        yield* nobody.says(/Ctrl-C ends it/)
        assert.strictEqual((yield* command("ping", front)).code, 5)
        yield* nobody.says(/Cannot connect to \/no\/such\.sock/)
      })),
    30_000
  )
})
