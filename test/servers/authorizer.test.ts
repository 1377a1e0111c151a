/**
 * An Authorizer in front of files and of an application, in every web server that has the role, configured as docs/authorizers.md
 * says: what it allows is served, what it denies is not, and neither is anything when something is wrong with it.
 */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as HttpRouter from "effect/http/HttpRouter"
import * as HttpServerRequest from "effect/http/HttpServerRequest"
import * as HttpServerResponse from "effect/http/HttpServerResponse"
import * as Layer from "effect/Layer"
import * as Fs from "node:fs"
import * as Path from "node:path"
import { NodeFastCgi } from "../../src/node/index.ts"
import { projectRoot } from "../support/files.ts"
import { programFile } from "../support/programFile.ts"
import { describeWith } from "../support/requirement.ts"
import * as WebServers from "../support/webServers.ts"
import * as Apache from "./support/apache.ts"
import { request, type RequestOptions, type Response } from "./support/http.ts"
import * as Lighttpd from "./support/lighttpd.ts"
import * as Nginx from "./support/nginx.ts"

const documented = (
  language: string,
  title: string,
  places: ReadonlyArray<readonly [placeholder: string, value: string]>
) =>
  WebServers.fill(
    WebServers.documented(Fs.readFileSync(Path.join(projectRoot, "docs/authorizers.md"), "utf8"), language, title),
    places
  )

/** The web server says it, and docs/authorizers.md explains it. */
const says = (server: WebServers.Program, message: string) =>
  Effect.map(
    server.says(message),
    () => assert.include(Fs.readFileSync(Path.join(projectRoot, "docs/authorizers.md"), "utf8"), `\`${message}\``)
  )

const program = programFile("test/servers/authorizer.ts")

/** Starts the authorizer, which is the guarded application as well, at a path or a port. */
const start = (address: { readonly path: string } | { readonly port: number }, ...args: ReadonlyArray<string>) =>
  WebServers.start({
    name: "the authorizer",
    command: process.execPath,
    args: [program, ...("path" in address ? ["--path", address.path] : ["--port", String(address.port)]), ...args],
    ready: WebServers.accepts("path" in address ? address : { host: "127.0.0.1", port: address.port })
  })

const guarded = "what is guarded"

/** A document root with a file in each of the folders. */
const documentRoot = (folder: string, ...folders: ReadonlyArray<string>) => {
  const root = Path.join(folder, "www")
  for (const name of folders) {
    Fs.mkdirSync(Path.join(root, name), { recursive: true })
    Fs.writeFileSync(Path.join(root, name, "file.txt"), guarded)
  }
  Fs.chmodSync(folder, 0o755)
  return root
}

const params = (response: Response): Record<string, string> => JSON.parse(response.text) as Record<string, string>

const basic = (user: string, password: string): RequestOptions => ({
  headers: { authorization: `Basic ${Buffer.from(`${user}:${password}`).toString("base64")}` }
})

/** Nothing of what is guarded has reached the client. */
const denied = (response: Response) => {
  assert.isAtLeast(response.status, 300, response.text)
  assert.notInclude(response.text, guarded)
  assert.notInclude(response.text, "REQUEST_URI")
  assert.notInclude(response.text, "secret")
}

/** Ways to be wrong, other than to deny: what the query asks the authorizer for, and what it then answers. */
const failures: ReadonlyArray<readonly [query: string, status: number]> = [
  ["defect", 500],
  ["failure", 500],
  ["timeout", 500],
  ["interrupt", 503],
  ["line-break-in-value", 500],
  ["line-break-in-name", 500],
  ["no-name", 500]
]

