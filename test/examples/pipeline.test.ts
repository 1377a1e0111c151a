/**
 * The examples of the chain: each is started as a user starts it, on the sources, and a client talks to it.
 */
import { assert, describe, it } from "@effect/vitest"
import {
  FastCgiConnection,
  FastCgiEncoder,
  FastCgiParams,
  FastCgiRecord as R,
  FastCgiResponse,
  FastCgiServer,
  FastCgiTransport
} from "effect-fastcgi"
import { FastCgiClient } from "effect-fastcgi/client"
import { NodeFastCgiConnector, NodeFastCgiListener, NodeFastCgiTransport } from "effect-fastcgi/node"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Socket from "effect/socket/Socket"
import * as Stream from "effect/Stream"
import * as ChildProcess from "node:child_process"
import { once } from "node:events"
import * as Fs from "node:fs"
import * as Path from "node:path"
import { Duplex } from "node:stream"
import { fileURLToPath } from "node:url"
import { projectRoot } from "../support/files.ts"
import * as WebServers from "../support/webServers.ts"
import { within } from "../support/within.ts"

const encoder = new TextEncoder()

const readAll = <E>(stream: Stream.Stream<Uint8Array, E>) => Stream.mkString(Stream.decodeText(stream))

const commandLine = (example: string, args: ReadonlyArray<string>) => [
  "--import",
  fileURLToPath(new URL("./support/onSources.ts", import.meta.url)),
  Path.join(projectRoot, `examples/pipeline/${example}/main.ts`),
  ...args
]

/** Runs one that ends by itself. */
const run = (example: string, ...args: ReadonlyArray<string>) =>
  Effect.promise(async () => {
    const child = ChildProcess.spawn(process.execPath, commandLine(example, args), {
      stdio: ["ignore", "pipe", "pipe"]
    })
    const output: Array<Buffer> = []
    const errors: Array<Buffer> = []
    child.stdout.on("data", (bytes: Buffer) => output.push(bytes))
    child.stderr.on("data", (bytes: Buffer) => errors.push(bytes))
    const [code] = await once(child, "close")
    assert.strictEqual(code, 0, Buffer.concat(errors).toString())
    return Buffer.concat(output).toString()
  })

/** Starts one that listens, and ends it with the scope. */
const start = (example: string, args: ReadonlyArray<string>, ready: Effect.Effect<unknown, unknown>) =>
  WebServers.start({ name: example, command: process.execPath, args: commandLine(example, args), ready })

const connectTo = (path: string, maxRequests = 1) =>
  FastCgiClient.make({ connect: NodeFastCgiConnector.connect({ path }), maxRequests })

const page = (client: FastCgiClient.FastCgiClient, path: string) =>
  Effect.scoped(Effect.flatMap(
    client.request({ params: [["REQUEST_METHOD", "GET"], ["REQUEST_URI", path]] }),
    ({ stdout }) => readAll(stdout)
  ))

const connects = (path: string) => Effect.scoped(NodeFastCgiConnector.connect({ path }))

const body = "x".repeat(300_000)

/** An app of all three roles that says what it was told. */
const app: FastCgiServer.Handlers<unknown, never, unknown, never, unknown, never> = {
  responder: (request) =>
    Effect.map(readAll(request.stdin), (stdin) =>
      FastCgiResponse.raw({
        stdout: Stream.make(encoder.encode(`A: 1\r\nA: 2\r\n\r\n${request.params.get("NAME")} ${stdin}`)),
        stderr: Stream.make(encoder.encode("a line for the log")),
        end: Effect.succeed({ appStatus: 3 })
      })),
  authorizer: (request) => Effect.succeed(FastCgiResponse.allow({ NAME: request.params.get("NAME") ?? "" })),
  filter: (request) =>
    Effect.map(
      Effect.all([readAll(request.stdin), readAll(request.data)]),
      (inputs) => FastCgiResponse.make(inputs.join("|"))
    )
}

