/**
 * The tests of the folders below need no socket, no process and no time of their own, so that they are the same on every run
 * and on every machine. Those that are about sockets say so here.
 */
import { assert, describe, it } from "@effect/vitest"
import * as Fs from "node:fs"
import * as Path from "node:path"
import { projectRoot } from "../support/files.ts"

const folders = ["protocol", "cgi", "connection", "server", "http", "client", "testing"]

/** What is compared with Node's own server, or is about sockets and processes. */
const withSockets = new Map([
  ["http/FastCgiSendFile.test.ts", "files are Node's, and so is the server that it is compared with"],
  ["http/FastCgiSendFile.test.ts", "runs on NodeHttpServer as well, where nobody sends the file in its place"],
  ["client/FastCgiGateway.test.ts", "a gateway is an HTTP server"],
  ["client/gatewaySuite.test.ts", "a gateway is an HTTP server"],
  ["client/phpFpm.test.ts", "php-fpm is a process"],
  ["client/phpFpm.ts", "php-fpm is a process"]
])

/** Waits for real time, or tells it. `Effect.sleep` is neither: it waits for TestClock. */
const forbidden: ReadonlyArray<readonly [string, RegExp]> = [
  ["a socket, a server or a process", /from "node:(?:net|http|https|tls|dgram|child_process|worker_threads|cluster)"/],
  // Its file system has nothing to do with sockets, and the http services of `NodeHttpServer` are that.
  ["Node's platform", /from "@effect\/platform-node\/(?!NodeHttpServer")|\bNodeHttpServer\.(?!layerHttpServices\b)/],
  ["sockets of this package", /from "(?:effect-fastcgi\/node|[./]+src\/node\/)/],
  ["a timer", /\b(?:setTimeout|setInterval|setImmediate)\b|node:timers/],
  ["the clock of the machine", /\b(?:Date\.now|performance\.now|new Date\(\)|TestClock\.withLive)\b/],
  ["a number that is another one on every run", /\bMath\.random\b|\brandomUUID\b/],
  ["a test in real time", /\bit\.live\b/]
]

const objections = (text: string): ReadonlyArray<string> =>
  text.split("\n").flatMap((line, index) =>
    forbidden.flatMap(([what, pattern]) =>
      pattern.test(line) && !/^\s*(?:\/?\*|\/\/)/.test(line) ? [`${index + 1}: ${what}: ${line.trim()}`] : []
    )
  )

const files = folders.flatMap((folder) =>
  Fs.readdirSync(Path.join(projectRoot, "test", folder), { recursive: true, encoding: "utf8" })
    .filter((file) => file.endsWith(".ts"))
    .map((file) => `${folder}/${file}`)
)

const read = (file: string) => Fs.readFileSync(Path.join(projectRoot, "test", file), "utf8")

describe("tests in memory", () => {
  it("use no socket, no process, no timer, no clock and no chance", () => {
    assert.isAbove(files.length, 50)
    assert.deepStrictEqual(
      files.filter((file) => !withSockets.has(file)).flatMap((file) =>
        objections(read(file)).map((line) => `${file}:${line}`)
      ),
      []
    )
  })

  it("are all but those that are named with the reason", () => {
    for (const [file, why] of withSockets) assert.isNotEmpty(objections(read(file)), `${file}: ${why}`)
  })
})