describeWith(["lighttpd"], "an authorizer of lighttpd", (lighttpd) => {
  const site = (...args: ReadonlyArray<string>) =>
    Effect.gen(function*() {
      const folder = yield* WebServers.temporaryDirectory
      const path = Path.join(folder, "auth.sock")
      const application = Path.join(folder, "app.sock")
      const root = documentRoot(folder, "private")
      const port = yield* WebServers.freePort
      const authorizer = yield* start({ path }, ...args)
      yield* start({ path: application })
      const server = yield* Lighttpd.start(
        lighttpd!,
        folder,
        port,
        documented("lighttpd", "an authorizer in front of files and of an application", [
          ["/run/app/auth.sock", path],
          ["/run/app/app.sock", application],
          ["/srv/www", root]
        ]) + `server.document-root := "${root}"\n`
      )
      return { authorizer, server, get: (target: string, options?: RequestOptions) => request(port, target, options) }
    })

  const targets = ["/private/file.txt", "/app/x"]

  it.live("allows, and its variables are variables of the application", () =>
    Effect.gen(function*() {
      const { get } = yield* site()
      assert.strictEqual((yield* get("/private/file.txt")).text, guarded)
      const asked = params(yield* get("/app/x?q"))
      assert.strictEqual(asked["AUTH_USER"], "ann")
      assert.strictEqual(asked["REQUEST_URI"], "/app/x?q")
      assert.strictEqual(params(yield* get("/app/x", { method: "POST", body: "abc" }))["CONTENT_LENGTH"], "3")
      // What a client says about itself is none of it.
      assert.strictEqual(params(yield* get("/app/x", { headers: { "Variable-AUTH_USER": "eve" } }))["AUTH_USER"], "ann")
    }))

  it.live("denies with its own response", () =>
    Effect.gen(function*() {
      const { get } = yield* site()
      for (const target of targets) {
        const forbidden = yield* get(`${target}?auth=deny`)
        assert.strictEqual(forbidden.status, 403)
        assert.strictEqual(forbidden.text, "not for you\n")
        assert.strictEqual(forbidden.headers["x-reason"], "not on the list")
        const login = yield* get(`${target}?auth=login`, { method: "POST", body: "abc" })
        assert.strictEqual(login.status, 401)
        assert.strictEqual(login.headers["www-authenticate"], "Basic realm=\"test\"")
        const redirect = yield* get(`${target}?auth=redirect`)
        assert.strictEqual(redirect.status, 302)
        assert.strictEqual(redirect.headers["location"], "/login")
        const mistaken = yield* get(`${target}?auth=deny-with-200`)
        assert.strictEqual(mistaken.status, 403)
        assert.strictEqual(mistaken.text, "denied")
      }
    }))

  it.live("denies when it fails in any way", () =>
    Effect.gen(function*() {
      const { get, server } = yield* site()
      for (const target of targets) {
        for (const [query, status] of failures) {
          const response = yield* get(`${target}?auth=${query}`)
          assert.strictEqual(response.status, status, query)
          denied(response)
        }
        denied(yield* get(`${target}?auth=too-much`))
      }
      // And goes on.
      assert.strictEqual((yield* get("/private/file.txt")).text, guarded)
      yield* says(server, "FastCGI-stderr:effect-fastcgi: the handler failed, see the application's log")
    }))

  it.live("denies when it has too much to do", () =>
    Effect.gen(function*() {
      const { authorizer, get } = yield* site("--max-requests", "1")
      yield* Effect.forkScoped(Effect.exit(get("/private/file.txt?auth=wait")), { startImmediately: true })
      yield* authorizer.says("waiting")
      for (const target of targets) {
        const response = yield* get(target)
        assert.strictEqual(response.status, 503)
        denied(response)
      }
    }))

  it.live("denies when it is stopped, has ended or is not there", () =>
    Effect.gen(function*() {
      for (const target of targets) {
        const first = yield* site()
        const stopped = yield* Effect.forkScoped(first.get(`${target}?auth=wait`), { startImmediately: true })
        yield* first.authorizer.says("waiting")
        yield* first.authorizer.stop("SIGTERM")
        denied(yield* Fiber.join(stopped))
        denied(yield* first.get(target))

        const second = yield* site()
        denied(yield* second.get(`${target}?auth=exit`))
        yield* says(second.server, "unexpected end-of-file (perhaps the fastcgi process died)")
        denied(yield* second.get(target))
      }
    }))

  it.live("denies everything when the application has no authorizer", () =>
    Effect.gen(function*() {
      const { get } = yield* site("--responder-only")
      const response = yield* get("/private/file.txt?auth=ok")
      assert.strictEqual(response.status, 403)
      assert.notInclude(response.text, guarded)
    }))
})

