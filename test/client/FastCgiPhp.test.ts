import { assert, describe, it } from "@effect/vitest"
import { FastCgiRecord as Record } from "effect-fastcgi"
import { FastCgiClient, type FastCgiClientError, FastCgiPhp } from "effect-fastcgi/client"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Schema from "effect/Schema"
import * as TestClock from "effect/testing/TestClock"
import * as Application from "./application.ts"
import { answer, bytesOf } from "./application.ts"

// As php-fpm 8.2.36 sent it.
const fullPage =
  `{"pool":"www","process manager":"dynamic","start time":1795861705,"start since":59,"accepted conn":7,"listen queue":0,` +
  `"max listen queue":3,"listen queue len":511,"idle processes":1,"active processes":1,"total processes":2,` +
  `"max active processes":2,"max children reached":4,"slow requests":5, "processes":[{"pid":19857,"state":"Running",` +
  `"start time":1795861705,"start since":58,"requests":4,"request duration":129,"request method":"GE\\"T",` +
  `"request uri":"\\/status?json&full","content length":6,"user":"a\\"b","script":"-","last request cpu":0.25,` +
  `"last request memory":2097152},{"pid":19858,"state":"Idle","start time":1795861706,"start since":57,"requests":3,` +
  `"request duration":504279,"request method":"GET","request uri":"\\/s.php","content length":0,"user":"-",` +
  `"script":"\\/srv\\/s.php","last request cpu":0.00,"last request memory":0}]}`

const head = (type: string, more = "") =>
  `X-Powered-By: PHP/8.2.36\r\nExpires: Thu, 01 Jan 1970 00:00:00 GMT\r\n${more}Content-Type: ${type}\r\n\r\n`

const notFound = "Status: 404 Not Found\r\nContent-type: text/html; charset=UTF-8\r\n\r\nFile not found.\n"

/** What comes of a request to an application that answers it so. */
const asked = <A, E>(
  ask: (client: FastCgiClient.FastCgiClient) => Effect.Effect<A, E>,
  ...records: ReadonlyArray<Record.FastCgiRecord>
) =>
  Effect.gen(function*() {
    const app = yield* Application.make()
    const client = yield* FastCgiClient.make(app)
    const asking = yield* Effect.forkScoped(ask(client), { startImmediately: true })
    yield* app.untilTag("Params", 2)
    yield* app.send(...records)
    return { app, exit: yield* Fiber.await(asking) }
  })

const failureOf = <A, E>(
  ask: (client: FastCgiClient.FastCgiClient) => Effect.Effect<A, E>,
  ...records: ReadonlyArray<Record.FastCgiRecord>
) => Effect.flatMap(asked(ask, ...records), ({ exit }) => Effect.flip(exit))

type Ask = (
  client: FastCgiClient.FastCgiClient
) => Effect.Effect<void, FastCgiPhp.FastCgiPhpError | FastCgiClientError.FastCgiClientError>

const status = (client: FastCgiClient.FastCgiClient) => FastCgiPhp.status(client)
const ping = (client: FastCgiClient.FastCgiClient) => FastCgiPhp.ping(client)

const page = (text: string) => Schema.decodeUnknownEffect(Schema.fromJsonString(FastCgiPhp.FastCgiPhpStatus))(text)