/** Asks in all three roles, beside each other. */
const askAll = (client: FastCgiClient.FastCgiClient) =>
  Effect.gen(function*() {
    const responder = yield* client.request({ params: [["NAME", "it"]], stdin: encoder.encode(body) })
    const authorizer = yield* client.request({ role: R.Role.Authorizer, params: [["NAME", "me"]] })
    const filter = yield* client.request({
      role: R.Role.Filter,
      params: [["FCGI_DATA_LENGTH", "4"]],
      stdin: encoder.encode("stdin"),
      data: encoder.encode("data")
    })
    const [stdout, stderr] = yield* Effect.all([readAll(responder.stdout), readAll(responder.stderr)], {
      concurrency: "unbounded"
    })
    assert.strictEqual(stdout, `A: 1\r\nA: 2\r\n\r\nit ${body}`)
    assert.strictEqual(stderr, "a line for the log")
    assert.deepStrictEqual(yield* responder.end, { appStatus: 3, protocolStatus: 0 })
    assert.include(yield* readAll(authorizer.stdout), "Variable-NAME: me")
    assert.include(yield* readAll(filter.stdout), "stdin|data")
  })

const startApp = (path: string) =>
  Layer.build(FastCgiServer.serve(app).pipe(Layer.provide(NodeFastCgiListener.layerUnix({ path }))))