describeWith(["apache2", Apache.fcgidModule], "an authorizer of Apache", (apache) => {
  const modules = ["authz_user", "authn_core", "auth_basic"]

  /** mod_authnz_fcgi, which connects to the authorizer. */
  const listening = (...args: ReadonlyArray<string>) =>
    Effect.gen(function*() {
      const folder = yield* WebServers.temporaryDirectory
      const [port, authorizerPort, applicationPort] = [
        yield* WebServers.freePort,
        yield* WebServers.freePort,
        yield* WebServers.freePort
      ]
      const root = documentRoot(folder, "private", "restricted", "both", "session")
      const authorizer = yield* start({ port: authorizerPort }, ...args)
      yield* start({ port: applicationPort })
      const text = documented("apache", "an authorizer that listens", [
        ["fcgi://127.0.0.1:9001/", `fcgi://127.0.0.1:${authorizerPort}/`],
        ["fcgi://127.0.0.1:9000/", `fcgi://127.0.0.1:${applicationPort}/`],
        ["<VirtualHost *:80>", `Listen 127.0.0.1:${port}\n<VirtualHost 127.0.0.1:${port}>\nDocumentRoot "${root}"`]
      ])
      const server = yield* Apache.start(apache!, folder, text, [port], "mod_proxy_fcgi", [...modules, "authnz_fcgi"])
      return { authorizer, server, get: (target: string, options?: RequestOptions) => request(port, target, options) }
    })

  /** mod_fcgid, which starts the authorizer. */
  const started = (option: string | { readonly without: string } = "") =>
    Effect.gen(function*() {
      const folder = yield* WebServers.temporaryDirectory
      const port = yield* WebServers.freePort
      const root = documentRoot(folder, "private", "restricted", "session")
      const script = Path.join(folder, "auth")
      Fs.writeFileSync(
        script,
        `#!/bin/sh\nexec "${process.execPath}" "${program}" ${typeof option === "string" ? option : ""}\n`,
        {
          mode: 0o755
        }
      )
      const text = documented("apache", "an authorizer that Apache starts", [
        ["/srv/app/auth", script],
        ["<VirtualHost *:80>", `Listen 127.0.0.1:${port}\n<VirtualHost 127.0.0.1:${port}>\nDocumentRoot "${root}"`]
      ])
      const configuration = typeof option === "string" ? text : WebServers.fill(text, [[option.without, ""]])
      const server = yield* Apache.start(apache!, folder, configuration, [port], "mod_fcgid", modules)
      return { server, get: (target: string, options?: RequestOptions) => request(port, target, options) }
    })

  const ways = [
    ["mod_authnz_fcgi", listening, [
      "AH01617: user ann: authentication failure for \"/private/file.txt\": Password Mismatch",
      "AH01631: user bob: authorization failure for \"/restricted/file.txt\""
    ]],
    ["mod_fcgid", started, [
      "mod_fcgid: Authentication of user ann to access /private/file.txt failed, reason: script returned status 401",
      "mod_fcgid: Authorization of user bob to access /restricted/file.txt failed, reason: script returned status 403"
    ]]
  ] as const

  for (const [name, site, messages] of ways) {
    describe(name, () => {
      it.live("is asked about the password, and about the user", () =>
        Effect.gen(function*() {
          const { get, server } = yield* site()
          const folders = name === "mod_fcgid" ? ["restricted"] : ["restricted", "both"]
          assert.strictEqual((yield* get("/private/file.txt", basic("bob", "secret"))).text, guarded)
          for (const folder of ["private", ...folders]) {
            const target = `/${folder}/file.txt`
            assert.strictEqual((yield* get(target, basic("ann", "secret"))).text, guarded)
            for (const who of [undefined, basic("ann", "wrong"), basic("eve", "secret")]) {
              const response = yield* get(target, who)
              assert.strictEqual(response.status, 401)
              assert.match(response.headers["www-authenticate"] ?? "", /^Basic realm=/)
              denied(response)
            }
          }
          for (const folder of folders) {
            const response = yield* get(`/${folder}/file.txt`, basic("bob", "secret"))
            assert.strictEqual(response.status, 401)
            denied(response)
          }
          for (const message of messages) yield* says(server, message)
        }))

      it.live("denies when it fails in any way, in every phase", () =>
        Effect.gen(function*() {
          const { get } = yield* site()
          for (const [query] of [...failures, ["too-much"], ["deny"], ["login"], ["deny-with-200"]] as const) {
            for (const phase of ["authenticator", "authorizer"]) {
              const target = `/restricted/file.txt?${phase}=${query}`
              denied(yield* get(target, basic("ann", "secret")))
            }
            for (const folder of name === "mod_fcgid" ? ["private", "session"] : ["private", "both", "session"]) {
              denied(yield* get(`/${folder}/file.txt?auth=${query}`, basic("ann", "secret")))
            }
          }
          assert.strictEqual((yield* get("/restricted/file.txt", basic("ann", "secret"))).text, guarded)
        }))

      it.live("denies when it ends", () =>
        Effect.gen(function*() {
          for (
            const target of [
              "/private/file.txt?auth=exit",
              "/restricted/file.txt?authorizer=exit",
              "/session/file.txt?auth=exit"
            ]
          ) {
            const { get } = yield* site()
            const response = yield* Effect.exit(get(target, basic("ann", "secret")))
            if (Exit.isSuccess(response)) denied(response.value)
          }
        }))

      it.live("denies everything when the application has no authorizer", () =>
        Effect.gen(function*() {
          const { get } = yield* site("--responder-only")
          for (const folder of ["private", "restricted", "session"]) {
            const response = yield* get(`/${folder}/file.txt`, basic("ann", "secret"))
            assert.include([401, 403], response.status)
            denied(response)
          }
        }))
    })
  }

  it.live("mod_authnz_fcgi: its variables are variables of the application", () =>
    Effect.gen(function*() {
      const { get } = yield* listening()
      const asked = params(yield* get("/restricted/app/x", basic("ann", "secret")))
      assert.strictEqual(asked["REMOTE_USER"], "ann")
      assert.strictEqual(asked["ASKED_AUTHENTICATOR"], "yes")
      assert.strictEqual(asked["ASKED_AUTHORIZER"], "yes")
      const session = params(yield* get("/session/app/x"))
      assert.strictEqual(session["REMOTE_USER"], "ann")
      assert.strictEqual(session["ASKED_AUTHENTICATOR"], "yes")
    }))

  it.live("mod_authnz_fcgi: AuthnzFcgiCheckAuthnProvider denies with its own response", () =>
    Effect.gen(function*() {
      const { get } = yield* listening()
      const forbidden = yield* get("/session/file.txt?auth=deny")
      assert.strictEqual(forbidden.status, 403)
      assert.strictEqual(forbidden.text, "not for you\n")
      const redirect = yield* get("/session/app/x?auth=redirect")
      assert.strictEqual(redirect.status, 302)
      assert.strictEqual(redirect.headers["location"], "/login")
    }))

  it.live("mod_authnz_fcgi: denies when it has too much to do, is stopped, or is not there", () =>
    Effect.gen(function*() {
      const { authorizer, get } = yield* listening("--max-requests", "1")
      const targets = ["/private/file.txt", "/both/file.txt", "/session/file.txt"]
      const waiting = yield* Effect.forkScoped(get("/session/file.txt?auth=wait"), { startImmediately: true })
      yield* authorizer.says("waiting")
      for (const target of targets) denied(yield* get(target, basic("ann", "secret")))
      yield* authorizer.stop("SIGTERM")
      denied(yield* Fiber.join(waiting))
      for (const target of targets) denied(yield* get(target, basic("ann", "secret")))
    }))

  it.live("mod_fcgid: FcgidAccessChecker asks before there is a user", () =>
    Effect.gen(function*() {
      const { get, server } = yield* started()
      const allowed = yield* get("/session/file.txt")
      assert.strictEqual(allowed.text, guarded)
      // docs/authorizers.md warns of it.
      assert.strictEqual(allowed.headers["variable-auth_user"], "ann")
      yield* server.says("\"FCGI_APACHE_ROLE\":\"ACCESS_CHECKER\"")
      denied(yield* get("/session/file.txt?auth=deny"))
      yield* says(
        server,
        "mod_fcgid: Access check to access /session/file.txt failed, reason: script returned status 403"
      )
    }))

  it.live("mod_fcgid: mod_auth_basic has to be told that it does not decide", () =>
    Effect.gen(function*() {
      const { get, server } = yield* started({ without: "AuthBasicAuthoritative Off" })
      assert.strictEqual((yield* get("/private/file.txt", basic("ann", "secret"))).status, 500)
      yield* says(server, "AH01616: No Authn provider configured")
    }))
})

