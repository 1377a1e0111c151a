/**
 * What a person sees who has set something wrong: one line that says what stands in the way and what to do, and that a page of docs/
 * has. Each feature has its settings in the environment, so each mistake is made there.
 */
import { assert, describe, it } from "@effect/vitest"
import { FastCgiHttpMetrics, FastCgiSlowLog } from "effect-fastcgi"
import { FastCgiGateway } from "effect-fastcgi/client"
import {
  NodeFastCgi,
  NodeFastCgiAccessLog,
  NodeFastCgiConnector,
  NodeFastCgiStatus,
  NodeFastCgiWorkers
} from "effect-fastcgi/node"
import * as ConfigProvider from "effect/ConfigProvider"
import * as Effect from "effect/Effect"
import * as HttpRouter from "effect/http/HttpRouter"
import * as HttpServerResponse from "effect/http/HttpServerResponse"
import * as Layer from "effect/Layer"
import * as Crypto from "node:crypto"
import * as Fs from "node:fs"
import * as Net from "node:net"
import * as Path from "node:path"
import { fileURLToPath } from "node:url"
import { projectRoot } from "../support/files.ts"
import * as Pages from "../support/pages.ts"
import * as WebServers from "../support/webServers.ts"
import { nextEvent } from "./sockets.ts"

type Env = Readonly<Record<string, string>>

interface Places {
  /** A folder with `file`, `folder`, `busy.sock`, on which somebody listens, and `mine`, where nobody else may write. */
  readonly at: (name: string) => string
  readonly tls: (name: string) => string
  /** A port that somebody has. */
  readonly busy: number
  readonly free: number
}

interface Mistake {
  readonly what: string
  /** The page that has the message. */
  readonly page: string
  readonly env: (places: Places) => Env
  /** Made by a user without rights. */
  readonly asNobody?: boolean
}

/** The program of docs/operations.md, as far as settings decide about its start. */
const program = HttpRouter.serve(HttpRouter.add("GET", "/", HttpServerResponse.text("")), {
  disableLogger: true,
  disableListenLog: true
}).pipe(
  Layer.provide(NodeFastCgi.layerConfig(NodeFastCgi.config)),
  Layer.provide([
    NodeFastCgiStatus.layerConfig(),
    NodeFastCgiAccessLog.layerConfig,
    FastCgiSlowLog.layerConfig,
    FastCgiHttpMetrics.layerConfig
  ]),
  Layer.provide(NodeFastCgiStatus.layerProcess)
)

const path = ({ at }: Places): Env => ({ FASTCGI_LISTEN: at("app.sock") })
const port = ({ free }: Places): Env => ({ FASTCGI_LISTEN: String(free) })

/** A setting of a program that listens on a path. */
const set = (what: string, page: string, name: string, value: string, more: Env = {}): Mistake => ({
  what,
  page,
  env: (places) => ({ ...path(places), ...more, [name]: value })
})

/** The same on a port, where the value may be a file of the fixtures or of the folder. */
const onPort = (what: string, page: string, env: (places: Places) => Env): Mistake => ({
  what,
  page,
  env: (places) => ({ ...port(places), ...env(places) })
})