describe("examples/pipeline", () => {
  it.live("chain: answers many requests of a connection", () =>
    Effect.gen(function*() {
      const path = Path.join(yield* WebServers.temporaryDirectory, "app.sock")
      const { stop } = yield* start("chain", [path], connects(path))
      const client = yield* connectTo(path, 8)
      const pages = yield* Effect.forEach(["/a", "/b", "/c"], (path) => page(client, path), {
        concurrency: "unbounded"
      })
      pages.forEach((text, i) => assert.include(text, `Hello from /${"abc"[i]}\n`))
      const { end } = yield* client.request({ role: R.Role.Filter, params: [] })
      assert.strictEqual((yield* Effect.flip(end)).reason._tag, "UnknownRole")
      assert.strictEqual((yield* stop("SIGTERM")).code, 0)
      yield* client.closed
    }).pipe(Effect.scoped))

  it("chain: is written out in less than 40 lines", () => {
    const file = Path.join(projectRoot, "examples/pipeline/chain/main.ts")
    assert.isBelow(Fs.readFileSync(file, "utf8").split("\n").length, 40)
  })

  it.live("websocket: a client of ours, and its own", () =>
    Effect.gen(function*() {
      const port = yield* WebServers.freePort
      const open = Effect.flatMap(
        Socket.makeWebSocket(`ws://127.0.0.1:${port}`),
        (socket) =>
          FastCgiClient.make({ connect: FastCgiTransport.fromChannel(Socket.toChannel(socket)), maxRequests: 4 })
      )
      yield* start(
        "websocket",
        ["serve", String(port)],
        Effect.scoped(Effect.flatMap(open, (client) => page(client, "/ready"))).pipe(
          Effect.provide(Socket.layerWebSocketConstructorGlobal)
        )
      )
      const client = yield* open
      const pages = yield* Effect.forEach(["/a", "/b", "/c"], (path) => page(client, path), {
        concurrency: "unbounded"
      })
      pages.forEach((text, i) => assert.include(text, `/${"abc"[i]} came over a WebSocket\n`))
      assert.include(yield* run("websocket", "get", String(port), "/d"), "/d came over a WebSocket\n")
    }).pipe(Effect.scoped, Effect.provide(Socket.layerWebSocketConstructorGlobal)))

  it.live("stdio: as the child of ours, and of its own", () =>
    Effect.gen(function*() {
      assert.include(yield* run("stdio", "get", "/a"), "/a came over a pipe\n")
      const child = ChildProcess.spawn(process.execPath, commandLine("stdio", ["serve"]), {
        stdio: ["pipe", "pipe", "inherit"]
      })
      const exited = once(child, "exit")
      yield* Effect.scoped(Effect.gen(function*() {
        const client = yield* FastCgiClient.make({
          connect: Effect.sync(() =>
            NodeFastCgiTransport.fromDuplex(Duplex.from({ readable: child.stdout, writable: child.stdin }))
          ),
          maxRequests: 4
        })
        const pages = yield* Effect.forEach(["/b", "/c"], (path) => page(client, path), { concurrency: "unbounded" })
        pages.forEach((text, i) => assert.include(text, `/${"bc"[i]} came over a pipe\n`))
      }))
      // The pipe is closed, and the child ends by itself.
      assert.deepStrictEqual(yield* Effect.promise(() => exited), [0, null])
    }).pipe(Effect.scoped))

  it.live("stdio: reads the rest of a body that nobody reads, when it has answered and closed its end", () =>
    Effect.gen(function*() {
      const child = ChildProcess.spawn(process.execPath, commandLine("stdio", ["serve"]), {
        stdio: ["pipe", "pipe", "inherit"]
      })
      yield* Effect.addFinalizer(() => Effect.sync(() => child.kill("SIGKILL")))
      const exited = once(child, "exit")
      // The write tells.
      child.stdin.on("error", () => {})
      const records = [
        R.beginRequest(1, R.Role.Responder),
        R.params(1, FastCgiParams.encodePairs([["REQUEST_URI", "/unread"], ["CONTENT_LENGTH", "1000000"]])),
        R.params(1),
        ...Array.from({ length: 20 }, () => R.stdin(1, new Uint8Array(50_000))),
        R.stdin(1)
      ]
      const written = Effect.callback<void, Error>((resume) => {
        child.stdin.write(Buffer.concat(records.map((record) => FastCgiEncoder.encode(record))), (error) => {
          resume(error ? Effect.fail(error) : Effect.void)
        })
      })
      const answer = Effect.promise(() => child.stdout.toArray())
      const [chunks] = yield* Effect.all([answer, written], { concurrency: "unbounded" })
      const text = Buffer.concat(chunks as Array<Buffer>).toString("latin1")
      assert.include(text, "/unread came over a pipe\n")
      // END_REQUEST is whole.
      assert.strictEqual(text.at(-15), "\x03")
      child.stdin.end()
      assert.deepStrictEqual(yield* Effect.promise(() => exited), [0, null])
    }).pipe(Effect.scoped, within("the answer and the end of the child", 30)))

  it.live("forwarder: loses nothing, in all three roles", () =>
    Effect.gen(function*() {
      const folder = yield* WebServers.temporaryDirectory
      const [front, back] = [Path.join(folder, "front.sock"), Path.join(folder, "app.sock")]
      yield* startApp(back)
      yield* start("forwarder", [front, back], connects(front))
      yield* Effect.flatMap(connectTo(front, 8), askAll)
    }).pipe(Effect.scoped))

  it.live("recorder: passes everything on, and keeps what can be served again", () =>
    Effect.gen(function*() {
      const folder = yield* WebServers.temporaryDirectory
      const [front, back] = [Path.join(folder, "front.sock"), Path.join(folder, "app.sock")]
      const captures = Path.join(folder, "captures")
      yield* startApp(back)
      const { stop } = yield* start("recorder", [front, back, captures], connects(front))
      yield* Effect.scoped(Effect.flatMap(connectTo(front, 8), askAll))
      assert.strictEqual((yield* stop("SIGTERM")).code, 0)
      // The connections that only asked whether it listens have left empty files.
      const names = Fs.readdirSync(captures).filter((name) => Fs.statSync(Path.join(captures, name)).size > 0).sort()
      assert.strictEqual(names.length, 2, names.join())
      const [received, sent] = names.map((name) => Path.join(captures, name))
      assert.match(received!, /\.received$/)
      assert.match(yield* run("recorder", "show", received!), /^request 1 type 1 content 8 padding 0\n/)
      assert.match(yield* run("recorder", "show", sent!), /^request \d type 3 content 8 padding 0\n/m)
      // The capture is the web server's side of a connection: it gets its answers a second time.
      const again = yield* Stream.make(new Uint8Array(Fs.readFileSync(received!))).pipe(
        Stream.pipeThroughChannel(FastCgiConnection.channel(app)),
        Stream.decodeText,
        Stream.mkString
      )
      assert.include(again, "A: 1\r\nA: 2\r\n\r\nit xxx")
      assert.include(again, "Variable-NAME: me")
      assert.include(again, "stdin|data")
    }).pipe(Effect.scoped))
})
