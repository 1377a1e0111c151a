/**
 * Bodies that do not fit into memory: uploads of 100 MB and more arrive unchanged, downloads of 256 MiB and 1 GiB too, and the application
 * needs no more memory for them than for small ones. What counts is how a web server takes a body and how it connects, so one row
 * of a matrix stands for those that differ in the other direction only. `FULL=1` tries more rows, and more GiBs.
 */
import { assert, describe, layer, type Vitest } from "@effect/vitest"
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

/** A body far beyond what the application may keep; and a huge one, for nginx. With `FULL=1` every web server sends a huge one. */
const full = process.env["FULL"] === "1"
const large = 256 * 2 ** 20
const huge = 2 ** 30
const hugeWithFull = full ? huge : large

/** The rows to try of those that there are. */
const some = <A>(rows: ReadonlyArray<A>, count: number): ReadonlyArray<A> => full ? rows : rows.slice(0, count)

/** How much the resident memory of the application may grow. Bytes. */
const mostGrowth = 128 * 2 ** 20

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

const download = (row: Row, downloadSize: number) =>
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

const options = { excludeTestServices: true } as const

const sizeName = (size: number) => size === huge ? "1 GiB" : "256 MiB"

const sends = (it: Vitest.MethodsNonLive<Site>, row: Row, size: number) =>
  it.effect(`sends ${sizeName(size)}`, () => download(row, size))

describeWith(["nginx"], "nginx", (nginx) => {
  // What matters for an upload is whether nginx collects it, and for a response how nginx takes it; and both for how it connects.
  const rows = Nginx.matrix.filter(({ name }) =>
    full
      ? name.startsWith("UNIX, keep_conn on") || name.startsWith("TCP, keep_conn off, buffering on")
      : /^UNIX, keep_conn on, buffering (on, request_buffering off|off, request_buffering on)/.test(name)
  )
  layer(Nginx.layer(nginx!, rows), options)((it) => {
    for (const row of rows) {
      describe(row.name, () => {
        it.effect("takes 200 MB", () => upload(row, 200))
        if (row.name.startsWith("UNIX")) it.effect("takes 100 MB in chunks", () => upload(row, 100, true))
        if (/request_buffering on/.test(row.name)) sends(it, row, /buffering off, req/.test(row.name) ? huge : large)
      })
    }
  })
})

describeWith(["lighttpd"], "lighttpd", (lighttpd) => {
  for (const backend of ["UNIX", "bin-path"] as const) {
    const rows = Lighttpd.matrix.slice(0, 3).filter(({ responseBody }) =>
      (responseBody === 1) === (backend === "bin-path")
    )
    layer(Lighttpd.layer(lighttpd!, backend, rows), options)(backend, (it) => {
      for (const row of rows) {
        describe(row.name, () => {
          it.effect("takes 200 MB", () => upload(row, 200))
          sends(it, row, row.responseBody === 2 ? hugeWithFull : large)
        })
      }
    })
  }
})

describeWith(["apache2", Apache.fcgidModule], "Apache", (apache) => {
  const sites = [
    ["mod_proxy_fcgi", some([Apache.proxyPages[0]!, Apache.proxyWithLength], 1)],
    ["mod_fcgid", some(Apache.fcgidPages, 1)]
  ] as const
  for (const [kind, rows] of sites) {
    layer(Apache.layer(apache!, kind, rows), options)(kind, (it) => {
      for (const row of rows) {
        describe(row.name, () => {
          it.effect("takes 200 MB", () => upload(row, 200))
          it.effect("takes 100 MB in chunks", () => upload(row, 100, true))
          sends(it, row, row === Apache.proxyWithLength ? large : hugeWithFull)
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
    layer(site, options)((it) => {
      for (const row of some<Row>(rows, 1)) {
        describe(row.name, () => {
          it.effect("takes 200 MB", () => upload(row, 200))
          if (row.differences.refusesChunks === undefined) {
            it.effect("takes 100 MB in chunks", () => upload(row, 100, true))
          }
          sends(it, row, row === rows[0] ? hugeWithFull : large)
        })
      }
    })
  })
}
