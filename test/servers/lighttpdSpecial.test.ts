/**
 * What lighttpd can do in front of an application beyond passing requests on: files, mount points and logs. Every configuration is
 * that of docs/lighttpd.md.
 */
import { assert, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fs from "node:fs"
import * as Path from "node:path"
import { CgiRequest, FastCgiParams } from "../../src/index.ts"
import { projectRoot } from "../support/files.ts"
import { describeWith } from "../support/requirement.ts"
import * as WebServers from "../support/webServers.ts"
import * as Application from "./support/application.ts"
import { digestOf, pieces } from "./support/content.ts"
import { open, request, type RequestOptions } from "./support/http.ts"
import * as Lighttpd from "./support/lighttpd.ts"
import type { Digest, Received } from "./support/messages.ts"
import * as Places from "./support/places.ts"

const page = Fs.readFileSync(Path.join(projectRoot, "docs/lighttpd.md"), "utf8")

describeWith(["lighttpd"], "lighttpd", (lighttpd) => {
  /** lighttpd as the page says under this title, and the application with these arguments. */
  const site = (
    title: string,
    options: {
      readonly fills?: (places: Places.Places) => ReadonlyArray<readonly [string, string]>
      readonly args?: (places: Places.Places) => ReadonlyArray<string>
      readonly more?: string
    } = {}
  ) =>
    Effect.gen(function*() {
      const { socket, ...site } = yield* Places.start(options.args)
      const configuration = WebServers.fill(WebServers.documented(page, "lighttpd", title), [
        ["/run/app/app.sock", socket],
        ...options.fills?.(site) ?? []
      ])
      const server = yield* Lighttpd.start(lighttpd!, site.folder, site.port, `${configuration}\n${options.more ?? ""}`)
      const send = (target: string, options?: RequestOptions) => request(site.port, target, options)
      return { ...site, server, send }
    })

  it.live("sends what is a file itself, and asks the application for the rest", () =>
    Effect.gen(function*() {
      const { application, send } = yield* site("files first", {
        fills: ({ files }) => [["server.document-root = \"/srv/www\"", `server.document-root := "${files}"`]],
        more: "mimetype.assign = ( \".txt\" => \"text/plain\" )"
      })
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
      assert.strictEqual((JSON.parse((yield* send("/")).text) as Received).url, "/")
      const posted = JSON.parse((yield* send("/new", { method: "POST", body: "a body" })).text) as Received
      assert.strictEqual(posted.body, "a body")
      assert.strictEqual(posted.url, "/new")
    }))

  it.live("with check-local asks the application for files only", () =>
    Effect.gen(function*() {
      const { send } = yield* site("the smallest good configuration", {
        fills: ({ files }) => [
          ["\"check-local\" => \"disable\"", "\"check-local\" => \"enable\""],
          ["server.stream-response-body = 2 ", `server.document-root := "${files}"\nserver.stream-response-body = 2 `]
        ]
      })
      assert.strictEqual((JSON.parse((yield* send("/plain.txt")).text) as Received).url, "/plain.txt")
      assert.strictEqual((yield* send("/hello")).status, 404)
    }))

  for (
    const { header, more, name } of [
      { name: "X-Sendfile", header: "X-Sendfile", more: [] },
      {
        name: "X-LIGHTTPD-send-file, under the option's old name",
        header: "X-LIGHTTPD-send-file",
        more: [["\"x-sendfile\" => \"enable\"", "\"allow-x-send-file\" => \"enable\""]] as const
      }
    ]
  ) {
    it.live(`sends the files that the application names with ${name}, whatever they are called`, () =>
      Effect.gen(function*() {
        const { files, folder, send, server } = yield* site("lighttpd sends the files", {
          fills: ({ files }) => [["/srv/files/", `${files}/`], ...more],
          // More than lighttpd has: the page says that it answers 403 to the rest.
          args: ({ files, folder }) => ["--send-file", JSON.stringify({ header, roots: [files, `${folder}/more`] })]
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
          assert.isUndefined(response.headers[header.toLowerCase()])
        }
        const plain = `${files}/plain.txt`
        const whole = yield* get(plain, "&type=application/x-own")
        assert.strictEqual(whole.headers["content-type"], "application/x-own")
        const etag = whole.headers["etag"]!
        assert.isDefined(etag)

        const head = yield* get(plain, "", { method: "HEAD" })
        assert.strictEqual(head.headers["content-length"], "20")
        assert.strictEqual(head.body.length, 0)
        const part = yield* get(plain, "", { headers: { range: "bytes=11-15" } })
        assert.strictEqual(part.status, 206)
        assert.strictEqual(part.text, "plain")
        assert.strictEqual(part.headers["content-range"], "bytes 11-15/20")
        assert.strictEqual((yield* get(plain, "", { headers: { range: "bytes=99-" } })).status, 416)
        const unchanged = yield* get(plain, "", { headers: { "if-none-match": etag } })
        assert.strictEqual(unchanged.status, 304)
        assert.strictEqual(unchanged.body.length, 0)
        assert.strictEqual((yield* get(plain, "", { headers: { "if-none-match": "\"other\"" } })).status, 200)

        // Not below the directories: the application sends it.
        Fs.writeFileSync(`${folder}/secret.txt`, "not lighttpd's")
        for (const path of [`${folder}/secret.txt`, `${files}/../secret.txt`]) {
          assert.strictEqual((yield* get(path)).text, "not lighttpd's")
        }
        // Below one that lighttpd does not have: it refuses.
        Fs.mkdirSync(`${folder}/more`)
        Fs.writeFileSync(`${folder}/more/secret.txt`, "not lighttpd's")
        const since = server.log().length
        const refused = yield* get(`${folder}/more/secret.txt`)
        assert.strictEqual(refused.status, 403)
        assert.notInclude(refused.text, "not lighttpd's")
        yield* server.says("not under configured x-sendfile-docroot(s)", since)
        assert.strictEqual((yield* get(`${files}/missing.txt`)).status, 500)
      }))
  }

  it.live("gives an application that takes its URL from the script the path of its error page", () =>
    Effect.gen(function*() {
      const { send } = yield* site("error pages of the application", {
        fills: ({ files }) => [["server.document-root = \"/srv/www\"", `server.document-root := "${files}"`]],
        args: () => ["--url-from", "script"]
      })
      assert.strictEqual((yield* send("/plain.txt")).text, "content of plain.txt")
      const page = JSON.parse((yield* send("/missing%2Ftxt?a=b")).text) as Received
      assert.strictEqual(page.url.replace(/\?.*/, ""), "/not-found")
      assert.strictEqual(page.originalUrl, "http://example.test/missing%2Ftxt?a=b")
      assert.strictEqual((JSON.parse((yield* send("/not-found/%7e")).text) as Received).url, "/not-found/%7e")
    }))

  it.live("mounts the application below a path", () =>
    Effect.gen(function*() {
      const { send } = yield* site("the application below a path", { args: () => ["--base-path", "/app"] })
      assert.strictEqual((yield* send("/app/hello")).text, "Hello world!")
      assert.strictEqual((yield* send("/%61pp/hello")).text, "Hello world!")
      const received = JSON.parse((yield* send("/app/caf%C3%A9/x%2Fy?a=/b")).text) as Received
      assert.strictEqual(received.url, "/caf%C3%A9/x%2Fy?a=/b")
      assert.strictEqual(received.originalUrl, "http://example.test/app/caf%C3%A9/x%2Fy?a=/b")
      const { pathInfo, scriptName } = CgiRequest.variables(FastCgiParams.fromEntries(received.params))
      assert.strictEqual(scriptName, "/app")
      assert.strictEqual(pathInfo, "/café/x/y")
      assert.strictEqual((JSON.parse((yield* send("/app")).text) as Received).url, "/")
      assert.strictEqual((yield* send("/apple")).status, 404)
    }))

  it.live("writes a request's log lines to its error log, and answers as without them", () =>
    Effect.gen(function*() {
      const { send, server } = yield* site("the smallest good configuration", { args: () => ["--log-to-web-server"] })
      for (const [i, query] of ["", "&during", "&code=404", "&size=5000"].entries()) {
        const since = server.log().length
        assert.strictEqual((yield* send(`/log?text=mark-${i}${query}`)).text, "logged")
        yield* server.says(new RegExp(`level=WARN .*mark-${i}-0`), since)
      }
      for (const during of ["", "&during"]) {
        for (const method of ["GET", "HEAD"]) {
          for (const size of [10, 47, 300, 1010, 3000]) {
            const response = yield* send(`/log?lines=80&size=${size}${during}`, { method })
            assert.strictEqual(response.status, 200)
            assert.strictEqual(response.text, method === "HEAD" ? "" : "logged")
          }
        }
      }
      yield* server.says("more log lines of this request are left out")
    }))

  it.live("serves others while clients are slow to take their responses", () =>
    Effect.gen(function*() {
      const { application, port, send } = yield* site("the smallest good configuration")
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

  // What somebody has who has had another FastCGI application behind lighttpd: only the program in bin-path changes.
  it.live("takes an ordinary configuration as it stands: bin-path, check-local, allow-x-send-file", () =>
    Effect.gen(function*() {
      const folder = Fs.realpathSync(yield* WebServers.temporaryDirectory)
      const control = Path.join(folder, "control.sock")
      const application = yield* Application.converse(control)
      const file = Path.join(folder, "a file.txt")
      Fs.writeFileSync(file, "sent by lighttpd")
      const sendFile = JSON.stringify({ header: "X-LIGHTTPD-send-file", roots: [folder] }).replaceAll("\"", "\\\"")
      const binPath = [process.execPath, ...Application.command(control, "--send-file", sendFile)].join(" ")
      const port = yield* WebServers.freePort
      yield* Lighttpd.start(
        lighttpd!,
        folder,
        port,
        `server.modules += ( "mod_fastcgi" )
fastcgi.server = (
  "/" => ((
    "socket" => "${folder}/app.sock",
    "bin-path" => "${binPath}",
    "max-procs" => 2,
    "check-local" => "disable",
    "allow-x-send-file" => "enable"
  ))
)
`
      )
      yield* application.started(2)
      assert.strictEqual((yield* request(port, "/hello")).text, "Hello world!")
      const root = JSON.parse((yield* request(port, "/?a=b")).text) as Received
      assert.strictEqual(root.url, "/?a=b")
      const posted = JSON.parse(
        (yield* request(port, "/form/gr%C3%BC%C3%9Fe?a=b", { method: "POST", body: "name=value" })).text
      ) as Received
      assert.strictEqual(posted.url, "/form/gr%C3%BC%C3%9Fe?a=b")
      assert.strictEqual(posted.body, "name=value")
      const sent = yield* request(port, `/file?path=${encodeURIComponent(file)}`, { headers: { range: "bytes=5-6" } })
      assert.strictEqual(sent.status, 206)
      assert.strictEqual(sent.text, "by")
      const large = yield* request(port, "/digest", { method: "POST", body: pieces(3_000_000) })
      assert.strictEqual((JSON.parse(large.text) as Digest).sha256, digestOf(3_000_000))
      const many = yield* Effect.forEach(Array.from({ length: 200 }), () => request(port, "/hello"), {
        concurrency: 16
      })
      assert.isTrue(many.every((response) => response.text === "Hello world!"))
    }))
})