describe("FastCgiPhp", () => {
  it.effect("reads every field of the full status", () =>
    Effect.gen(function*() {
      const { app, exit } = yield* asked(status, ...answer(1, head("application/json") + fullPage))
      assert.deepStrictEqual(yield* exit, {
        pool: "www",
        processManager: "dynamic",
        startTime: 1795861705,
        startSince: 59,
        acceptedConn: 7,
        listenQueue: 0,
        maxListenQueue: 3,
        listenQueueLen: 511,
        idleProcesses: 1,
        activeProcesses: 1,
        totalProcesses: 2,
        maxActiveProcesses: 2,
        maxChildrenReached: 4,
        slowRequests: 5,
        processes: [
          {
            pid: 19857,
            state: "Running",
            startTime: 1795861705,
            startSince: 58,
            requests: 4,
            requestDuration: 129,
            requestMethod: "GE\"T",
            requestUri: "/status?json&full",
            contentLength: 6,
            user: "a\"b",
            script: "-",
            lastRequestCpu: 0.25,
            lastRequestMemory: 2097152
          },
          {
            pid: 19858,
            state: "Idle",
            startTime: 1795861706,
            startSince: 57,
            requests: 3,
            requestDuration: 504279,
            requestMethod: "GET",
            requestUri: "/s.php",
            contentLength: 0,
            user: "-",
            script: "/srv/s.php",
            lastRequestCpu: 0,
            lastRequestMemory: 0
          }
        ]
      })
      const params = new Map(app.params(1))
      assert.strictEqual(params.get("SCRIPT_NAME"), "/status")
      assert.strictEqual(params.get("SCRIPT_FILENAME"), "/status")
      assert.strictEqual(params.get("QUERY_STRING"), "json&full")
    }))

  it.effect("asks another path, for less", () =>
    Effect.gen(function*() {
      const short = fullPage.replace(/, "processes".*/, `,"memory peak":4194304}`)
      const { app, exit } = yield* asked(
        (client) => FastCgiPhp.status(client, { path: "/fpm", full: false }),
        ...answer(1, head("application/json") + short)
      )
      const { memoryPeak, processes } = yield* exit
      assert.deepStrictEqual({ memoryPeak, processes }, { memoryPeak: 4194304, processes: [] })
      const params = new Map(app.params(1))
      assert.strictEqual(params.get("SCRIPT_NAME"), "/fpm")
      assert.strictEqual(params.get("QUERY_STRING"), "json")
    }))

  it.effect("encodes a status as php-fpm does", () =>
    Effect.gen(function*() {
      const decoded = yield* page(fullPage)
      const encoded = yield* Schema.encodeEffect(FastCgiPhp.FastCgiPhpStatus)(decoded)
      assert.deepStrictEqual(encoded, JSON.parse(fullPage))
    }))

  it.effect("returns what a ping is answered", () =>
    Effect.gen(function*() {
      const { app, exit } = yield* asked(ping, ...answer(1, head("text/plain;charset=UTF-8") + "pong"))
      assert.strictEqual(yield* exit, "pong")
      assert.strictEqual(new Map(app.params(1)).get("SCRIPT_NAME"), "/ping")
    }))

  it.effect("fails at another answer to a ping than the one that is expected", () =>
    Effect.gen(function*() {
      const error = yield* failureOf(
        (client) => FastCgiPhp.ping(client, { response: "pong" }),
        ...answer(1, head("text/plain") + "gnop")
      )
      assert.ok(error._tag === "FastCgiPhpError")
      assert.deepStrictEqual(error.reason, { _tag: "UnexpectedAnswer", path: "/ping", status: 200 })
    }))

  for (
    const [name, ask, path] of [
      ["status", (client) => Effect.asVoid(status(client)), "/status"],
      ["ping", (client) => Effect.asVoid(ping(client)), "/ping"]
    ] satisfies ReadonlyArray<readonly [string, Ask, string]>
  ) {
    it.effect(`says that the pool has no page for ${name}`, () =>
      Effect.gen(function*() {
        const error = yield* failureOf(
          ask,
          Record.stderr(1, bytesOf("Primary script unknown")),
          ...answer(1, notFound)
        )
        assert.ok(error._tag === "FastCgiPhpError")
        assert.deepStrictEqual(error.reason, { _tag: "NotConfigured", path, status: 404 })
      }))
  }

  const unexpected: ReadonlyArray<readonly [name: string, stdout: string, status: number]> = [
    ["another status", "Status: 500 Internal Server Error\r\nContent-Type: application/json\r\n\r\n{}", 500],
    ["a page of another application", "Content-Type: text/html\r\n\r\n<h1>Status</h1>", 200],
    ["JSON that is no status", head("application/json") + "{\"pool\":\"www\"}", 200],
    ["no JSON", head("application/json") + fullPage.slice(0, -1), 200],
    ["a process manager that nobody knows", head("application/json") + fullPage.replace("dynamic", "lazy"), 200]
  ]
  for (const [name, stdout, code] of unexpected) {
    it.effect(`fails at ${name}`, () =>
      Effect.gen(function*() {
        const error = yield* failureOf(status, ...answer(1, stdout))
        assert.ok(error._tag === "FastCgiPhpError")
        assert.deepStrictEqual(error.reason, { _tag: "UnexpectedAnswer", path: "/status", status: code })
      }))
  }

  it.effect("stops reading a page that does not end", () =>
    Effect.gen(function*() {
      const chunk = Record.stdout(1, bytesOf("x".repeat(65_000)))
      const error = yield* failureOf(
        status,
        Record.stdout(1, bytesOf(head("application/json"))),
        ...Array.from({ length: 300 }, () => chunk)
      )
      assert.match(String(error), /longer than 16777216 bytes/)
    }))

  it.effect("fails with the client's errors where there is no answer", () =>
    Effect.gen(function*() {
      const refused = yield* failureOf(ping, Record.endRequest(1, 0, Record.ProtocolStatus.Overloaded))
      assert.strictEqual(refused.reason._tag, "Overloaded")
      const noHead = yield* failureOf(ping, ...answer(1, "pong"))
      assert.strictEqual(noHead.reason._tag, "BadHead")
    }))

  it.effect("waits for 5 seconds, and gives the request up", () =>
    Effect.gen(function*() {
      const app = yield* Application.make()
      const client = yield* FastCgiClient.make(app)
      const asking = yield* Effect.forkScoped(FastCgiPhp.ping(client), { startImmediately: true })
      yield* app.untilTag("Params", 2)
      yield* TestClock.adjust("5 seconds")
      const error = yield* Effect.flip(Fiber.join(asking))
      assert.strictEqual(error.reason._tag, "Timeout")
      yield* app.untilEnd
    }))

  it.effect("renders pools as OpenMetrics", () =>
    Effect.gen(function*() {
      const www = yield* page(fullPage)
      const odd = { ...www, pool: "a\"b\\c\nd", memoryPeak: 5, processes: [] }
      const text = FastCgiPhp.openMetrics([www, odd])
      const lines = text.split("\n")
      assert.deepStrictEqual(lines.slice(-2), ["# EOF", ""])
      for (
        const line of [
          "# TYPE phpfpm_accepted_connections unknown",
          "phpfpm_accepted_connections{pool=\"www\"} 7",
          "phpfpm_accepted_connections{pool=\"a\\\"b\\\\c\\nd\"} 7",
          "phpfpm_up{pool=\"www\"} 1",
          "phpfpm_memory_peak{pool=\"a\\\"b\\\\c\\nd\"} 5",
          "phpfpm_process_request_duration{pool=\"www\",child=\"1\"} 504279",
          "phpfpm_process_last_request_cpu{pool=\"www\",child=\"0\"} 0.25",
          "phpfpm_process_state{pool=\"www\",child=\"1\",state=\"Idle\"} 1"
        ]
      ) assert.ok(lines.includes(line), line)
      // Every family is described once, in front of its samples, which stand together.
      let family = ""
      const seen = new Set<string>()
      for (const line of lines.slice(0, -2)) {
        const type = /^# TYPE (\w+) (gauge|unknown)$/.exec(line)
        if (type !== null) {
          family = type[1]
          assert.ok(!seen.has(family), line)
          seen.add(family)
        } else if (line.startsWith("# HELP ")) {
          assert.ok(line.startsWith(`# HELP ${family} `), line)
        } else {
          assert.match(line, new RegExp(`^${family}\\{pool="(?:[^"\\\\\\n]|\\\\.)+"(?:,\\w+="[^"]+")*\\} [0-9.]+$`))
        }
      }
      assert.ok(!text.includes("s.php"), "the URLs of workers are private")
    }))
})
