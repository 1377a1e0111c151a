/**
 * Bodies that do not fit into memory: uploads of 100 MB and more arrive unchanged, downloads of 1 GiB too, and the application needs no more
 * memory for them than for small ones.
 */
import { assert, describe, layer } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { createHash } from "node:crypto"
import { describeWith } from "../support/requirement.ts"
import { peakMemory, resetPeak } from "../support/webServers.ts"
import * as Apache from "./support/apache.ts"
import * as Caddy from "./support/caddy.ts"
import { digestOf, pieces } from "./support/content.ts"
import * as H2o from "./support/h2o.ts"
import * as HAProxy from "./support/haproxy.ts"
import { open, request } from "./support/http.ts"
import * as Lighttpd from "./support/lighttpd.ts"
import type { Digest } from "./support/messages.ts"
import * as Nginx from "./support/nginx.ts"
import { type Row, Site } from "./support/site.ts"

const downloadSize = 2 ** 30

/** How much the resident memory of the application may grow. Bytes. */
const mostGrowth = 150 * 2 ** 20

/** Runs the effect and fails when an application needs much more memory for it than before. */
const bounded = <A, E, R>(effect: Effect.Effect<A, E, R>) =>
  Effect.gen(function*() {
    const site = yield* Site
    const processes = yield* site.application.started(1)
    for (const pid of processes) resetPeak(pid)
    const before = processes.map(peakMemory)
    const result = yield* effect
    const growth = processes.map((pid, i) => peakMemory(pid) - before[i]!)
    for (const bytes of growth) assert.isBelow(bytes, mostGrowth, "the application's memory has grown")
    return result
  })

const upload = (row: Row, megabytes: number, inChunks = false) =>
  Effect.gen(function*() {
    const size = megabytes * 1_000_000
    const site = yield* Site
    const response = yield* bounded(request(site.port(row), "/digest", {
      method: "POST",
      headers: inChunks ? {} : { "content-length": size },
      body: pieces(size)
    }))
    assert.strictEqual(response.status, 200, response.text)
    const digest = JSON.parse(response.text) as Digest
    assert.strictEqual(digest.size, size)
    assert.strictEqual(digest.sha256, digestOf(size))
  })

const download = (row: Row) =>
  Effect.gen(function*() {
    const site = yield* Site
    const hash = createHash("sha256")
    let size = 0
    yield* bounded(Effect.scoped(Effect.gen(function*() {
      const response = yield* open(site.port(row), `/download?size=${downloadSize}&length`)
      assert.strictEqual(response.status, 200)
      assert.strictEqual(response.headers["content-length"], String(downloadSize))
      yield* response.drain((chunk) => {
        size += chunk.length
        hash.update(chunk)
      })
    })))
    assert.strictEqual(size, downloadSize)
    assert.strictEqual(hash.digest("hex"), digestOf(downloadSize))
  })

const timeout = 60_000

describeWith(["nginx"], "nginx", (nginx) => {
  layer(Nginx.layer(nginx!, Nginx.matrix), { excludeTestServices: true, timeout: "30 seconds" })((it) => {
    for (const row of Nginx.matrix) {
      describe(row.name, () => {
        const size = /UNIX, keep_conn on/.test(row.name) ? 200 : 100
        it.effect(`takes ${size} MB`, () => upload(row, size), timeout)
        // What matters for a body in chunks is whether nginx collects it.
        if (/UNIX, keep_conn on/.test(row.name)) {
          it.effect(`takes ${size} MB in chunks`, () => upload(row, size, true), timeout)
        }
        // And for a response how nginx takes it, and from what.
        if (/keep_conn on.*request_buffering on/.test(row.name)) {
          it.effect("sends 1 GiB", () => download(row), timeout)
        }
      })
    }
  })
})

describeWith(["lighttpd"], "lighttpd", (lighttpd) => {
  for (const backend of ["UNIX", "bin-path"] as const) {
    layer(Lighttpd.layer(lighttpd!, backend), { excludeTestServices: true, timeout: "30 seconds" })(backend, (it) => {
      for (const row of Lighttpd.matrix.slice(0, 3)) {
        describe(row.name, () => {
          it.effect("takes 200 MB", () => upload(row, 200), timeout)
          if ((row.responseBody === 1) === (backend === "bin-path")) {
            it.effect("sends 1 GiB", () => download(row), timeout)
          }
        })
      }
    })
  }
})

describeWith(["apache2", Apache.fcgidModule], "Apache", (apache) => {
  const sites = [
    ["mod_proxy_fcgi", [Apache.proxyPages[0]!, Apache.proxyWithLength]],
    ["mod_fcgid", [...Apache.fcgidPages, ...Apache.fcgidMatrix]]
  ] as const
  for (const [kind, rows] of sites) {
    layer(Apache.layer(apache!, kind, rows), { excludeTestServices: true, timeout: "30 seconds" })(kind, (it) => {
      for (const row of rows) {
        describe(row.name, () => {
          it.effect("takes 200 MB", () => upload(row, 200), timeout)
          it.effect("takes 100 MB in chunks", () => upload(row, 100, true), timeout)
          it.effect("sends 1 GiB", () => download(row), timeout)
        })
      }
    })
  }
})

for (
  const [name, build, rows] of [
    ["haproxy", HAProxy.layer, [...HAProxy.pages, ...HAProxy.matrix.filter(({ name }) => name === "TCP, mpxs-conns")]],
    ["caddy", Caddy.layer, [...Caddy.pages, ...Caddy.matrix.slice(-1)]],
    ["h2o", H2o.layer, [...H2o.pages, ...H2o.matrix.slice(-1)]]
  ] as const
) {
  describeWith([name], name, (server) => {
    const site = (build as (server: string, rows: ReadonlyArray<Row>) => ReturnType<typeof Caddy.layer>)(server!, rows)
    layer(site, { excludeTestServices: true, timeout: "30 seconds" })((it) => {
      for (const row of rows) {
        describe(row.name, () => {
          it.effect("takes 200 MB", () => upload(row, 200), timeout)
          if (row.differences.refusesChunks === undefined) {
            it.effect("takes 100 MB in chunks", () => upload(row, 100, true), timeout)
          }
          it.effect("sends 1 GiB", () => download(row), timeout)
        })
      }
    })
  })
}
