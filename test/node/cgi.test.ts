/**
 * An app as a plain CGI program: started for one request, with every kind of standard input a web server may pass.
 */
import { assert, describe, it } from "@effect/vitest"
import { NodeFastCgiListener } from "effect-fastcgi/node"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as ChildProcess from "node:child_process"
import * as Fs from "node:fs"
import * as Net from "node:net"
import { programFile } from "../support/programFile.ts"
import { spawned } from "./children.ts"
import { eventually, nextEvent, pattern, temporaryDirectory } from "./sockets.ts"

const fixture = programFile("test/node/fixtures/cgi.ts")

// What the app says when it has closed its layers.
const ended = "closed in good order\n"

interface Options {
  readonly env?: Readonly<Record<string, string>>
  readonly body?: Uint8Array
  /** What standard input is. Default a pipe, when there is a body, and otherwise /dev/null. */
  readonly stdin?: "socket" | "file" | "left open" | "pipe left open"
  readonly args?: ReadonlyArray<string>
}

const environment = (method: string, uri: string, { body, env }: Options) => ({
  PATH: process.env.PATH!,
  GATEWAY_INTERFACE: "CGI/1.1",
  SERVER_PROTOCOL: "HTTP/1.1",
  REQUEST_METHOD: method,
  REQUEST_URI: uri,
  ...(body === undefined ? {} : { CONTENT_LENGTH: String(body.length) }),
  ...env
})

/** Runs the app for one request, as a web server does. */
const cgi = (method: string, uri: string, options: Options = {}) =>
  Effect.gen(function*() {
    const { args = [], body, stdin } = options
    const env = environment(method, uri, options)
    const file = stdin === "file" ? `${yield* temporaryDirectory}/body` : undefined
    if (file !== undefined) Fs.writeFileSync(file, body!)
    const child = yield* Effect.acquireRelease(
      Effect.sync(() =>
        // Node's own pipes are sockets; these are the shell's.
        body !== undefined && (stdin === undefined || stdin === "pipe left open")
          ? ChildProcess.spawn("/bin/sh", ["-c", "cat | \"$0\" \"$@\"", process.execPath, fixture, ...args], { env })
          : ChildProcess.spawn(process.execPath, [fixture, ...args], {
            env,
            stdio: [
              file !== undefined ? Fs.openSync(file, "r") : stdin === undefined ? "ignore" : "pipe",
              "pipe",
              "pipe"
            ]
          })
      ),
      (child) => Effect.sync(() => child.kill("SIGKILL"))
    )
    const closed = nextEvent(child, "close")
    const output = { stdout: [] as Array<Buffer>, stderr: "" }
    child.stdout!.on("data", (chunk: Buffer) => output.stdout.push(chunk))
    child.stderr!.on("data", (chunk: Buffer) => {
      output.stderr += chunk.toString()
    })
    // The app may end before it has read everything.
    child.stdin?.on("error", () => {})
    if (stdin === "left open") child.stdin!.write(body ?? "")
    else if (stdin === "pipe left open") {
      child.stdin!.write(body!)
      yield* eventually(() => output.stderr.includes(ended))
      // For the shell, which waits for both ends of the pipe.
      child.stdin!.end()
    } else child.stdin?.end(body)
    const [code] = yield* closed
    const stdout = Buffer.concat(output.stdout)
    const end = stdout.indexOf("\r\n\r\n")
    return {
      code,
      stderr: output.stderr,
      head: stdout.subarray(0, end).toString("latin1").split("\r\n"),
      body: stdout.subarray(end + 4)
    }
  }).pipe(Effect.scoped)