describeWith(["nginx"], "auth_request of nginx", (nginx) => {
  const routes = HttpRouter.add(
    "*",
    "/auth",
    Effect.map(HttpServerRequest.HttpServerRequest, ({ headers, method }) => {
      const target = new URL(headers["x-original-uri"] ?? "", "http://localhost")
      const status = Number(target.searchParams.get("status") ?? 204)
      return HttpServerResponse.empty({
        status,
        headers: {
          "x-user": `ann-${method}-${headers["content-length"] ?? "none"}`,
          "www-authenticate": "Basic realm=\"test\""
        }
      })
    })
  )

  it.live("asks the application, and passes on what it says", () =>
    Effect.gen(function*() {
      const folder = yield* WebServers.temporaryDirectory
      const root = documentRoot(folder, "private")
      const [path, application] = [Path.join(folder, "auth.sock"), Path.join(folder, "app.sock")]
      const port = yield* WebServers.freePort
      yield* Layer.build(
        HttpRouter.serve(routes, { disableListenLog: true, disableLogger: true }).pipe(
          Layer.provide(NodeFastCgi.layer({ path }))
        )
      )
      yield* start({ path: application })
      const block = documented("nginx", "an application is asked first", [
        ["listen 80;", `listen 127.0.0.1:${port};`],
        ["/srv/www", root],
        ["include fastcgi_params;", "include /etc/nginx/fastcgi_params;"],
        ["/run/app/auth.sock", path],
        ["/run/app/app.sock", application]
      ])
      const server = yield* Nginx.start(nginx!, folder, [block], [port])
      assert.strictEqual((yield* request(port, "/private/file.txt")).text, guarded)
      const asked = params(yield* request(port, "/private/app/x", { method: "POST", body: "abc" }))
      assert.strictEqual(asked["REMOTE_USER"], "ann-POST-none")
      assert.strictEqual(asked["CONTENT_LENGTH"], "3")
      for (const target of ["/private/file.txt", "/private/app/x"]) {
        for (const [answer, status] of [[401, 401], [403, 403], [404, 500], [500, 500], [503, 500]] as const) {
          const response = yield* request(port, `${target}?status=${answer}`, { headers: { "x-original-uri": "/" } })
          assert.strictEqual(response.status, status)
          denied(response)
          if (status === 401) assert.strictEqual(response.headers["www-authenticate"], "Basic realm=\"test\"")
        }
      }
      assert.strictEqual((yield* request(port, "/auth")).status, 404)
      yield* says(server, "auth request unexpected status: 404 while sending to client")
    }))
})
