/**
 * Many clients at once: 64 of them, 100,000 requests behind each web server, and not one may fail.
 */
import { assert, layer } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { fileURLToPath } from "node:url"
import { describeWith } from "../support/requirement.ts"
import * as WebServers from "../support/webServers.ts"
import * as Apache from "./support/apache.ts"
import * as Caddy from "./support/caddy.ts"
import * as H2o from "./support/h2o.ts"
import * as HAProxy from "./support/haproxy.ts"
import * as Lighttpd from "./support/lighttpd.ts"
import * as Nginx from "./support/nginx.ts"
import { type Row, Site } from "./support/site.ts"

const script = fileURLToPath(new URL("./load.lua", import.meta.url))

const clients = 64

/** Sends at least so many requests, as fast as they are answered. Fails when one has not got the right answer. */
const load = (wrk: string, row: Row, count: number, connections = clients) =>
  Effect.gen(function*() {
    const site = yield* Site
    let sent = 0
    while (sent < count) {
      const { code, log } = yield* WebServers.run({
        name: "wrk",
        command: wrk,
        args: [
          "-t2",
          `-c${connections}`,
          "-d1s",
          "--timeout",
          "10s",
          "-s",
          script,
          `http://127.0.0.1:${site.port(row)}/hello`
        ]
      })
      const result = /RESULT requests=(\d+) wrong=(\d+) broken=(\d+)/.exec(log)
      assert.isTrue(code === 0 && result !== null, log)
      assert.deepStrictEqual(result!.slice(2), ["0", "0"], log)
      sent += Number(result![1])
      assert.isAbove(sent, 0)
    }
    return sent
  })

const timeout = 60_000
const total = 100_000

describeWith(["nginx", "wrk"], "nginx", (nginx, wrk) => {
  const rows = [...Nginx.pages, ...Nginx.matrix.filter((row) => /request_buffering on/.test(row.name))]
  layer(Nginx.layer(nginx!, rows), { excludeTestServices: true, timeout: "30 seconds" })((it) => {
    for (const row of rows) {
      it.effect(
        `answers ${total / rows.length} requests of ${clients} clients: ${row.name}`,
        () => load(wrk!, row, total / rows.length),
        timeout
      )
    }
  })
})

describeWith(["lighttpd", "wrk"], "lighttpd", (lighttpd, wrk) => {
  const backends = ["UNIX", "TCP", "bin-path"] as const
  const count = Math.ceil(total / backends.length / Lighttpd.matrix.length)
  for (const backend of backends) {
    layer(Lighttpd.layer(lighttpd!, backend), { excludeTestServices: true, timeout: "30 seconds" })(backend, (it) => {
      for (const row of Lighttpd.matrix) {
        it.effect(`answers ${count} requests of ${clients} clients: ${row.name}`, () => load(wrk!, row, count), timeout)
      }
    })
  }
})

describeWith(["apache2", "wrk", Apache.fcgidModule], "Apache", (apache, wrk) => {
  const options = { excludeTestServices: true, timeout: "30 seconds" } as const
  const rows = [
    ...Apache.proxyPages,
    ...Apache.proxyMatrix.filter(({ name }) => /SetHandler, UNIX|enablereuse/.test(name))
  ]
  const count = 30_000 / rows.length
  layer(Apache.layer(apache!, "mod_proxy_fcgi", rows), options)((it) => {
    for (const row of rows) {
      it.effect(`answers ${count} requests of ${clients} clients: ${row.name}`, () => load(wrk!, row, count), timeout)
    }
  })
  // A request waits for a process of its own, with pauses, and there is not one for each client.
  layer(Apache.layer(apache!, "mod_fcgid", [Apache.fcgidLoad]), options)((it) => {
    const { name } = Apache.fcgidLoad
    it.effect(`answers 30000 requests of 32 clients: ${name}`, () => load(wrk!, Apache.fcgidLoad, 30_000, 32), timeout)
  })
})

for (
  const [name, build, rows] of [
    ["haproxy", HAProxy.layer, [...HAProxy.pages, ...HAProxy.matrix]],
    ["caddy", Caddy.layer, [...Caddy.pages, ...Caddy.matrix]],
    ["h2o", H2o.layer, [...H2o.pages, ...H2o.matrix]]
  ] as const
) {
  describeWith([name, "wrk"], name, (server, wrk) => {
    const count = Math.ceil(30_000 / rows.length)
    const site = (build as (server: string, rows: ReadonlyArray<Row>) => ReturnType<typeof Caddy.layer>)(server!, rows)
    layer(site, { excludeTestServices: true, timeout: "30 seconds" })((it) => {
      for (const row of rows) {
        it.effect(`answers ${count} requests of 32 clients: ${row.name}`, () => load(wrk!, row, count, 32), timeout)
      }
    })
  })
}
