/** What the PHP front does with files, scripts and what scripts ask for, with a real php-fpm. */
import * as NodeHttpServer from "@effect/platform-node/NodeHttpServer"
import { assert, it } from "@effect/vitest"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as HttpRouter from "effect/http/HttpRouter"
import * as HttpServer from "effect/http/HttpServer"
import * as HttpServerResponse from "effect/http/HttpServerResponse"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as References from "effect/References"
import * as Fs from "node:fs"
import { createServer } from "node:http"
import { join } from "node:path"
import * as FastCgiGateway from "../../src/client/FastCgiGateway.ts"
import * as NodeFastCgiConnector from "../../src/node/NodeFastCgiConnector.ts"
import * as PhpFpm from "../client/phpFpm.ts"
import { describeWith } from "../support/requirement.ts"
import { until } from "../support/webServers.ts"
import { type Answer, raw } from "./raw.ts"
import * as Tree from "./tree.ts"

const scripts: Readonly<Record<string, string>> = {
  "accel.php": `<?php if (isset($_GET["type"])) header("Content-Type: " . $_GET["type"]);
header("X-Own: kept"); header("ETag: \\"script\\""); setcookie("first", "1"); header("X-Accel-Redirect: " . $_GET["to"]); echo "not this";`,
  "loop.php": `<?php $n = (int) $_GET["n"]; setcookie("n$n", "1"); header("Content-Type: text/plain");
if ($n > 0) { header("X-Accel-Redirect: /loop.php?n=" . ($n - 1)); exit; }
echo json_encode(["method" => $_SERVER["REQUEST_METHOD"], "uri" => $_SERVER["REQUEST_URI"], "query" => $_SERVER["QUERY_STRING"],
  "length" => $_SERVER["CONTENT_LENGTH"] ?? null, "body" => file_get_contents("php://input")]);`,
  "sendfile.php": `<?php header("Content-Type: application/pdf"); header("X-Sendfile: " . $_GET["to"]);`,
  "endless.php": `<?php header("X-Accel-Redirect: /protected/secret.txt"); while (ob_get_level()) ob_end_flush();
register_shutdown_function(fn () => touch(__DIR__ . (connection_aborted() ? "/given-up" : "/to-the-end")));
for ($i = 0; $i < 1000; $i++) { echo str_repeat("x", 65536); flush(); }`,
  "fatal.php": `<?php function f() { no_such_function(); } f();`,
  "uncaught.php": `<?php ini_set("display_errors", "0"); throw new RuntimeException("the secret reason");`,
  "late.php":
    `<?php ini_set("display_errors", "0"); header("Content-Type: text/plain"); while (ob_get_level()) ob_end_flush();
echo "begun"; flush(); throw new RuntimeException("too late");`,
  "sleep.php": `<?php sleep(20);`,
  "kill.php": `<?php exec("kill -9 " . getmypid()); sleep(5);`,
  "session.php":
    `<?php session_save_path(__DIR__ . "/../sessions"); session_start(); $_SESSION["n"] = ($_SESSION["n"] ?? 0) + 1; echo $_SESSION["n"];`
}

interface Line {
  readonly message: string
  readonly annotations: Readonly<Record<string, unknown>>
}

class Php
  extends Context.Service<Php, PhpFpm.PhpFpm & { readonly root: string; readonly port: number }>()("test/Php")
{}

const lines: Array<Line> = []

const logged = Logger.make(({ fiber, message }) => {
  lines.push({
    message: Array.isArray(message) ? message.join(" ") : String(message),
    annotations: fiber.getRef(References.CurrentLogAnnotations)
  })
})

const serve = <E, R>(app: Layer.Layer<never, E, R>) =>
  Effect.gen(function*() {
    const context = yield* Layer.build(
      Layer.provideMerge(app, NodeHttpServer.layer(createServer, { host: "127.0.0.1", port: 0 }))
    )
    const { address } = Context.get(context, HttpServer.HttpServer)
    assert.ok("port" in address)
    return address.port
  })

const serveSite = <E, R>(options: FastCgiGateway.FastCgiPhpOptions<E, R>) =>
  serve(Layer.unwrap(Effect.map(FastCgiGateway.php(options), (app) => HttpServer.serve(app))))

const onlySays = (status: string, { body }: Answer) => {
  assert.include(body, `<h1>${status}</h1>`)
  assert.notMatch(body, /php|socket|fastcgi|application|\/tmp|reason/i)
}