const mistakes: ReadonlyArray<Mistake> = [
  set("an address that is none", "starting", "FASTCGI_LISTEN", "app.sock"),
  set("no such folder", "starting", "FASTCGI_LISTEN", "/no/such/app.sock"),
  { what: "a file in place of a folder", page: "starting", env: ({ at }) => ({ FASTCGI_LISTEN: at("file/app.sock") }) },
  { what: "a file in place of the socket", page: "starting", env: ({ at }) => ({ FASTCGI_LISTEN: at("file") }) },
  { what: "a path that is too long", page: "starting", env: ({ at }) => ({ FASTCGI_LISTEN: at("x".repeat(110)) }) },
  { what: "two processes on one path", page: "starting", env: ({ at }) => ({ FASTCGI_LISTEN: at("busy.sock") }) },
  {
    what: "one path twice",
    page: "starting",
    env: ({ at }) => ({ FASTCGI_LISTEN: `${at("app.sock")}, ${at("app.sock")}` })
  },
  { what: "no permission", page: "starting", env: ({ at }) => ({ FASTCGI_LISTEN: at("mine/a.sock") }), asNobody: true },
  { what: "two processes on one port", page: "starting", env: ({ busy }) => ({ FASTCGI_LISTEN: `127.0.0.1:${busy}` }) },
  set("an address of another host", "starting", "FASTCGI_LISTEN", "192.0.2.1:9000"),
  set("a descriptor that is no socket", "starting", "FASTCGI_LISTEN", "fd:777"),
  set("systemd without a socket", "starting", "FASTCGI_LISTEN", "systemd"),
  set("a mode that is none", "starting", "FASTCGI_SOCKET_MODE", "rw-rw----"),
  set("a user that does not exist", "starting", "FASTCGI_SOCKET_USER", "no-such-user"),
  set("a group that does not exist", "starting", "FASTCGI_SOCKET_GROUP", "no-such-group"),
  set("a number that is none", "operations", "FASTCGI_MAX_REQUESTS", "many"),
  set("a time without a unit", "operations", "FASTCGI_HANDLER_TIMEOUT", "30"),
  set("a size that is none", "operations", "FASTCGI_MAX_BODY_SIZE", "large"),
  set("work after the response, none of it", "operations", "FASTCGI_MAX_AFTER_RESPONSE", "0"),
  set("metrics neither on nor off", "operations", "FASTCGI_HTTP_METRICS", "perhaps"),
  onPort("a name in the access list", "security", () => ({ FASTCGI_ALLOW: "web.example" })),
  onPort("a network with bits of a host", "security", () => ({ FASTCGI_ALLOW: "10.0.0.1/8" })),
  onPort("a name in the list of PROXY headers", "security", () => ({ FASTCGI_PROXY_PROTOCOL: "everybody" })),
  onPort("PROXY headers from everybody", "security", () => ({ FASTCGI_PROXY_PROTOCOL: "yes" })),
  onPort("a certificate without its key", "security", ({ tls }) => ({ FASTCGI_TLS_CERT: tls("listener.crt") })),
  onPort("a certificate that is not there", "security", ({ at, tls }) => ({
    FASTCGI_TLS_CERT: at("none.crt"),
    FASTCGI_TLS_KEY: tls("listener.key")
  })),
  {
    ...onPort("a key that may not be read", "security", ({ at, tls }) => ({
      FASTCGI_TLS_CERT: tls("listener.crt"),
      FASTCGI_TLS_KEY: at("mine/app.key")
    })),
    asNobody: true
  },
  onPort("a certificate that is none", "security", ({ at, tls }) => ({
    FASTCGI_TLS_CERT: at("file"),
    FASTCGI_TLS_KEY: tls("listener.key")
  })),
  onPort("the key of another certificate", "security", ({ tls }) => ({
    FASTCGI_TLS_CERT: tls("listener.crt"),
    FASTCGI_TLS_KEY: tls("client.key")
  })),
  onPort("a key with a passphrase", "security", ({ at, tls }) => ({
    FASTCGI_TLS_CERT: tls("listener.crt"),
    FASTCGI_TLS_KEY: at("locked.key")
  })),
  onPort("authorities that are none", "security", ({ at, tls }) => ({
    FASTCGI_TLS_CERT: tls("listener.crt"),
    FASTCGI_TLS_KEY: tls("listener.key"),
    FASTCGI_TLS_CA: at("file")
  })),
  set("a status page without a slash", "monitoring", "FASTCGI_STATUS_PATH", "status"),
  set("a status page and a ping at one path", "monitoring", "FASTCGI_PING_PATH", "/s", { FASTCGI_STATUS_PATH: "/s" }),
  set("a name among those who get the page", "monitoring", "FASTCGI_STATUS_ALLOW", "me", { FASTCGI_STATUS_PATH: "/s" }),
  set("a status page that listens nowhere", "monitoring", "FASTCGI_STATUS_LISTEN", "nowhere"),
  {
    what: "a status page on the port of another process",
    page: "starting",
    env: (places) => ({ ...path(places), FASTCGI_STATUS_PATH: "/s", FASTCGI_STATUS_LISTEN: `127.0.0.1:${places.busy}` })
  },
  set("a status page for names with a port", "monitoring", "FASTCGI_STATUS_ALLOWED_HOSTS", "app.example:9253"),
  set("an access log in no folder", "monitoring", "FASTCGI_ACCESS_LOG", "/no/such/access.log"),
  {
    what: "an access log that is a folder",
    page: "monitoring",
    env: (places) => ({ ...path(places), FASTCGI_ACCESS_LOG: places.at("folder") })
  },
  {
    what: "an access log that may not be written",
    page: "monitoring",
    // A port: nobody may make a socket beside it.
    env: (places) => ({ ...port(places), FASTCGI_ACCESS_LOG: places.at("mine/access.log") }),
    asNobody: true
  },
  set("a format with an unknown directive", "monitoring", "FASTCGI_ACCESS_FORMAT", "%h %Q", {
    FASTCGI_ACCESS_LOG: "stdout"
  }),
  set("a format of php-fpm with an unknown directive", "monitoring", "FASTCGI_ACCESS_FORMAT", "php-fpm:%h", {
    FASTCGI_ACCESS_LOG: "stdout"
  }),
  set("a slow log without a unit", "monitoring", "FASTCGI_SLOW_TIMEOUT", "5"),
  set("a trace of no depth", "monitoring", "FASTCGI_SLOW_TRACE_DEPTH", "0", { FASTCGI_SLOW_TIMEOUT: "5 seconds" }),
  set("an origin without its scheme", "websockets", "FASTCGI_WEB_SOCKET_ORIGINS", "app.example"),
  set("a subprotocol with a blank", "websockets", "FASTCGI_WEB_SOCKET_PROTOCOLS", "a chat"),
  set("a ping that never comes", "websockets", "FASTCGI_WEB_SOCKET_PING_INTERVAL", "0"),
  set("no workers", "workers", "FASTCGI_WORKERS", "0"),
  set("memory that is no size", "workers", "FASTCGI_MAX_MEMORY_PER_WORKER", "lots"),
  set("an application that is nowhere", "client", "FASTCGI_UPSTREAM", "nowhere"),
  set("authorities that are not there", "client", "FASTCGI_UPSTREAM_TLS_CA", "/no/such.crt", {
    FASTCGI_UPSTREAM: "9000"
  })
]

