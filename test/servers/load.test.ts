/**
 * Many clients at once, as fast as they are answered: not one request may fail. How a web server connects is what matters here,
 * not how it collects bodies, so that not every row of a matrix is tried.
 */
import { layer } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { describeWith } from "../support/requirement.ts"
import * as Apache from "./support/apache.ts"
import * as Caddy from "./support/caddy.ts"
import * as H2o from "./support/h2o.ts"
import * as HAProxy from "./support/haproxy.ts"
import * as Lighttpd from "./support/lighttpd.ts"
import * as Nginx from "./support/nginx.ts"
import { type Row, Site } from "./support/site.ts"
import * as Wrk from "./support/wrk.ts"

/** Sends at least so many requests, for a second at least. Fails when one has not got the right answer. */
const load = (wrk: string, row: Row, connections: number, count = 1000) =>
  Effect.gen(function*() {
    const { port } = yield* Site
    let sent = 0
    while (sent < count) sent += yield* Wrk.run({ wrk, port: port(row), connections })
  })

const options = { excludeTestServices: true } as const

const full = process.env["FULL"] === "1"

const title = (row: Row, clients: number) => `answers every request of ${clients} clients: ${row.name}`

describeWith(["nginx", "wrk"], "nginx", (nginx, wrk) => {
  const rows = [
    ...Nginx.pages,
    ...Nginx.matrix.filter(({ name }) => /^(UNIX, keep_conn off|TCP, keep_conn on).*, buffering on.*g on/.test(name))
  ]
  layer(Nginx.layer(nginx!, rows), options)((it) => {
    for (const row of rows) it.effect(title(row, 64), () => load(wrk!, row, 64))
  })
})

describeWith(["lighttpd", "wrk"], "lighttpd", (lighttpd, wrk) => {
  for (const backend of ["UNIX", "TCP", "bin-path"] as const) {
    const row = Lighttpd.matrix[0]!
    layer(Lighttpd.layer(lighttpd!, backend, [row]), options)(backend, (it) => {
      it.effect(title(row, 64), () => load(wrk!, row, 64))
    })
  }
})

describeWith(["apache2", "wrk", Apache.fcgidModule], "Apache", (apache, wrk) => {
  const rows = [
    ...Apache.proxyPages,
    ...Apache.proxyMatrix.filter(({ name }) => /TCP, enablereuse/.test(name))
  ]
  layer(Apache.layer(apache!, "mod_proxy_fcgi", rows), options)((it) => {
    for (const row of rows) it.effect(title(row, 64), () => load(wrk!, row, 64))
  })
  // A request waits for a process of its own, with pauses, and there is not one for each client.
  layer(Apache.layer(apache!, "mod_fcgid", [Apache.fcgidLoad]), options)((it) => {
    it.effect(title(Apache.fcgidLoad, 32), () => load(wrk!, Apache.fcgidLoad, 32, full ? 3000 : 300))
  })
})

for (
  const [name, build, rows] of [
    ["haproxy", HAProxy.layer, [...HAProxy.pages, ...HAProxy.matrix.filter(({ name }) => name.startsWith("TCP"))]],
    ["caddy", Caddy.layer, [...Caddy.pages, ...Caddy.matrix.slice(-1)]],
    ["h2o", H2o.layer, [...H2o.pages, ...H2o.matrix.slice(-1)]]
  ] as const
) {
  describeWith([name, "wrk"], name, (server, wrk) => {
    const site = (build as (server: string, rows: ReadonlyArray<Row>) => ReturnType<typeof Caddy.layer>)(server!, rows)
    layer(site, options)((it) => {
      for (const row of rows) it.effect(title(row, 32), () => load(wrk!, row, 32))
    })
  })
}
