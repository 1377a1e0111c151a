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