describeWith(["php-fpm8.2"], "a PHP site", (command) => {
  const started = Effect.gen(function*() {
    const php = yield* PhpFpm.start(command)
    const root = Tree.make(php.folder)
    for (const [name, text] of Object.entries(scripts)) Fs.writeFileSync(join(root, name), text)
    const protectedFiles = join(php.folder, "protected")
    Fs.mkdirSync(join(php.folder, "sessions"))
    Fs.mkdirSync(protectedFiles)
    Fs.writeFileSync(join(protectedFiles, "secret.txt"), "0123456789")
    Fs.writeFileSync(join(protectedFiles, "\u00fc 1%.txt"), "umlaut")
    Fs.writeFileSync(join(protectedFiles, "attached.php"), Tree.script("attached"))
    Fs.symlinkSync("../outside/secret.txt", join(protectedFiles, "out.txt"))
    const port = yield* serveSite({
      connect: php.connect,
      root,
      deny: ["/data"],
      internal: { "/protected": protectedFiles, "/own": join(root, "data") },
      static: { mimeTypes: { css: "text/x-css" }, cacheControl: "max-age=60" },
      headTimeout: "1 second"
    })
    return { ...php, root, port }
  })

  it.layer(Layer.effect(Php, started).pipe(Layer.provideMerge(Logger.layer([logged]))), { excludeTestServices: true })(
    (it) => {
      const get = (target: string, options?: Parameters<typeof raw>[2]) =>
        Effect.flatMap(Php, ({ port }) => raw(port, target, options))

      it.effect("shows files with types, ranges and conditions", () =>
        Effect.gen(function*() {
          const page = yield* get("/page.html")
          assert.strictEqual(page.headers["content-type"], "text/html; charset=utf-8")
          assert.strictEqual(page.headers["cache-control"], "max-age=60")
          assert.strictEqual((yield* get("/static/app.css")).headers["content-type"], "text/x-css")
          const part = yield* get("/page.html", { head: "Range: bytes=4-7\r\n" })
          assert.deepStrictEqual([part.status, part.body, part.headers["content-range"]], [206, "page", "bytes 4-7/13"])
          assert.strictEqual((yield* get("/page.html", { head: "Range: bytes=99-\r\n" })).status, 416)
          const known = yield* get("/page.html", { head: `If-None-Match: ${page.headers["etag"]}\r\n` })
          assert.deepStrictEqual([known.status, known.body], [304, ""])
          const since = yield* get("/page.html", { head: `If-Modified-Since: ${page.headers["last-modified"]}\r\n` })
          assert.strictEqual(since.status, 304)
          const head = yield* get("/page.html", { method: "HEAD" })
          assert.deepStrictEqual([head.status, head.body, head.headers["content-length"]], [200, "", "13"])
        }))

      it.effect("takes other methods than GET and HEAD for scripts only", () =>
        Effect.gen(function*() {
          for (const method of ["POST", "PUT", "DELETE", "OPTIONS", "PROPFIND"]) {
            const shown = yield* get("/page.html", { method, head: "Content-Length: 0\r\n" })
            assert.deepStrictEqual([shown.status, shown.headers["allow"]], [405, "GET, HEAD"], method)
            assert.strictEqual((yield* get("/x.php", { method, head: "Content-Length: 0\r\n" })).status, 200, method)
          }
          assert.strictEqual((yield* get("/x.php", { method: "TRACE" })).status, 405)
        }))

      it.effect("lets a form go to the directory with the slash as it is", () =>
        Effect.gen(function*() {
          const { headers, status } = yield* get("/dir?a=1", { method: "POST", head: "Content-Length: 0\r\n" })
          assert.deepStrictEqual([status, headers["location"]], [308, "/dir/?a=1"])
        }))

      it.effect("sends the file of an internal location with the script's headers, by URL and by path", () =>
        Effect.gen(function*() {
          const { folder } = yield* Php
          const sent = yield* get("/accel.php?to=/protected/secret.txt&type=application/x-secret")
          assert.deepStrictEqual([sent.status, sent.body], [200, "0123456789"])
          assert.strictEqual(sent.headers["content-type"], "application/x-secret")
          assert.strictEqual(sent.headers["x-own"], "kept")
          assert.match(sent.headers["set-cookie"]!, /^first=1/)
          assert.notStrictEqual(sent.headers["etag"], "\"script\"")
          assert.notProperty(sent.headers, "x-accel-redirect")
          const part = yield* get("/accel.php?to=/protected/secret.txt", { head: "Range: bytes=2-4\r\n" })
          assert.deepStrictEqual([part.status, part.body], [206, "234"])
          const posted = yield* get("/accel.php?to=/protected/secret.txt", {
            method: "POST",
            head: "Content-Length: 0\r\n"
          })
          assert.deepStrictEqual([posted.status, posted.body], [200, "0123456789"])
          for (const name of ["%C3%BC%201%25.txt", "%25C3%25BC%25201%2525.txt"]) {
            const named = yield* get(`/accel.php?to=/protected/${name}`)
            assert.strictEqual(named.body, name.startsWith("%25") ? "umlaut" : named.body, name)
          }
          const byPath = yield* get(`/sendfile.php?to=${folder}/protected/secret.txt`)
          assert.deepStrictEqual([byPath.body, byPath.headers["content-type"]], ["0123456789", "application/pdf"])
          assert.notProperty(byPath.headers, "x-sendfile")
          // An attachment is what the script says that it is.
          assert.include(
            (yield* get("/accel.php?to=/protected/attached.php&type=application/octet-stream")).body,
            "SOURCE"
          )
        }))

      it.effect("sends no source of a site from a folder around it", () =>
        Effect.gen(function*() {
          const { connect, folder, root } = yield* Php
          const port = yield* serveSite({ connect, root, internal: { "/around": folder } })
          const sent = (to: string) => raw(port, `/accel.php?to=/around/${encodeURI(to)}`)
          assert.strictEqual((yield* sent("protected/secret.txt")).body, "0123456789")
          const source = yield* sent(`${root.slice(folder.length + 1)}/accel.php`)
          assert.strictEqual(source.status, 404)
          assert.notInclude(source.body, "<?php")
        }))

      it.effect("sends nothing else in place of a script, and says so in the log", () =>
        Effect.gen(function*() {
          const { folder, root } = yield* Php
          for (
            const target of [
              "/protected/missing.txt",
              "/protected/../x",
              "/protected/../outside/secret.txt",
              "/protected/%2e%2e/outside/secret.txt",
              "/protected/out.txt",
              "/protected",
              "/protected/",
              "/own/evil.php",
              "/.htaccess",
              "/data/config.ini",
              "/y.phtml",
              "/static",
              "@named",
              "http://other.test/x"
            ].map((to) => `/accel.php?to=${encodeURIComponent(to)}`).concat(
              [
                "/etc/passwd",
                `${folder}/protected/../outside/secret.txt`,
                `${folder}/protectedx`,
                `${root}/page.html`,
                "page.html",
                ""
              ].map((to) => `/sendfile.php?to=${encodeURIComponent(to)}`)
            )
          ) {
            const answer = yield* get(target)
            assert.ok(answer.status === 404 || answer.status === 400, `${target}: ${answer.status}`)
            assert.notMatch(answer.body, /SOURCE|secret|hidden|root:/, target)
          }
          assert.strictEqual((yield* get("/protected/secret.txt")).status, 404)
          const line = lines.find(({ message }) => message.includes("/etc/passwd"))
          assert.match(
            line!.message,
            /^GET \/sendfile\.php\S+: 404: the script has asked for \/etc\/passwd, which is in none/
          )
        }))

      it.effect("follows a script to a file and to another script, as a GET without the body", () =>
        Effect.gen(function*() {
          assert.strictEqual((yield* get("/accel.php?to=/page.html")).body, "<h1>page</h1>")
          const followed = yield* get("/loop.php?n=2", { method: "POST", head: "Content-Length: 3\r\n", body: "abc" })
          assert.deepStrictEqual(JSON.parse(followed.body), {
            method: "GET",
            uri: "/loop.php?n=2",
            query: "n=0",
            length: null,
            body: ""
          })
          assert.strictEqual((yield* get("/loop.php?n=10")).status, 200)
          assert.strictEqual((yield* get("/loop.php?n=11")).status, 404)
        }))

      it.effect("gives up a script that goes on behind the file it has sent", () =>
        Effect.gen(function*() {
          const { root } = yield* Php
          assert.strictEqual((yield* get("/endless.php")).body, "0123456789")
          yield* until("the end of the script", () => Fs.existsSync(join(root, "given-up")))
          assert.isFalse(Fs.existsSync(join(root, "to-the-end")))
        }))

      it.effect("shows visitors the status, and the log what PHP has said, where, and for which URL", () =>
        Effect.gen(function*() {
          const { root } = yield* Php
          const failed = yield* get("/uncaught.php?a=1")
          assert.deepStrictEqual([failed.status, failed.body], [500, ""])
          const line = lines.find(({ message }) => message.includes("the secret reason"))
          assert.strictEqual(line!.annotations["request"], "GET /uncaught.php?a=1")
          assert.strictEqual(line!.annotations["script"], join(root, "uncaught.php"))
          assert.strictEqual((yield* get("/late.php")).body, "begun")
          assert.ok(lines.some(({ message }) => message.includes("too late")))
          onlySays("Not Found", yield* get("/missing"))
          onlySays("Bad Request", yield* get("/%"))
          const slow = yield* get("/sleep.php")
          assert.strictEqual(slow.status, 504)
          onlySays("Gateway Timeout", slow)
          const killed = yield* get("/kill.php")
          assert.strictEqual(killed.status, 502)
          onlySays("Bad Gateway", killed)
          assert.ok(lines.some(({ message }) => message.startsWith("GET /kill.php: 502: the connection was lost")))
          const nobody = yield* serveSite({ connect: NodeFastCgiConnector.connect({ path: join(root, "none") }), root })
          onlySays("Bad Gateway", yield* raw(nobody, "/x.php"))
          assert.strictEqual((yield* raw(nobody, "/page.html")).status, 200)
        }))

      it.effect("follows links out of the root where it may, and a root that is switched", () =>
        Effect.gen(function*() {
          const { connect, folder, root } = yield* Php
          const current = join(folder, "current")
          Fs.symlinkSync("www", current)
          const port = yield* serveSite({ connect, root: current, followSymlinks: true })
          assert.strictEqual((yield* raw(port, "/out.txt")).body, "secret")
          const out = JSON.parse((yield* raw(port, "/out.php")).body)
          assert.deepStrictEqual([out.ran, out.file, out.root], ["secret.php", join(current, "out.php"), current])
          assert.strictEqual((yield* raw(port, "/outdir/secret.php")).status, 200)
          const strict = yield* serveSite({ connect, root: current })
          assert.strictEqual((yield* raw(strict, "/page.html")).status, 200)
          Fs.mkdirSync(join(folder, "next"))
          Fs.writeFileSync(join(folder, "next", "page.html"), "next")
          Fs.unlinkSync(current)
          Fs.symlinkSync("next", current)
          assert.strictEqual((yield* raw(strict, "/page.html")).body, "next")
          assert.strictEqual((yield* raw(strict, "/x.php")).status, 404)
          assert.isTrue(Fs.existsSync(root))
        }))

      it.effect("shows no files where it is to run scripts only, and has other names for things", () =>
        Effect.gen(function*() {
          const { connect, folder, root } = yield* Php
          const port = yield* serveSite({
            connect,
            root,
            static: false,
            index: ["x.php"],
            frontController: "index.php"
          })
          assert.strictEqual(JSON.parse((yield* raw(port, "/")).body).ran, "x.php")
          assert.strictEqual(JSON.parse((yield* raw(port, "/page.html")).body).ran, "index.php")
          const elsewhere = yield* serveSite({ connect, root: join(folder, "www/dir"), documentRoot: root })
          assert.deepInclude(JSON.parse((yield* raw(elsewhere, "/index.php")).body), {
            ran: "index.php",
            file: join(root, "index.php"),
            root
          })
          const html = yield* serveSite({ connect, root, extensions: [".html"], params: { A: "b" } })
          assert.strictEqual(
            (yield* raw(html, "/static/index.html")).status,
            403,
            "of php-fpm: security.limit_extensions"
          )
          assert.strictEqual((yield* raw(html, "/x.php")).status, 404)
        }))

      it.effect("fails where its root is not there", () =>
        Effect.gen(function*() {
          const { connect, folder } = yield* Php
          const error = yield* Effect.flip(
            Effect.provide(
              FastCgiGateway.php({ connect, root: join(folder, "nowhere") }),
              NodeHttpServer.layerHttpServices
            )
          )
          assert.strictEqual(error.reason._tag, "NotFound")
        }))

      it.effect("stands behind the routes of an app, and shares the session cookie with them", () =>
        Effect.gen(function*() {
          const { connect, root } = yield* Php
          const port = yield* serve(HttpRouter.serve(
            Layer.mergeAll(
              HttpRouter.add("GET", "/dir/new", HttpServerResponse.text("new")),
              FastCgiGateway.layerPhp({ connect, root, frontController: "/index.php" })
            ),
            { disableLogger: true, disableListenLog: true }
          ))
          assert.strictEqual((yield* raw(port, "/dir/new")).body, "new")
          assert.strictEqual(JSON.parse((yield* raw(port, "/dir/")).body).ran, "dir/index.php")
          assert.strictEqual(
            JSON.parse((yield* raw(port, "/dir/old")).body).uri,
            Buffer.from("/dir/old").toString("hex")
          )
          const first = yield* raw(port, "/session.php")
          const cookie = first.headers["set-cookie"]!.split(";")[0]
          assert.strictEqual((yield* raw(port, "/session.php", { head: `Cookie: ${cookie}\r\n` })).body, "2")
        }))

      it.effect("takes an upload of unknown length", () =>
        Effect.gen(function*() {
          const { connect, documentRoot } = yield* Php
          const port = yield* serveSite({ connect, root: documentRoot })
          const chunk = "x".repeat(1_000_000)
          const { body } = yield* raw(port, "/body.php", {
            method: "POST",
            head: "Transfer-Encoding: chunked\r\n",
            body: `${`${chunk.length.toString(16)}\r\n${chunk}\r\n`.repeat(3)}0\r\n\r\n`
          })
          assert.strictEqual(JSON.parse(body).size, 3_000_000)
        }))
    }
  )
})