const places = Effect.gen(function*() {
  const folder = yield* WebServers.temporaryDirectory
  // The tests' own folder is for its owner alone, who is root; what may not be written is inside of it.
  Fs.chmodSync(folder, 0o777)
  const at = (name: string) => Path.join(folder, name)
  const tls = (name: string) => Path.join(projectRoot, "test/node/fixtures/tls", name)
  Fs.writeFileSync(at("file"), "neither a socket nor a certificate\n")
  Fs.mkdirSync(at("folder"))
  Fs.mkdirSync(at("mine"), { mode: 0o755 })
  Fs.copyFileSync(tls("listener.key"), at("mine/app.key"))
  Fs.chmodSync(at("mine/app.key"), 0o600)
  const key = Crypto.createPrivateKey(Fs.readFileSync(tls("listener.key")))
  Fs.writeFileSync(
    at("locked.key"),
    key.export({ type: "pkcs8", format: "pem", cipher: "aes-128-cbc", passphrase: "secret" })
  )
  const listening = (...where: [string] | [number, string]) =>
    Effect.acquireRelease(
      Effect.gen(function*() {
        const server = Net.createServer()
        const listens = nextEvent(server, "listening")
        server.listen(...where as [string])
        yield* listens
        return server
      }),
      (server) => Effect.sync(() => server.close())
    )
  yield* listening(at("busy.sock"))
  const busy = yield* listening(0, "127.0.0.1")
  return { at, tls, busy: (busy.address() as Net.AddressInfo).port, free: yield* WebServers.freePort }
})

/** The effective user of this process is another one meanwhile. */
const withoutRights = <A, E>(effect: Effect.Effect<A, E>): Effect.Effect<A, E> =>
  process.getuid?.() === 0
    ? Effect.acquireUseRelease(
      Effect.sync(() => process.seteuid!(65534)),
      () => effect,
      () => Effect.sync(() => process.seteuid!(0))
    )
    : effect

