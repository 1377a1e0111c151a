/**
 * What nginx can do in front of an application beyond passing requests on: files, authorization, error pages, mount points, TLS and
 * logs. Every configuration is that of docs/nginx.md.
 */
import { assert, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Fs from "node:fs"
import * as Https from "node:https"
import * as Path from "node:path"
import { CgiRequest, FastCgiParams } from "../../src/index.ts"
import { projectRoot } from "../support/files.ts"
import { describeWith } from "../support/requirement.ts"
import * as WebServers from "../support/webServers.ts"
import { within } from "../support/within.ts"
import * as Application from "./support/application.ts"
import { digestOf, pieces } from "./support/content.ts"
import { open, request, type RequestOptions } from "./support/http.ts"
import type { Digest, Received } from "./support/messages.ts"
import * as Nginx from "./support/nginx.ts"
import * as Places from "./support/places.ts"

const page = Fs.readFileSync(Path.join(projectRoot, "docs/nginx.md"), "utf8")

describeWith(["nginx"], "nginx", (nginx) => {
  /** nginx as the page says under this title, and the application with these arguments. */
  const site = (
    title: string,
    options: {
      readonly fills?: (places: Places.Places) => ReadonlyArray<readonly [string, string]>
      readonly args?: (places: Places.Places) => ReadonlyArray<string>
      readonly listen?: string
    } = {}
  ) =>
    Effect.gen(function*() {
      const { socket, ...site } = yield* Places.start(options.args)
      const listen = options.listen ?? "listen 80;"
      const block = WebServers.fill(WebServers.documented(page, "nginx", title), [
        [listen, listen.replace(/\d+/, `127.0.0.1:${site.port}`)],
        ["unix:/run/app/app.sock", `unix:${socket}`],
        ["include fastcgi_params;", "include /etc/nginx/fastcgi_params;"],
        ...options.fills?.(site) ?? []
      ])
      const server = yield* Nginx.start(nginx!, site.folder, [block], [site.port])
      const send = (target: string, options?: RequestOptions) => request(site.port, target, options)
      return { ...site, server, send }
    })

  it.live("does not hold up a stop of the application with a client that has stopped reading", () =>
    Effect.gen(function*() {
      const { application, port } = yield* site("streaming both ways", { args: () => ["--graceful", "300"] })
      const response = yield* open(port, "/download?size=100000000")
      assert.strictEqual(response.status, 200)
      const stopped = yield* within("the end of the application", 10)(application.program.stop("SIGTERM"))
      assert.deepStrictEqual(stopped, { code: 0, signal: null })
    }))

  it.live("sends what is a file itself, and asks the application for the rest", () =>
    Effect.gen(function*() {
      const { application, send } = yield* site("files first", { fills: ({ files }) => [["/srv/www", files]] })
      const before = (yield* application.measure).handled
      for (
        const [target, text] of [["/plain.txt", "content of plain.txt"], ["/a%20b%2Bc.txt", "content of a b+c.txt"]]
      ) {
        assert.strictEqual((yield* send(target!)).text, text)
      }
      assert.strictEqual((yield* application.measure).handled, before, "the application was asked for a file")
      assert.strictEqual((yield* send("/hello")).text, "Hello world!")
      const received = JSON.parse((yield* send("/sub/missing%2Ftxt?a=b")).text) as Received
      assert.strictEqual(received.url, "/sub/missing%2Ftxt?a=b")
      // A name that leads out of the files does not lead to the application's either.
      assert.strictEqual((yield* send("/..%2Fapp.sock")).status, 400)
    }))

  const sendFile = (header: string) => ({ files }: Places.Places) => [
    "--send-file",
    JSON.stringify({ header, roots: [{ directory: files, location: "/protected" }] })
  ]

  it.live("sends the files that the application names, whatever they are called", () =>
    Effect.gen(function*() {
      const { files, folder, send } = yield* site("nginx sends the files", {
        fills: ({ files }) => [["/srv/files/", `${files}/`]],
        args: sendFile("X-Accel-Redirect")
      })
      const get = (path: string, more = "", options?: RequestOptions) =>
        send(`/file?path=${encodeURIComponent(path)}${more}`, options)
      for (const name of Places.fileNames) {
        const response = yield* get(`${files}/${name}`)
        assert.strictEqual(response.status, 200, name)
        assert.strictEqual(response.text, `content of ${name}`)
        assert.strictEqual(response.headers["content-length"], String(Buffer.byteLength(response.text)))
        assert.strictEqual(response.headers["content-type"], "text/plain")
        assert.strictEqual(response.headers["content-disposition"], "inline")
        assert.strictEqual(response.headers["cache-control"], "private, max-age=60")
        assert.isUndefined(response.headers["x-accel-redirect"])
      }
      const plain = `${files}/plain.txt`
      const whole = yield* get(plain, "&type=application/x-own")
      assert.strictEqual(whole.headers["content-type"], "application/x-own")
      // The tag is nginx's own, of time and size: it is nginx that has sent the file.
      const etag = whole.headers["etag"]!
      const { mtimeMs, size } = Fs.statSync(plain)
      assert.strictEqual(etag, `"${Math.floor(mtimeMs / 1000).toString(16)}-${size.toString(16)}"`)

      const head = yield* get(plain, "", { method: "HEAD" })
      assert.strictEqual(head.headers["content-length"], "20")
      assert.strictEqual(head.body.length, 0)
      const part = yield* get(plain, "", { headers: { range: "bytes=11-15" } })
      assert.strictEqual(part.status, 206)
      assert.strictEqual(part.text, "plain")
      assert.strictEqual(part.headers["content-range"], "bytes 11-15/20")
      const resumed = yield* get(plain, "", { headers: { range: "bytes=11-15", "if-range": etag } })
      assert.strictEqual(resumed.status, 206)
      assert.strictEqual((yield* get(plain, "", { headers: { range: "bytes=99-" } })).status, 416)
      const unchanged = yield* get(plain, "", { headers: { "if-none-match": etag } })
      assert.strictEqual(unchanged.status, 304)
      assert.strictEqual(unchanged.body.length, 0)
      assert.strictEqual((yield* get(plain, "", { headers: { "if-none-match": "\"other\"" } })).status, 200)

      // Not below the directory: the application sends it, and knows the length.
      Fs.writeFileSync(`${folder}/secret.txt`, "not nginx's")
      for (const path of [`${folder}/secret.txt`, `${files}/../secret.txt`]) {
        const response = yield* get(path)
        assert.strictEqual(response.text, "not nginx's")
        assert.notStrictEqual(response.headers["etag"], etag)
      }
      assert.strictEqual((yield* get(`${files}/missing.txt`)).status, 500)
      // Only the application gets there.
      assert.strictEqual((yield* send("/protected/plain.txt")).status, 404)
    }))

  it.live("sends the files of HttpStaticServer, whose tags are nginx's then", () =>
    Effect.gen(function*() {
      const { send } = yield* site("nginx sends the files", {
        fills: ({ files }) => [["/srv/files/", `${files}/`]],
        args: (places) => ["--static", places.files, ...sendFile("X-Accel-Redirect")(places)]
      })
      const get = (headers: Record<string, string> = {}) => send("/static/what%3Fis%23this.txt", { headers })
      const whole = yield* get()
      assert.strictEqual(whole.text, "content of what?is#this.txt")
      assert.strictEqual(whole.headers["content-type"], "text/plain; charset=utf-8")
      // HttpStaticServer says it as well; twice it would be "bytes, bytes".
      assert.strictEqual(whole.headers["accept-ranges"], "bytes")
      const etag = whole.headers["etag"]!
      assert.match(etag, /^"[0-9a-f]+-1b"$/)
      assert.strictEqual((yield* get({ "if-none-match": etag })).status, 304)
      // What the client resumes is what it has begun with.
      const resumed = yield* get({ range: "bytes=11-14", "if-range": etag })
      assert.strictEqual(resumed.status, 206)
      assert.strictEqual(resumed.text, "what")
      assert.strictEqual(resumed.headers["etag"], etag)
      const changed = yield* get({ range: "bytes=11-14", "if-range": "\"other\"" })
      assert.strictEqual(changed.status, 200)
      assert.strictEqual(changed.text, whole.text)
      const part = yield* get({ range: "bytes=11-14" })
      assert.strictEqual(part.status, 206)
      assert.strictEqual(part.text, "what")
    }))

  const withUrlFrom = (...args: ReadonlyArray<string>) =>
    site("pages that nginx asks for", {
      fills: () => [["ssi on;", "ssi on;\n    error_page 418 /teapot;"]],
      args: () => args
    })

  it.live("gives an application that takes its URL from the script what it asks for itself", () =>
    Effect.gen(function*() {
      const { send } = yield* withUrlFrom("--url-from", "script")
      const included = (yield* send("/page?include=%2Ffragment%2Fgr%25C3%25BC%25C3%259Fe%3Fa%3Db")).text
      const fragment = JSON.parse(/^<p>(.*)<\/p>$/s.exec(included)![1]!) as Received
      assert.strictEqual(fragment.url, "/fragment/gr%C3%BC%C3%9Fe?a=b")
      assert.match(fragment.originalUrl, /\/page\?include=/)
      const forwarded = JSON.parse((yield* send("/forward?to=%2Felse%3Fc%3Dd")).text) as Received
      assert.strictEqual(forwarded.url, "/else?c=d")
      for (
        const [target, code, url] of [["/status?code=404", 404, "/not-found"], [
          "/status?code=418",
          418,
          "/teapot"
        ]] as const
      ) {
        const page = yield* send(target)
        assert.strictEqual(page.status, code)
        assert.strictEqual((JSON.parse(page.text) as Received).url.replace(/\?.*/, ""), url)
      }
      // What the client asks for is as it has asked for it.
      for (const target of ["/a%2Fb/%7e?c=%2F", "/what%3Fis%23this", "/caf%c3%a9", "/?"]) {
        assert.strictEqual((JSON.parse((yield* send(target)).text) as Received).url, target.replace(/\?$/, ""))
      }
    }))

  it.live("gives an application that does not what the client has asked for", () =>
    Effect.gen(function*() {
      const { send } = yield* withUrlFrom()
      // The page would include itself; nginx stops it.
      assert.notInclude((yield* send("/page")).text, "originalUrl")
      const page = yield* send("/status?code=404")
      assert.strictEqual(page.status, 404)
      assert.notInclude(page.text, "not-found\"")
    }))

  it.live("asks the application who may in", () =>
    Effect.gen(function*() {
      const { application, files, send } = yield* site("an application decides", {
        fills: ({ folder }) => [
          ["root /srv/www;", `root ${folder}/www;`],
          [
            "add_header X-Seen-By $user;",
            "add_header X-Seen-By $user; auth_request_set $for $upstream_http_x_asked_for; add_header X-Asked-For $for;"
          ]
        ]
      })
      const secrets = Path.join(Path.dirname(files), "www/private")
      Fs.mkdirSync(secrets, { recursive: true })
      Fs.writeFileSync(Path.join(secrets, "a b.txt"), "for the few")
      const authorization = "Bearer let me in"
      const target = "/private/a%20b.txt?c=d"

      const denied = yield* send(target)
      assert.strictEqual(denied.status, 401)
      assert.strictEqual(denied.headers["www-authenticate"], "Bearer")
      assert.notInclude(denied.text, "for the few")
      const spoofed = yield* send(target, { headers: { "x-original-uri": "/public", "x-user": "alice" } })
      assert.strictEqual(spoofed.status, 401)

      const allowed = yield* send(target, { headers: { authorization } })
      assert.strictEqual(allowed.text, "for the few")
      assert.strictEqual(allowed.headers["x-seen-by"], "alice")
      assert.strictEqual(allowed.headers["x-asked-for"], target)
      const elsewhere = yield* send(target, { headers: { authorization, "x-original-uri": "/public" } })
      assert.strictEqual(elsewhere.headers["x-asked-for"], target, "a client says what it has asked for")
      // A body, which is not passed on, and the next request on the connection is in order.
      const posted = yield* send(target, { method: "POST", headers: { authorization }, body: "a body" })
      assert.strictEqual(posted.status, 405)
      assert.strictEqual((yield* send(target, { headers: { authorization } })).status, 200)
      assert.strictEqual((yield* send("/auth", { headers: { authorization } })).status, 404, "it is internal")

      // And lets nobody in when the application is gone.
      yield* application.program.stop()
      assert.strictEqual((yield* send(target, { headers: { authorization } })).status, 500)
    }))

  it.live("puts its own pages in place of the application's errors", () =>
    Effect.gen(function*() {
      const { application, files, send } = yield* site("nginx's own pages", {
        fills: ({ files }) => [["/srv/www", files]]
      })
      Fs.mkdirSync(Path.join(files, "errors"))
      for (const name of ["404", "50x"]) Fs.writeFileSync(Path.join(files, `errors/${name}.html`), `page ${name}`)
      for (
        const [target, status, text] of [
          ["/status?code=404", 404, "page 404"],
          ["/die", 500, "page 50x"],
          ["/status?code=503", 503, "page 50x"],
          ["/status?code=418", 418, ""],
          ["/hello", 200, "Hello world!"]
        ] as const
      ) {
        const response = yield* send(target)
        assert.strictEqual(response.status, status)
        assert.strictEqual(response.text, text)
      }
      assert.strictEqual((yield* send("/errors/50x.html")).status, 404, "it is internal")
      yield* application.program.stop()
      const gone = yield* send("/hello")
      assert.strictEqual(gone.status, 502)
      assert.strictEqual(gone.text, "page 50x")
    }))

  it.live("mounts the application below a path", () =>
    Effect.gen(function*() {
      const { send } = yield* site("the application below a path", { args: () => ["--base-path", "/app"] })
      assert.strictEqual((yield* send("/app/hello")).text, "Hello world!")
      assert.strictEqual((yield* send("/%61pp/hello")).text, "Hello world!")
      const received = JSON.parse((yield* send("/app/caf%C3%A9//x%2Fy?a=/b")).text) as Received
      assert.strictEqual(received.url, "/caf%C3%A9//x%2Fy?a=/b")
      assert.strictEqual(received.originalUrl, "http://example.test/app/caf%C3%A9//x%2Fy?a=/b")
      const { pathInfo, scriptName } = CgiRequest.variables(FastCgiParams.fromEntries(received.params))
      assert.strictEqual(scriptName, "/app")
      assert.strictEqual(pathInfo, "/café/x/y")
      assert.strictEqual((JSON.parse((yield* send("/app")).text) as Received).url, "/")
      assert.strictEqual((yield* send("/apple")).status, 404)
    }))

  it.live("refuses paths that no browser sends, as docs/security.md says", () =>
    Effect.gen(function*() {
      const security = Fs.readFileSync(Path.join(projectRoot, "docs/security.md"), "utf8")
      const refusal = WebServers.documented(security, "nginx", "refuse paths that no browser sends")
      const { send } = yield* site("the smallest good configuration", {
        fills: () => [["location / {", `${refusal}\n  location / {`]]
      })
      for (const target of ["/a/../hello", "/./hello", "/a/%2e%2E/hello", "/a%2f..%2fhello", "/a/.%2e", "/.?a"]) {
        assert.strictEqual((yield* send(target)).status, 400, target)
      }
      for (const target of ["/hello", "/hello?a=/../b", "/.well-known/x", "/a..b/c", "/a/...", "/a.b/"]) {
        assert.notStrictEqual((yield* send(target)).status, 400, target)
      }
    }))

  it.live("loses the port of the Host header to Debian's fastcgi_params, and gets it back as the page says", () =>
    Effect.gen(function*() {
      const line = "fastcgi_param HTTP_HOST $host:$server_port;"
      assert.include(page, `\`${line}\``)
      const include = "include /etc/nginx/fastcgi_params;"
      const lost = Fs.readFileSync("/etc/nginx/fastcgi_params", "utf8").includes("HTTP_HOST")
      for (const added of [false, true]) {
        const { port, send } = yield* site("the smallest good configuration", {
          fills: () => added ? [[include, `${line} ${include}`]] : []
        })
        const headers = { host: `example.test:${port}` }
        const received = JSON.parse((yield* send("/who", { headers })).text) as Received
        const host = lost && !added ? "example.test" : `example.test:${port}`
        assert.strictEqual(received.headers["host"], host)
        assert.strictEqual(received.originalUrl, `http://${host}/who`)
      }
    }))

  it.live("says what it knows of TLS and of the client's certificate", () =>
    Effect.gen(function*() {
      const openssl = (folder: string, ...args: ReadonlyArray<string>) =>
        Effect.map(
          WebServers.run({ name: "openssl", command: "/usr/bin/openssl", args, cwd: folder }),
          ({ code, log }) => assert.strictEqual(code, 0, log)
        )
      const certificates = Fs.realpathSync(yield* WebServers.temporaryDirectory)
      const days = ["-days", "2", "-nodes", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"]
      for (
        const [name, subject] of [["site", "/CN=example.test"], ["clients", "/CN=Test CA"], ["other", "/CN=Other CA"]]
      ) {
        yield* openssl(
          certificates,
          ...["req", "-x509", ...days, "-subj", subject!, "-keyout", `${name}.key`, "-out", `${name}.crt`]
        )
      }
      for (const [name, authority] of [["alice", "clients"], ["mallory", "other"]]) {
        yield* openssl(
          certificates,
          ...["req", "-new", ...days.slice(2), "-utf8", "-subj", `/O=Größe & Co/CN=${name}`],
          ...["-keyout", `${name}.key`, "-out", `${name}.csr`]
        )
        yield* openssl(
          certificates,
          ...["x509", "-req", "-in", `${name}.csr`, "-CA", `${authority}.crt`, "-CAkey", `${authority}.key`],
          ...["-set_serial", "0x0ABC", "-days", "2", "-out", `${name}.crt`]
        )
      }
      const read = (name: string) => Fs.readFileSync(Path.join(certificates, name), "utf8")
      const { port } = yield* site("TLS, and clients", {
        listen: "listen 443 ssl;",
        fills: () =>
          ["site.crt", "site.key", "clients.crt"].map((name) => [`/etc/ssl/${name}`, `${certificates}/${name}`])
      })
      const get = (client?: string) =>
        Effect.callback<{ readonly status: number; readonly text: string }, Error>((resume) => {
          const outgoing = Https.get({
            host: "127.0.0.1",
            port,
            path: "/who",
            servername: "example.test",
            headers: { host: "example.test" },
            ca: read("site.crt"),
            agent: false,
            ...(client === undefined ? {} : { cert: read(`${client}.crt`), key: read(`${client}.key`) })
          }, (message) => {
            let text = ""
            message.setEncoding("utf8").on("data", (chunk: string) => {
              text += chunk
            })
            message.on("end", () => resume(Effect.succeed({ status: message.statusCode!, text })))
          })
          outgoing.on("error", (error) => resume(Effect.fail(error)))
        })
      const seen = (client?: string) =>
        Effect.map(get(client), ({ status, text }) => {
          assert.strictEqual(status, 200, text)
          const received = JSON.parse(text) as Received
          assert.strictEqual(received.originalUrl, "https://example.test/who")
          return CgiRequest.variables(FastCgiParams.fromEntries(received.params))
        })

      const alice = yield* seen("alice")
      assert.isTrue(alice.https)
      assert.strictEqual(alice.ssl?.protocol, "TLSv1.3")
      assert.match(alice.ssl?.cipher ?? "", /^TLS_/)
      assert.strictEqual(alice.ssl?.serverName, "example.test")
      assert.isTrue(alice.ssl?.clientVerified)
      // RFC 2253, as nginx writes it.
      assert.strictEqual(alice.ssl?.clientSubject, "CN=alice,O=Gr\\C3\\B6\\C3\\9Fe & Co")
      assert.strictEqual(alice.ssl?.clientIssuer, "CN=Test CA")
      assert.strictEqual(alice.ssl?.clientSerial, "0ABC")
      const lifetime = alice.ssl!.clientNotAfter!.getTime() - alice.ssl!.clientNotBefore!.getTime()
      assert.strictEqual(lifetime, 2 * 24 * 60 * 60 * 1000)
      assert.match(alice.ssl?.clientFingerprint ?? "", /^[0-9a-f]{40}$/)
      assert.strictEqual(alice.ssl?.clientCertificate?.trim(), read("alice.crt").trim())

      const nobody = yield* seen()
      assert.strictEqual(nobody.ssl?.clientVerify, "NONE")
      assert.isFalse(nobody.ssl?.clientVerified)
      assert.isUndefined(nobody.ssl?.clientSubject)
      assert.isUndefined(nobody.ssl?.clientCertificate)

      // One of another authority does not get in at all, or is no word of its holder.
      const mallory = yield* get("mallory")
      assert.strictEqual(mallory.status, 400)
    }))

  it.live("passes on what a proxy in front of it says of TLS and the client", () =>
    Effect.gen(function*() {
      const { send } = yield* site("behind a proxy that ends TLS")
      const through = JSON.parse(
        (yield* send("/who", { headers: { "x-forwarded-proto": "https", "x-forwarded-for": "192.0.2.7" } })).text
      ) as Received
      assert.strictEqual(through.originalUrl, "https://example.test/who")
      assert.strictEqual(through.remoteAddress, "192.0.2.7")
      const plain = JSON.parse((yield* send("/who", { headers: { "x-forwarded-proto": "http" } })).text) as Received
      assert.strictEqual(plain.originalUrl, "http://example.test/who")
      assert.strictEqual(plain.remoteAddress, "127.0.0.1")
    }))

  for (const title of ["the smallest good configuration", "streaming both ways"]) {
    it.live(`writes a request's log lines to its error log: ${title}`, () =>
      Effect.gen(function*() {
        const { send, server } = yield* site(title, { args: () => ["--log-to-web-server"] })
        for (const [i, query] of ["", "&during", "&code=404", "&size=5000"].entries()) {
          const since = server.log().length
          const response = yield* send(`/log?text=mark-${i}${query}`)
          assert.strictEqual(response.text, "logged")
          const line = yield* server.says(new RegExp(`FastCGI sent in stderr: "level=WARN .*mark-${i}-0.*`), since)
          assert.include(line, `request: "GET /log?text=mark-${i}`)
          assert.isBelow(line.length, 2048)
        }
        // Of a failure as well, and of the handler's cause.
        const since = server.log().length
        assert.strictEqual((yield* send("/log?text=not-found&code=500")).status, 500)
        yield* server.says("not-found-0", since)
      }))
  }

  // With nginx's default of one page for the head, where lines in front of it are a 502 when the page ends between two of them.
  it.live("answers as without the logger, however many lines of whatever length a request writes", () =>
    Effect.gen(function*() {
      const folder = yield* WebServers.temporaryDirectory
      const socket = Path.join(folder, "app.sock")
      yield* Application.start(Path.join(folder, "control.sock"), "--path", socket, "--log-to-web-server")
      const rows = Nginx.matrix.filter((row) => /^UNIX.*request_buffering on/.test(row.name))
      const ports: Array<number> = []
      for (const _ of rows) ports.push(yield* WebServers.freePort)
      const blocks = rows.map((row, i) => row.server({ port: ports[i]!, socket, appPort: 1, upstream: `app${i}` }))
      const server = yield* Nginx.start(nginx!, folder, blocks, ports)
      for (const port of ports) {
        for (const during of ["", "&during"]) {
          for (const method of ["GET", "HEAD"]) {
            const sizes = [...Array.from({ length: 60 }, (_, i) => 1 + i), 300, 1010, 3000]
            for (const size of sizes) {
              const response = yield* request(port, `/log?lines=80&size=${size}${during}`, { method })
              assert.strictEqual(response.status, 200, `${method} ${size}${during}`)
              assert.strictEqual(response.text, method === "HEAD" ? "" : "logged")
            }
          }
        }
      }
      const log = server.log()
      assert.match(log, /stderr: "level=WARN .* message="-49 l/)
      assert.include(log, "more log lines of this request are left out")
      assert.notMatch(log, /message="-50 l/)
      assert.notInclude(log, "too big header")
    }))

  it.live("serves others while clients are slow to take their responses", () =>
    Effect.gen(function*() {
      const { application, port, send } = yield* site("streaming both ways")
      const size = 50_000_000
      const slow = yield* Effect.forEach(
        Array.from({ length: 16 }),
        () => open(port, `/download?size=${size}&length`),
        {
          concurrency: "unbounded"
        }
      )
      for (let i = 0; i < 200; i++) assert.strictEqual((yield* send("/hello")).text, "Hello world!")
      const digest = yield* send("/digest", { method: "POST", body: pieces(3_000_000) })
      assert.strictEqual((JSON.parse(digest.text) as Digest).sha256, digestOf(3_000_000))
      assert.strictEqual((yield* application.measure).handlers, 16, "somebody has taken everything")
      let taken = 0
      yield* slow[0]!.drain((chunk) => {
        taken += chunk.length
      })
      assert.strictEqual(taken, size)
    }))

  it.live("takes the end of a killed application for the end of its response, unless that has a length", () =>
    Effect.gen(function*() {
      for (const [length, complete] of [["", true], ["&length=100", false]] as const) {
        const { application, port } = yield* site("streaming both ways")
        const id = application.id()
        const opening = yield* Effect.forkScoped(open(port, `/broken?id=${id}${length}`), { startImmediately: true })
        yield* application.hears("Begun", id)
        yield* application.say({ _tag: "Emit", id, text: "half of it" })
        const response = yield* Fiber.join(opening)
        yield* response.received(10)
        process.kill(application.program.pid, "SIGKILL")
        assert.strictEqual(Exit.isSuccess(yield* Effect.exit(response.whole)), complete)
      }
    }))

  // What somebody has who has had another FastCGI application behind nginx: nothing but fastcgi_pass changes hands.
  for (const transport of ["127.0.0.1:3003", "unix:/run/app.sock"]) {
    it.live(`takes an ordinary configuration as it stands: fastcgi_pass ${transport}`, () =>
      Effect.gen(function*() {
        const folder = yield* WebServers.temporaryDirectory
        const socket = Path.join(folder, "app.sock")
        const taken = yield* Effect.exit(WebServers.accepts({ host: "127.0.0.1", port: 3003 }))
        // Another program may have the port.
        const appPort = taken._tag === "Success" ? yield* WebServers.freePort : 3003
        const { measure } = yield* Application.start(
          Path.join(folder, "control.sock"),
          ...transport.startsWith("unix:") ? ["--path", socket] : ["--port", String(appPort)]
        )
        const port = yield* WebServers.freePort
        const address = transport.replace("/run/app.sock", socket).replace("3003", String(appPort))
        yield* Nginx.start(nginx!, folder, [
          `server {
            listen 127.0.0.1:${port};
            server_name example.test;
            location / {
              include /etc/nginx/fastcgi_params;
              fastcgi_pass ${address};
            }
          }`
        ], [port])
        assert.strictEqual((yield* request(port, "/hello")).text, "Hello world!")
        const posted = JSON.parse(
          (yield* request(port, "/form/gr%C3%BC%C3%9Fe?a=b", { method: "POST", body: "name=value" })).text
        ) as Received
        assert.strictEqual(posted.method, "POST")
        assert.strictEqual(posted.url, "/form/gr%C3%BC%C3%9Fe?a=b")
        assert.strictEqual(posted.body, "name=value")
        assert.isFalse(posted.keepConnection)
        const large = yield* request(port, "/digest", { method: "POST", body: Buffer.concat([...pieces(1_000_000)]) })
        assert.strictEqual((JSON.parse(large.text) as Digest).sha256, digestOf(1_000_000))
        const download = yield* request(port, "/download?size=5000000")
        assert.isTrue(download.body.equals(Buffer.concat([...pieces(5_000_000)])))
        const many = yield* Effect.forEach(Array.from({ length: 200 }), () => request(port, "/hello"), {
          concurrency: 16
        })
        assert.isTrue(many.every((response) => response.text === "Hello world!"))
        assert.strictEqual((yield* measure).handlers, 0)
      }))
  }
})
