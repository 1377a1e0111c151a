/**
 * The application behind Apache: mod_proxy_fcgi, which connects to it, and mod_fcgid, which starts it.
 */
import { assert, describe, it, layer } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fs from "node:fs"
import * as Path from "node:path"
import { describeWith } from "../support/requirement.ts"
import * as WebServers from "../support/webServers.ts"
import * as Apache from "./support/apache.ts"
import * as Application from "./support/application.ts"
import { cases } from "./support/cases.ts"
import { request } from "./support/http.ts"
import type { Received } from "./support/messages.ts"
import { Site } from "./support/site.ts"

const options = { excludeTestServices: true } as const

describeWith(["apache2", Apache.fcgidModule], "Apache", (apache) => {
  const sites = [
    ["mod_proxy_fcgi", [...Apache.proxyPages, ...Apache.proxyMatrix]],
    ["mod_fcgid", [...Apache.fcgidPages, ...Apache.fcgidMatrix]]
  ] as const
  for (const [kind, rows] of sites) {
    layer(Apache.layer(apache!, kind, rows), options)(kind, (it) => {
      for (const row of rows) describe(row.name, () => cases(it, row))
    })
  }

  layer(Apache.layer(apache!, "mod_fcgid", [Apache.fcgidPages[0]!]), options)((it) => {
    it.effect("mod_fcgid runs the application again and again for a 200 with a Location, as docs/apache.md says", () =>
      Effect.gen(function*() {
        const { application, port } = yield* Site
        const id = application.id()
        const response = yield* request(port(Apache.fcgidPages[0]!), `/redirect?code=200&to=%2Felse&id=${id}`)
        assert.strictEqual(response.status, 500)
        yield* application.hears("Begun", id)
        assert.isAtLeast(application.begun().filter((begun) => begun === id).length, 10)
      }))
  })

  it.live("an application that takes its URL from the script gets what Apache asks for itself", () =>
    Effect.gen(function*() {
      const folder = yield* WebServers.temporaryDirectory
      Fs.chmodSync(folder, 0o755)
      const port = yield* WebServers.freePort
      const socket = Path.join(folder, "app.sock")
      yield* Application.start(
        Path.join(folder, "control.sock"),
        "--path",
        socket,
        "--mode",
        "666",
        "--url-from",
        "script"
      )
      const directives = Apache.documentedContents("pages that Apache asks for", [["/run/app/app.sock", socket]])
      yield* Apache.start(apache!, folder, Apache.host(port, directives), [port], "mod_proxy_fcgi", [
        "filter",
        "include"
      ])
      const included = (yield* request(port, "/page?include=%2Ffragment%2Fgr%25C3%25BC%25C3%259Fe%3Fa%3Db")).text
      const fragment = JSON.parse(/^<p>(.*)<\/p>$/s.exec(included)![1]!) as Received
      assert.strictEqual(fragment.url, "/fragment/gr%C3%BC%C3%9Fe?a=b")
      assert.match(fragment.originalUrl, /\/page\?include=/)
      const page = yield* request(port, "/status?code=404")
      // That of the page, as docs/apache.md says.
      assert.strictEqual(page.status, 200)
      assert.strictEqual((JSON.parse(page.text) as Received).url, "/not-found")
      for (const target of ["/a%2Fb/%7e?c=%2F", "/what%3Fis%23this", "/caf%c3%a9"]) {
        assert.strictEqual((JSON.parse((yield* request(port, target)).text) as Received).url, target)
      }
    }))

  // As people write it: one argument in a section, and no slash at the end.
  for (
    const [name, directives] of [
      ["ProxyPass in a Location", `<Location "/app">\nProxyPass fcgi://localhost:3003\n</Location>`],
      ["ProxyPass of a path", `ProxyPass /app fcgi://localhost:3003`],
      ["ProxyPass of everything", `ProxyPass / fcgi://localhost:3003/`]
    ] as const
  ) {
    it.live(`${name}: fcgi://localhost`, () =>
      Effect.gen(function*() {
        const folder = yield* WebServers.temporaryDirectory
        Fs.chmodSync(folder, 0o755)
        const [port, appPort] = [yield* WebServers.freePort, yield* WebServers.freePort]
        yield* Application.start(Path.join(folder, "control.sock"), "--port", String(appPort))
        yield* Apache.start(
          apache!,
          folder,
          Apache.host(port, directives.replace(":3003", `:${appPort}`)),
          [port],
          "mod_proxy_fcgi"
        )
        for (const target of ["/app", "/app/", "/app/x/y?z", "/app/gr%C3%BC%C3%9Fe"]) {
          const response = yield* request(port, target)
          assert.strictEqual((JSON.parse(response.text) as Received).url, target)
        }
      }))
  }
})
