/**
 * HAProxy on another host, as docs/security.md says: by TLS with a certificate of its own, and with the PROXY protocol in front.
 */
import { assert, it } from "@effect/vitest"
import { FastCgiRequest, FastCgiResponse, FastCgiServer } from "effect-fastcgi"
import { NodeFastCgiListener } from "effect-fastcgi/node"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as NetAddress from "effect/net/NetAddress"
import * as Option from "effect/Option"
import * as Fs from "node:fs"
import * as Path from "node:path"
import { projectRoot } from "../support/files.ts"
import { describeWith } from "../support/requirement.ts"
import * as WebServers from "../support/webServers.ts"
import * as HAProxy from "./support/haproxy.ts"

const certificates = Path.join(projectRoot, "test/node/fixtures/tls")
const pem = (name: string) => Fs.readFileSync(Path.join(certificates, name), "utf8")

/** Answers with the peer's address, and what HAProxy says of its client. */
const listening = (options: NodeFastCgiListener.NodeFastCgiListenerOptions) =>
  Layer.build(
    FastCgiServer.serve({
      responder: Effect.map(FastCgiRequest.CurrentResponder, ({ params, peer }) => {
        const address = Option.getOrUndefined(peer)
        const from = address !== undefined && NetAddress.isInetAddress(address)
          ? NetAddress.formatInet(address)
          : "nobody"
        return FastCgiResponse.make(`${from} ${params.get("REMOTE_ADDR")}:${params.get("REMOTE_PORT")}`)
      })
    }).pipe(Layer.provide(NodeFastCgiListener.layer(options)))
  )

const ask = (port: number) =>
  Effect.promise(async () => {
    const response = await fetch(`http://127.0.0.1:${port}/`, { headers: { connection: "close" } })
    return `${response.status} ${await response.text()}`
  })

const page = Fs.readFileSync(Path.join(projectRoot, "docs/security.md"), "utf8")

/** The server line of docs/security.md, in a configuration. */
const sections = (port: number, line: string) => `
fcgi-app app${port}
  docroot /srv/www
frontend web${port}
  bind 127.0.0.1:${port}
  default_backend app${port}
backend app${port}
  use-fcgi-app app${port}
  retries 0
  ${line}
`

describeWith(["haproxy"], "HAProxy on another host", (haproxy) => {
  const tls = { cert: pem("listener.crt"), key: pem("listener.key"), ca: pem("authority.crt") }

  it.live("asks by TLS, with a certificate of its own, and says whose request it is", () =>
    Effect.gen(function*() {
      const folder = yield* WebServers.temporaryDirectory
      for (const name of ["client", "forged"]) {
        Fs.writeFileSync(Path.join(folder, `${name}.pem`), pem(`${name}.crt`) + pem(`${name}.key`))
      }
      const lines: Array<string> = []
      const logger = Logger.make<unknown, void>(({ message }) => void lines.push(String(message)))
      const port = yield* WebServers.freePort
      const forged = yield* WebServers.freePort
      const proxied = yield* WebServers.freePort
      const appPort = yield* WebServers.freePort
      const both = yield* WebServers.freePort
      yield* Layer.build(Logger.layer([logger])).pipe(
        Effect.flatMap((context) =>
          Effect.provideContext(
            Effect.andThen(
              listening({ port: appPort, allow: ["127.0.0.1"], tls }),
              listening({ port: both, allow: ["127.0.0.1"], tls, proxyProtocol: true })
            ),
            context
          )
        )
      )
      const line = (to: number, certificate = "client.pem") =>
        WebServers.fill(
          WebServers.documented(page, "haproxy", "by TLS, in the backend").split("\n").slice(1).join("\n"),
          [
            ["10.1.0.5:9000", `127.0.0.1:${to}`],
            ["/etc/haproxy/app-ca.crt", Path.join(certificates, "authority.crt")],
            ["/etc/haproxy/client.pem", Path.join(folder, certificate)],
            ["str(app.example)", "str(localhost)"],
            ["verifyhost app.example", "verifyhost localhost"]
          ]
        )
      yield* HAProxy.start(haproxy!, folder, [
        sections(port, line(appPort)),
        sections(forged, line(appPort, "forged.pem")),
        sections(proxied, line(both).trimEnd() + " send-proxy-v2")
      ], [port, forged, proxied])
      assert.match(yield* ask(port), /^200 127\.0\.0\.1:\d+ 127\.0\.0\.1:\d+$/)
      for (let i = 0; i < 3; i++) assert.match(yield* ask(forged), /^50[23] /)
      const refused = lines.filter((line) => line.startsWith("Refused"))
      assert.strictEqual(refused.length, 1, lines.join("\n"))
      assert.match(refused[0]!, /TLS handshake failed: /)
      // The peer is HAProxy's client then: that is what HAProxy says of it in both places.
      const [, peer, client] = /^200 (\S+) (\S+)$/.exec(yield* ask(proxied))!
      assert.strictEqual(peer, client)
    }))

  for (const option of ["send-proxy", "send-proxy-v2"]) {
    it.live(`says who its client is with ${option}, to those who believe it`, () =>
      Effect.gen(function*() {
        const folder = yield* WebServers.temporaryDirectory
        const port = yield* WebServers.freePort
        const appPort = yield* WebServers.freePort
        const other = yield* WebServers.freePort
        const suspicious = yield* WebServers.freePort
        yield* listening({ port: appPort, proxyProtocol: ["127.0.0.1"] })
        yield* listening({ port: suspicious, proxyProtocol: ["192.0.2.1"] })
        yield* HAProxy.start(haproxy!, folder, [
          sections(port, `server app 127.0.0.1:${appPort} proto fcgi ${option}`),
          sections(other, `server app 127.0.0.1:${suspicious} proto fcgi ${option}`)
        ], [port, other])
        const [, peer, client] = /^200 (\S+) (\S+)$/.exec(yield* ask(port))!
        assert.strictEqual(peer, client)
        assert.match(yield* ask(other), /^50[23] /)
      }))
  }
})
