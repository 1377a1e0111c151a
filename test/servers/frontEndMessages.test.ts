/**
 * The messages that docs/haproxy.md, docs/caddy.md and docs/h2o.md explain are those that these servers really write: each is
 * provoked, and has to be in their log and on the page.
 */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fs from "node:fs"
import * as Net from "node:net"
import * as Path from "node:path"
import { projectRoot } from "../support/files.ts"
import { describeWith } from "../support/requirement.ts"
import * as WebServers from "../support/webServers.ts"
import * as Application from "./support/application.ts"
import * as Caddy from "./support/caddy.ts"
import { pieces } from "./support/content.ts"
import * as H2o from "./support/h2o.ts"
import * as HAProxy from "./support/haproxy.ts"
import { request, type RequestOptions } from "./support/http.ts"

const page = (name: string) => Fs.readFileSync(Path.join(projectRoot, "docs", name), "utf8")

/** Takes connections and closes each when something has been sent. */
const closing = (path: string) =>
  Effect.acquireRelease(
    Effect.callback<Net.Server>((resume) => {
      const server = Net.createServer((socket) => {
        socket.on("error", () => {})
        socket.on("data", () => socket.destroy())
      })
      server.listen(path, () => resume(Effect.succeed(server)))
    }),
    (server) => Effect.sync(() => server.close())
  )

/** A socket that nobody listens on any more, as a program leaves it that has been killed. */
const leftOver = (path: string) =>
  Effect.callback<void>((resume) => {
    const server = Net.createServer()
    server.listen(path, () => {
      Fs.renameSync(path, `${path}.kept`)
      server.close(() => {
        Fs.renameSync(`${path}.kept`, path)
        resume(Effect.void)
      })
    })
  })

interface Options {
  readonly target?: string
  readonly request?: RequestOptions
  /** Instead of an application. */
  readonly prepare?: (socket: string) => Effect.Effect<unknown, unknown, never>
}

const nothing = { prepare: () => Effect.void }

/** Starts an application, or what stands in for it, and gives the places. */
const behind = (options: Options) =>
  Effect.gen(function*() {
    const folder = yield* WebServers.temporaryDirectory
    const socket = Path.join(folder, "app.sock")
    if (options.prepare === undefined) {
      yield* Application.start(Path.join(folder, "control.sock"), "--path", socket)
    } else {
      yield* options.prepare(socket)
    }
    return { folder, socket, port: yield* WebServers.freePort, appPort: 1, suffix: "" }
  })

const outcome = (port: number, options: Options) =>
  Effect.map(
    Effect.exit(request(port, options.target ?? "/hello", options.request)),
    (response) => Exit.isSuccess(response) ? response.value.status : "cut off"
  )

describeWith(["haproxy"], "docs/haproxy.md", (haproxy) => {
  /** What HAProxy logs of a request, and the status that the client sees. */
  const logs = (message: string, status: number | "cut off", options: Options & { readonly timeout?: string } = {}) =>
    Effect.gen(function*() {
      const places = yield* behind(options)
      const sections = HAProxy.sections("UNIX", "keep-conn")(places)
        .replace("http-reuse always", `http-reuse always\n  timeout server ${options.timeout ?? "50s"}`)
      const server = yield* HAProxy.start(haproxy!, places.folder, [sections], [places.port])
      assert.strictEqual(yield* outcome(places.port, options), status)
      const [code, state] = message.split(" ... ")
      yield* server.says(new RegExp(`/\\d+ ${code} \\d+ - - ${state}`))
      assert.include(page("haproxy.md"), `\`${message}\``)
    })

  it.live("no application", () => logs("503 ... SC--", 503, nothing))
  it.live("a head that is too big", () => logs("502 ... PH--", 502, { target: "/headers?size=16000" }))
  it.live("no answer in time", () => logs("504 ... sH--", 504, { target: "/wait?id=never", timeout: "200ms" }))
  it.live("nothing more in time", () => logs("200 ... sD--", "cut off", { target: "/events?id=never", timeout: "2s" }))
  it.live("a response that breaks off", () => logs("200 ... SD--", "cut off", { target: "/broken?id=x&fail" }))
  it.live("a body in chunks that is too big", () =>
    logs("400 ... PH--", 400, { target: "/digest", request: { method: "POST", body: pieces(30_000) } }))
  it.live("a path that can not be decoded", () => logs("500 ... IH--", 500, { target: "/bad%zz" }))
  it.live("a connection that ends", () =>
    Effect.gen(function*() {
      const places = yield* behind(nothing)
      yield* closing(places.socket)
      yield* logs("502 ... SH--", 502, {
        prepare: (socket) => Effect.sync(() => Fs.symlinkSync(places.socket, socket))
      })
    }))
})

describe("Caddy and h2o", () => {
  describeWith(["caddy"], "docs/caddy.md", (caddy) => {
    const says = (message: string, status: number | "cut off", options: Options = {}) =>
      Effect.gen(function*() {
        const places = yield* behind(options)
        const server = yield* Caddy.start(caddy!, places.folder, [Caddy.matrix[0]!.site(places)], [places.port])
        assert.strictEqual(yield* outcome(places.port, options), status)
        yield* server.says(message.replace("/run/app/app.sock", places.socket))
        assert.include(page("caddy.md"), `\`${message}\``)
      })

    it.live("no application", () =>
      says("dial unix /run/app/app.sock: connect: no such file or directory", 502, nothing))
    it.live("a socket that is left over", () =>
      says("dial unix /run/app/app.sock: connect: connection refused", 502, { prepare: leftOver }))
  })

  describeWith(["h2o"], "docs/h2o.md", (h2o) => {
    it.live("no application", () =>
      Effect.gen(function*() {
        const places = yield* behind(nothing)
        const server = yield* H2o.start(h2o!, places.folder, [H2o.matrix[0]!.host(places)], [places.port])
        assert.strictEqual(yield* outcome(places.port, nothing), 503)
        const message = "connection failed:failed to connect to host"
        yield* server.says(message)
        assert.include(page("h2o.md"), `\`${message}\``)
      }))
  })
})