/** The messages that a page has in its tables, in which "..." stands for anything. A message may go on behind what is shown. */
const messagesOf = (page: string): ReadonlyArray<RegExp> =>
  Array.from(
    Pages.read(`docs/${page}.md`).matchAll(/^\| `((?:[^`|]|\\\|)+)`/gm),
    ([, message]) =>
      new RegExp(`^${message!.split("...").map((part) => part.replace(/[.*+?^${}()|[\]\\]/g, "\\$&")).join(".*")}`)
  )

/** Runs a program on the sources to its end. */
const ended = ([program, ...args]: readonly [program: string, ...args: ReadonlyArray<string>], env: Env) =>
  WebServers.run({
    name: program,
    command: process.execPath,
    args: ["--import", fileURLToPath(new URL("../examples/support/onSources.ts", import.meta.url)), program, ...args],
    env
  })

describe("a mistake in a setting", () => {
  it.live("stops the start with one line that says what to do, and that is on the page", () =>
    Effect.gen(function*() {
      const here = yield* places
      const there = (message: string) =>
        message.replaceAll(here.at("app.sock"), "/run/app/app.sock")
          .replaceAll(/\/\S*\/(?:busy|a)\.sock|\/\S*\/file\/app\.sock|\/no\/such\/app\.sock/g, "/run/app/app.sock")
          .replaceAll(here.at("file"), "/run/app/app.sock")
          .replaceAll(/127\.0\.0\.1:\d+/g, "127.0.0.1:9000")
          .replaceAll(`:${here.busy}`, ":9000")
      const wrong: Array<string> = []
      for (const { asNobody, env, page, what } of mistakes) {
        const settings = env(here)
        const start: Effect.Effect<unknown, unknown> = page === "workers"
          ? NodeFastCgiWorkers.config
          : page === "client"
          ? Effect.all([NodeFastCgiConnector.config, FastCgiGateway.config])
          : Effect.scoped(Layer.build(program))
        const error = yield* Effect.flip(
          asNobody === true ? withoutRights(start) : start
        ).pipe(
          Effect.provideService(ConfigProvider.ConfigProvider, ConfigProvider.fromEnv({ env: { ...settings } })),
          Effect.catchCause(() => Effect.succeed(undefined))
        )
        const said = typeof error === "object" && error !== null && "message" in error
          ? String(error.message)
          : undefined
        const message = said === undefined ? "it starts, or fails with a defect" : there(said)
        const objections = [
          said === undefined ? "no error" : "",
          message.includes("\n") ? "more than one line" : "",
          /\bE[A-Z]{4,}\b/.test(message) ? "a name of the operating system" : "",
          message.length > 450 ? "too long" : "",
          messagesOf(page).some((shown) => shown.test(message)) ? "" : `not on docs/${page}.md`
        ].filter((one) => one !== "")
        if (objections.length > 0) wrong.push(`${what}: ${objections.join(", ")}: ${message}`)
      }
      assert.deepStrictEqual(wrong, [])
    }).pipe(Effect.scoped))

  it.live("is all that a process says, and it ends with 1", () =>
    Effect.gen(function*() {
      const here = yield* places
      const told = (what: string) => mistakes.find((mistake) => mistake.what === what)!.env(here)
      const program = Path.join(projectRoot, "examples/operations/main.ts")
      yield* Effect.forEach(
        ["the key of another certificate", "a format with an unknown directive"],
        Effect.fnUntraced(function*(what) {
          const { code, log } = yield* ended([program], { ...told(what), OPERATIONS_PORT: String(here.free) })
          assert.strictEqual(code, 1, what)
          const lines = log.trimEnd().split("\n")
          assert.strictEqual(lines.length, 1, log)
          assert.match(lines[0]!, /^\[[\d:.]+\] ERROR \(#\d+\): (?:Cannot listen on |FASTCGI_ACCESS_FORMAT=)/, what)
        }),
        { concurrency: 2 }
      )
    }).pipe(Effect.scoped))
})