describe("an app that was started as a CGI program", () => {
  it.live("answers, prints what is no part of the answer on stderr, and ends", () =>
    Effect.gen(function*() {
      const { body, code, head, stderr } = yield* cgi("GET", "/hello", { env: { HTTP_X_NAME: "you" } })
      assert.deepStrictEqual(head, ["Status: 200 OK", "content-type: text/plain", "content-length: 10"])
      assert.strictEqual(body.toString(), "hello you\n")
      assert.strictEqual(code, 0)
      assert.include(stderr, "a line that is no part of the answer\n")
      assert.include(stderr, "logged while answering")
      assert.isTrue(stderr.endsWith(ended), stderr)
    }))

  it.live("answers HEAD without a body", () =>
    Effect.gen(function*() {
      const { body, code, head } = yield* cgi("HEAD", "/hello")
      assert.deepStrictEqual(head, ["Status: 200 OK", "content-type: text/plain", "content-length: 13"])
      assert.strictEqual(body.length, 0)
      assert.strictEqual(code, 0)
    }))

  it.live.each<[NonNullable<Options["stdin"]> | "pipe", number]>([
    ["pipe", 1],
    ["pipe", 3_000_000],
    ["file", 3_000_000],
    ["socket", 3_000_000],
    ["left open", 65_536]
  ])("reads a body from a %s, of %d bytes", ([stdin, size]) =>
    Effect.gen(function*() {
      const body = pattern(size)
      const answer = yield* cgi("POST", "/echo", { body, ...(stdin === "pipe" ? {} : { stdin }) })
      assert.strictEqual(answer.head[0], "Status: 200 OK")
      assert.isTrue(answer.body.equals(body), `${answer.body.length} bytes`)
      assert.strictEqual(answer.code, 0)
    }))

  it.live("reads no more than CONTENT_LENGTH, and nothing without it", () =>
    Effect.gen(function*() {
      const body = Buffer.from("hello, and more")
      const short = yield* cgi("POST", "/echo", { body, env: { CONTENT_LENGTH: "5" }, stdin: "left open" })
      assert.strictEqual(short.body.toString(), "hello")
      const none = yield* cgi("POST", "/echo", { body, env: { CONTENT_LENGTH: "" }, stdin: "left open" })
      assert.strictEqual(none.body.toString(), "")
      const chunked = yield* cgi("POST", "/echo", {
        body,
        env: { CONTENT_LENGTH: "", HTTP_TRANSFER_ENCODING: "chunked" }
      })
      assert.strictEqual(chunked.body.toString(), "hello, and more")
    }))

  it.live("sees that a body has ended too early", () =>
    Effect.gen(function*() {
      const { code, head } = yield* cgi("POST", "/size", {
        body: Buffer.from("hello"),
        env: { CONTENT_LENGTH: "10" }
      })
      assert.strictEqual(head[0], "Status: 400 Bad Request")
      assert.strictEqual(code, 0)
    }))

  it.live("answers before it has read its body, and does not wait for that on a pipe", () =>
    Effect.gen(function*() {
      const { body, code, head } = yield* cgi("POST", "/early", {
        body: Buffer.from("the beginning"),
        env: { CONTENT_LENGTH: "1000000" },
        stdin: "pipe left open"
      })
      assert.strictEqual(head[0], "Status: 413 Content Too Large")
      assert.strictEqual(body.toString(), "too early")
      assert.strictEqual(code, 0)
    }))

  it.live("reads to its end a body on a socket that it has answered already", () =>
    Effect.gen(function*() {
      const body = pattern(3_000_000)
      const child = yield* Effect.acquireRelease(
        Effect.sync(() =>
          ChildProcess.spawn(process.execPath, [fixture], {
            env: environment("POST", "/early", { body }),
            stdio: "pipe"
          })
        ),
        (child) => Effect.sync(() => child.kill("SIGKILL"))
      )
      const exited = nextEvent(child, "exit")
      const errors: Array<Error> = []
      child.stdin.on("error", (error) => errors.push(error))
      let answer = ""
      child.stdout.on("data", (chunk: Buffer) => {
        answer += chunk.toString()
      })
      child.stdin.write(body.subarray(0, 10))
      yield* eventually(() => answer.endsWith("too early"))
      assert.isNull(child.exitCode)
      child.stdin.end(body.subarray(10))
      assert.deepStrictEqual(yield* exited, [0, null])
      assert.deepStrictEqual(errors, [])
    }))

  it.live("writes a long answer to its end before it ends", () =>
    Effect.gen(function*() {
      const { body, code, stderr } = yield* cgi("GET", "/big")
      assert.strictEqual(body.length, 64 * 65_536)
      for (let i = 0; i < 64; i++) assert.isTrue(body.subarray(i * 65_536, (i + 1) * 65_536).every((n) => n === i))
      assert.strictEqual(code, 0)
      assert.include(stderr, ended)
    }))

  it.live("answers 500 for a defect, and exits with 1 when it could not finish its answer", () =>
    Effect.gen(function*() {
      const defect = yield* cgi("GET", "/defect")
      assert.strictEqual(defect.head[0], "Status: 500 Internal Server Error")
      assert.notInclude(defect.body.toString(), "something is wrong")
      const broken = yield* cgi("GET", "/broken")
      assert.strictEqual(broken.body.toString(), "the beginning")
      assert.strictEqual(broken.code, 1)
      assert.include(broken.stderr, ended)
    }))

  it.live("says on stderr what STDERR says, and exits with the appStatus", () =>
    Effect.gen(function*() {
      const { body, code, stderr } = yield* cgi("GET", "/", { args: ["status"] })
      assert.strictEqual(body.toString(), "an answer")
      assert.strictEqual(stderr, "said on STDERR\n")
      assert.strictEqual(code, 42)
    }))

  it.live("takes a header `Proxy` for a header, and not for its own proxy", () =>
    Effect.gen(function*() {
      const { body } = yield* cgi("GET", "/variables", { env: { HTTP_PROXY: "http://192.0.2.66:8080" } })
      assert.deepStrictEqual(JSON.parse(body.toString()), {
        gateway: "CGI/1.1",
        proxyHeader: "http://192.0.2.66:8080"
      })
    }))

  it.live("gets its variables as bytes", () =>
    Effect.gen(function*() {
      // The shell's: Node would pass UTF-8.
      const run = ChildProcess.spawnSync(
        "/bin/sh",
        ["-c", "PATH_INFO=$(printf '/caf\\351'); export PATH_INFO; exec \"$0\" \"$1\"", process.execPath, fixture],
        { env: environment("GET", "/variables", {}), encoding: "utf8" }
      )
      assert.include(run.stdout, "\"pathInfo\":\"/café\"")
    }))

  it.live("answers over a socket that is both its input and its output", () =>
    Effect.gen(function*() {
      // Apache's mod_cgid and servers in the manner of inetd.
      const path = `${yield* temporaryDirectory}/s`
      const server = yield* Effect.acquireRelease(
        Effect.sync(() => new Net.Server({ allowHalfOpen: true })),
        (server) => Effect.sync(() => server.close())
      )
      const listening = nextEvent(server, "listening")
      server.listen(path)
      yield* listening
      const accepted = nextEvent(server, "connection")
      const ours = Net.connect({ path, allowHalfOpen: true })
      const [theirs] = (yield* accepted) as [Net.Socket]
      const child = yield* Effect.acquireRelease(
        Effect.sync(() =>
          ChildProcess.spawn(process.execPath, [fixture], {
            env: environment("POST", "/echo", { env: { CONTENT_LENGTH: "4" } }),
            stdio: [theirs, theirs, "ignore"]
          })
        ),
        (child) => Effect.sync(() => child.kill("SIGKILL"))
      )
      const exited = nextEvent(child, "exit")
      theirs.destroy()
      let received = ""
      ours.on("data", (chunk) => {
        received += chunk
      })
      const end = nextEvent(ours, "end")
      ours.write("ping")
      yield* end
      assert.match(received, /^Status: 200 OK\r\n[\s\S]*\r\n\r\nping$/)
      assert.deepStrictEqual(yield* exited, [0, null])
      ours.destroy()
    }))

  it.live("ends when the web server reads no more", () =>
    Effect.gen(function*() {
      const child = yield* Effect.acquireRelease(
        Effect.sync(() =>
          ChildProcess.spawn(process.execPath, [fixture], {
            env: environment("GET", "/big", {}),
            stdio: ["ignore", "pipe", "pipe"]
          })
        ),
        (child) => Effect.sync(() => child.kill("SIGKILL"))
      )
      let stderr = ""
      child.stderr.on("data", (chunk: Buffer) => {
        stderr += chunk.toString()
      })
      const closed = nextEvent(child, "close")
      const first = nextEvent(child.stdout, "readable")
      yield* first
      child.stdout.destroy()
      assert.deepStrictEqual(yield* closed, [1, null])
      assert.include(stderr, ended)
    }))

  it.live("finishes its answer when it is told to end meanwhile", () =>
    Effect.gen(function*() {
      const child = yield* spawned(() =>
        ChildProcess.spawn(process.execPath, [fixture], {
          env: environment("GET", "/slow", {}),
          stdio: ["ignore", "pipe", "pipe"]
        })
      )
      yield* eventually(() => child.stderr().includes("a handler runs"))
      child.process.kill("SIGTERM")
      const [code] = yield* child.exited
      assert.strictEqual(code, 0)
      assert.match(child.lines().join("\n"), /^Status: 200 OK/)
      assert.include(child.stderr(), ended)
    }))

  it.live("does so by layerCgi as well", () =>
    Effect.gen(function*() {
      const { body, code } = yield* cgi("GET", "/hello", { args: ["layerCgi"] })
      assert.strictEqual(body.toString(), "hello nobody\n")
      assert.strictEqual(code, 0)
    }))

  it.live("does not when that is switched off", () =>
    Effect.gen(function*() {
      const { code, stderr, body } = yield* cgi("GET", "/hello", { args: ["no-cgi"] })
      assert.strictEqual(code, 1)
      assert.include(body.toString() + stderr, "File descriptor 0 is not a listening socket")
    }))
})

describe("layerCgi", () => {
  it.live("says that the process is no CGI program", () =>
    Effect.gen(function*() {
      const error = yield* Effect.flip(Effect.scoped(Layer.build(NodeFastCgiListener.layerCgi())))
      assert.match(error.message, /^This process was not started as a CGI program: GATEWAY_INTERFACE is not set\./)
    }))
})
